"""The gateway's own answers, as targets of routes: info, limits, me; health is health.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from gateway import __version__
from gateway.builtins.health import Health
from gateway.core.exchange import CHALLENGES, Exchange, Reply
from gateway.core.failures import Failed, Failure


def builtin(name: str, health: Health) -> Callable[[Exchange], Reply]:
    """The target called `name` (config.pipeline.BUILTINS)."""
    return {"health": health.answer, "info": info, "limits": limits, "me": me}[name]


def info(exchange: Exchange) -> Reply:
    """Which software answers."""
    return _json(200, {"name": "gateway", "version": __version__})


def limits(exchange: Exchange) -> Reply:
    """The caller's limits on this route's pipeline, without using any of them up."""
    return _json(
        200, {"limits": [entry for status in exchange.route.status for entry in status(exchange)]}
    )


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
        raise Failed(
            Failure.UNAUTHENTICATED,
            "This answer needs a caller that has authenticated.",
            headers=headers,
        )
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
