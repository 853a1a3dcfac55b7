"""Limiters of one rule on clocks set by hand, and callers that ask them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed, Failure
from gateway.middlewares import rate_limit
from gateway.middlewares.rate_limit.memory import MemoryLimiter
from tests.exchange import World, exchange

UNIX = 1_700_000_000
STANDARD = {"tokens": 1000, "refill": 100, "burst": 200}


@dataclass
class Limits(World):
    now: float = 50.0
    epoch: float = UNIX

    def limiter(
        self,
        table: dict[str, Any],
        *,
        name: str = "rate_limit",
        route: str = "",
        pipeline: str = "partner",
    ) -> MemoryLimiter:
        hook = self.build(rate_limit, table, name=name, route=route, pipeline=pipeline).request
        assert isinstance(hook, MemoryLimiter)
        return hook


@pytest.fixture
def world() -> Limits:
    return Limits()


def asked(
    client: str = "",
    *,
    ip: str = "192.0.2.7",
    tier: str = "",
    route: str = "cameras",
    explained: bool = False,
) -> Exchange:
    identity = Identity(client, "api_key", tier) if client else None
    return exchange(
        target="/api/v1/cameras", peer=ip, route=route, identity=identity, explained=explained
    )


def lines(exchange: Exchange) -> dict[str, str]:
    """The limit headers that would go out with any reply; each must be there once."""
    text = b"".join(exchange.reply_blocks or ()).decode()
    assert text.endswith("\r\n") or not text
    pairs = [line.split(": ", 1) for line in text.splitlines()]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def refused(hook: Callable[[Exchange], Any], exchange: Exchange) -> Failed:
    with pytest.raises(Failed) as caught:
        hook(exchange)
    assert caught.value.failure is Failure.RATE_LIMITED
    return caught.value


def headers(failed: Failed) -> dict[str, str]:
    assert len(dict(failed.headers)) == len(failed.headers)
    return {name.decode(): value.decode() for name, value in failed.headers}
