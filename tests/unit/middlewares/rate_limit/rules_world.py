"""Limiters of several rules, and requests that they are asked about."""

from __future__ import annotations

from typing import Any

from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed
from gateway.middlewares import rate_limit
from gateway.middlewares.rate_limit.limiter import RuleLimiter
from tests.exchange import World, exchange


def limiter(table: dict[str, Any], world: World | None = None, **more: Any) -> RuleLimiter:
    hook = (world or World(now=100.0)).build(rate_limit, table, **more).request
    assert isinstance(hook, RuleLimiter)
    return hook


def asked(identity: Identity | None = None, *, ip: str = "192.0.2.1", **facts: Any) -> Exchange:
    return exchange(peer=ip, identity=identity, **facts)


def admitted(hook: RuleLimiter, *exchanges: Exchange) -> int:
    count = 0
    for request in exchanges:
        try:
            hook(request)
            count += 1
        except Failed:
            pass
    return count


RULE = {"name": "a", "key": "ip", "limit": 5, "window": "1h"}
