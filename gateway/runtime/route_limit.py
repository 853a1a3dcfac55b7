"""A route's own limit of requests under way, checked before all else so that shedding costs least.

A request counts from before the request hooks to the reply's last byte, a WebSocket to its 101.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.traffic import LimitConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.upstream.pool.limiter import Limiter

_NOTE = "route limit"


class RouteLimit:
    """The requests under way (`live`) on a route. Kept over reloads that do not change the
    limit."""

    def __init__(self, route: str, config: LimitConfig) -> None:
        self.route = route
        self.limiter = Limiter(config)
        self.live = 0

    def __repr__(self) -> str:
        return f"<RouteLimit {self.route}, {self.live} under way, {self.limiter!r}>"

    def hooks(self) -> Hooks:
        return Hooks(self.enter, self.answered, release=self.leave, name="limit")

    def enter(self, exchange: Exchange) -> None:
        """Count a request. Raises Failed(OVERLOADED), with Retry-After, when the limit is
        reached."""
        most = int(self.limiter.limit)
        if self.live >= most:
            why = f"route {self.route}: {most} requests are under way, which is its limit"
            raise Failed(Failure.OVERLOADED, headers=((b"Retry-After", b"1"),), why=why)
        if exchange.decisions is not None:
            return
        self.live += 1
        exchange.notes[_NOTE] = self

    def answered(self, exchange: Exchange, reply: Reply) -> None:
        if reply.status == 101:
            self.leave(exchange)

    def leave(self, exchange: Exchange) -> None:
        """Count a request down, at the limit it entered: a reload may have replaced that since."""
        entered: RouteLimit | None = exchange.notes.pop(_NOTE, None)
        if entered is None:
            return
        if exchange.attempts and exchange.failed is None:
            entered.limiter.observe(exchange.upstream_seconds, entered.live)
        entered.live -= 1


def own_limit(pipeline: str, route: RouteConfig, keep: Callable[..., Any]) -> tuple[Hooks, ...]:
    """The hooks of a route's `limit`; none without one. `keep` is a Draft's."""
    config = route.limit
    if config is None:
        return ()
    key = ("route_limit", pipeline, route.name, *route.methods, "|", *route.hosts)
    kept: RouteLimit = keep(key, config, lambda: RouteLimit(route.name, config))
    return (kept.hooks(),)
