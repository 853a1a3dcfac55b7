"""The gateway's own answers, as targets of routes: info and me. The longer ones have modules of
their own."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from gateway import __version__
from gateway.builtins.health import Health
from gateway.core.exchange import CHALLENGES, Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure


def builtin(name: str, health: Health) -> Callable[[Exchange], Reply]:
    """The target called `name` (config.pipeline.BUILTINS)."""
    return {"health": health.answer, "info": info, "me": me}[name]


def info(exchange: Exchange) -> Reply:
    """Which software answers."""
    return answered({"name": "gateway", "version": __version__})


def me(exchange: Exchange) -> Reply:
    """Return who the caller is to the gateway."""
    identity = identified(exchange)
    return answered(
        {
            "client": identity.client,
            "method": identity.method,
            "tier": identity.tier or None,
            "roles": sorted(identity.roles),
            "permissions": sorted(identity.permissions),
        }
    )


def identified(exchange: Exchange) -> Identity:
    """Return who the caller is. Raises Failed(UNAUTHENTICATED) when that is not known."""
    if exchange.identity is None:
        headers = exchange.notes.get(CHALLENGES, ((b"WWW-Authenticate", b"Bearer"),))
        raise Failed(
            Failure.UNAUTHENTICATED,
            "This answer needs a caller that has authenticated.",
            headers=headers,
        )
    return exchange.identity


def answered(value: object) -> Reply:
    """Return a value as JSON that no cache may keep."""
    headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
    return Reply(200, headers, orjson.dumps(value))
