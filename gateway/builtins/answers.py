"""The gateway's own answers, as targets of routes: health, info, limits, me.

They are public like any route's answers, so they name upstreams but never their addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson

from gateway import __version__
from gateway.core.exchange import CHALLENGES, Exchange, Reply
from gateway.core.failures import Failed, Failure


class Reporting(Protocol):
    """What `health` needs of a pool, and of the shared store."""

    def status(self) -> dict[str, Any]:
        """Its state for operators; `status` is "healthy", "degraded" or "unhealthy"."""


def builtin(name: str, pools: Mapping[str, Reporting], store: Reporting | None = None) -> Callable[[Exchange], Reply]:
    """The target called `name` (config.pipeline.BUILTINS)."""
    return {"health": lambda _: health(pools, store), "info": info, "limits": limits, "me": me}[name]


def health(pools: Mapping[str, Reporting], store: Reporting | None = None) -> Reply:
    """The gateway's condition.

    200 "healthy", or "degraded" while an endpoint or the store is out; 503 "unhealthy" while an
    upstream has no endpoint.
    """
    services = {name: pool.status()["status"] for name, pool in pools.items()}
    answer: dict[str, Any] = {"status": worst(services.values()), "services": services}
    if store is not None:
        answer["store"] = {"status": store.status()["status"]}
        answer["status"] = with_store(answer["status"], answer["store"])
    return _json(503 if answer["status"] == "unhealthy" else 200, answer)


def with_store(overall: str, store: Mapping[str, Any]) -> str:
    """Return the condition beside the shared store's; limits go on as `on_store_failure` says."""
    return "degraded" if overall == "healthy" and store["status"] != "healthy" else overall


def worst(conditions: Any) -> str:
    """The overall condition: unhealthy if any is, else degraded if any is, else healthy."""
    found = set(conditions)
    return next((word for word in ("unhealthy", "degraded") if word in found), "healthy")


def info(exchange: Exchange) -> Reply:
    """Which software answers."""
    return _json(200, {"name": "gateway", "version": __version__})


def limits(exchange: Exchange) -> Reply:
    """The caller's limits on this route's pipeline, without using any of them up."""
    return _json(200, {"limits": [entry for status in exchange.route.status for entry in status(exchange)]})


async def limits_awaited(exchange: Exchange) -> Reply:
    """Return the same where some limits are in a shared store."""
    found: list[dict[str, Any]] = []
    for status in exchange.route.status:
        entries = status(exchange)
        found += entries if isinstance(entries, list) else await entries
    return _json(200, {"limits": found})


def me(exchange: Exchange) -> Reply:
    """Return who the caller is to the gateway."""
    identity = exchange.identity
    if identity is None:
        headers = exchange.notes.get(CHALLENGES, ((b"WWW-Authenticate", b"Bearer"),))
        raise Failed(Failure.UNAUTHENTICATED, "This answer needs a caller that has authenticated.", headers=headers)
    answer = {
        "client": identity.client,
        "method": identity.method,
        "tier": identity.tier or None,
        "roles": sorted(identity.roles),
        "permissions": sorted(identity.permissions),
    }
    return _json(200, answer)


def _json(status: int, value: object) -> Reply:
    headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
    return Reply(status, headers, orjson.dumps(value))
