"""A route's own limit of requests under way: the first thing that is asked of a request, so that shedding one costs least.

It counts from before the route's request hooks to the reply's last byte; a WebSocket to its 101, as an upstream's limit does.
"""

from __future__ import annotations

from gateway.config.tables.traffic import LimitConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.upstream.pool.limiter import Limiter

_NOTE = "route limit"


class RouteLimit:
    """Lives as long as a route of that name keeps that limit, over reloads. `live` requests are under way."""

    def __init__(self, route: str, config: LimitConfig) -> None:
        self.route = route
        self.limiter = Limiter(config)
        self.live = 0

    def __repr__(self) -> str:
        return f"<RouteLimit {self.route}, {self.live} under way, {self.limiter!r}>"

    def hooks(self) -> Hooks:
        return Hooks(request=self.enter, response=self.answered, release=self.leave)

    def enter(self, exchange: Exchange) -> None:
        """Raises Failed(OVERLOADED), with Retry-After, when as many as there may be are under way."""
        most = int(self.limiter.limit)
        if self.live >= most:
            why = f"route {self.route}: {most} requests are under way, the most it gets"
            raise Failed(Failure.OVERLOADED, headers=((b"Retry-After", b"1"),), why=why)
        self.live += 1
        exchange.notes[_NOTE] = self

    def answered(self, exchange: Exchange, reply: Reply) -> None:
        if reply.status == 101:
            self.leave(exchange)

    def leave(self, exchange: Exchange) -> None:
        """Whichever limit the request entered: a reload may have put another in its place since."""
        entered: RouteLimit | None = exchange.notes.pop(_NOTE, None)
        if entered is None:
            return
        if exchange.attempts and exchange.failed is None:
            entered.limiter.observe(exchange.upstream_seconds, entered.live)
        entered.live -= 1
