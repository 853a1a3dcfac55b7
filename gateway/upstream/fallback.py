"""Targets that do more than forward: a queue, a fallback upstream, reports to the pool.

`forwarding` chooses when a configuration is composed: other routes get a plain Forward.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from gateway.config.tables.endpoints import HashConfig
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.targets import SERVICE, Shares
from gateway.config.tables.traffic import QueueConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.content.grpc import counts_as
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.core.wait import own
from gateway.upstream.attempt import Attempt
from gateway.upstream.connections.interfaces import Stream
from gateway.upstream.connections.transport import Transport
from gateway.upstream.forward import Forward
from gateway.upstream.mirror import Mirrored
from gateway.upstream.pool.pool import Pool
from gateway.upstream.shares import ByService, ByShares, Target

REFUSALS = frozenset((Failure.NO_ENDPOINT, Failure.CIRCUIT_OPEN, Failure.OVERLOADED))
"""Failures of a pool that has sent nothing."""


class ObservedForward(Forward):
    """A Forward that reports every attempt's time and outcome to its pool, sends the time that is
    left to endpoints, and picks by a header or cookie."""

    def key(self, exchange: Exchange) -> str:
        return affinity(exchange, self.pool.config.hash)

    def send(self, exchange: Exchange, attempt: Attempt, stream: Stream) -> bool:
        self._tell(exchange, attempt.limit)
        return super().send(exchange, attempt, stream)

    def _tell(self, exchange: Exchange, limit: float) -> None:
        """Put the milliseconds that are left into `deadline_header`."""
        name = self.pool.config.deadline_header.encode()
        if not name or limit == float("inf"):
            return
        left = max(0, int((limit - self._transport.clock.monotonic()) * 1000))
        others = [pair for pair in exchange.forward_headers or () if pair[0] != name]
        exchange.forward_headers = [*others, (name, b"%d" % left)]

    def record(self, exchange: Exchange, attempt: Attempt) -> str | None:
        before, outcome = exchange.upstream_seconds, attempt.outcome
        reason = super().record(exchange, attempt)
        assert outcome is not None
        if isinstance(outcome, Reply):
            failed = outcome.status >= 500 or (bool(exchange.reason) and counts_as(exchange) > 0)
        else:
            failed = outcome.failure.blames
        if failed or isinstance(outcome, Reply):
            self.pool.observe(attempt.endpoint, failed, exchange.upstream_seconds - before)
        return reason


def affinity(exchange: Exchange, config: HashConfig) -> str:
    """The key for balancing by hash: a header, a cookie, or the client's address without them."""
    if config.header:
        return exchange.headers.get(config.header, "") or exchange.client_ip
    if config.cookie:
        for pair in exchange.headers.get("Cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == config.cookie and value:
                return value
    return exchange.client_ip


class WithQueue:
    """Queues requests that find every endpoint full: first come, first served, bounded in size and
    time."""

    def __init__(self, forward: Forward, config: QueueConfig) -> None:
        self.forward = forward
        self.config = config

    def __repr__(self) -> str:
        return f"<WithQueue for {self.forward!r}>"

    @own
    async def __call__(self, exchange: Exchange) -> Reply:
        pool, config = self.forward.pool, self.config
        if not pool.waiting:
            reply = await self._ask(exchange)
            if reply is not None:
                return reply
        if len(pool.waiting) >= config.size:
            raise self._full(f"{config.size} requests wait already")
        loop = asyncio.get_running_loop()
        until, first = loop.time() + config.timeout, False
        while await pool.wait(until - loop.time(), first):
            reply = await self._ask(exchange)
            if reply is not None:
                return reply
            first = True
        raise self._full(f"none was free within {config.timeout:g} s")

    async def _ask(self, exchange: Exchange) -> Reply | None:
        """The answer, or None when every endpoint is full."""
        try:
            return await self.forward(exchange)
        except Failed as failed:
            if failed.failure is not Failure.OVERLOADED or exchange.attempts:
                raise
            return None

    def _full(self, why: str) -> Failed:
        why = f"upstream {self.forward.pool.name}: every endpoint is full, and {why}"
        again = ((b"Retry-After", b"1"),)
        return Failed(Failure.OVERLOADED, headers=again, why=why, at=("queue",))


class WithFallback:
    """Asks an upstream, and the next one when nothing could be sent (no endpoint, circuit open,
    overloaded)."""

    def __init__(self, first: Target, then: Target) -> None:
        self.first = first
        self.then = then

    def __repr__(self) -> str:
        return f"<WithFallback {self.first!r}, then {self.then!r}>"

    @own
    async def __call__(self, exchange: Exchange) -> Reply:
        try:
            return await self.first(exchange)
        except Failed as failed:
            # After an attempt the request may have had an effect.
            if failed.failure not in REFUSALS or exchange.attempts:
                raise
        return await self.then(exchange)


def chain(name: str, configs: Mapping[str, UpstreamConfig]) -> list[str]:
    """Return an upstream and those that stand in for it, in order. They exist and form no loop."""
    names = [name]
    while configs[names[-1]].fallback:
        names.append(configs[names[-1]].fallback)
    return names


def forwarding(
    pools: Mapping[str, Pool],
    configs: Mapping[str, UpstreamConfig],
    transport: Transport,
    route: RouteConfig,
    telemetry: Telemetry,
    rewrite: Callable[[Exchange], str] | None = None,
    registered: Collection[str] = (),
) -> Target:
    """The target of a route to `route.upstream`, with what `configs` ask for. Fallbacks exist and
    form no loop.

    registered: the upstreams that {service} may be where the route does not say.
    """

    def to(route: RouteConfig) -> Target:
        return forwarding(pools, configs, transport, route, telemetry, rewrite, registered)

    if route.mirror is not None:
        copies = RouteConfig(
            route.name, upstream=route.mirror.upstream, timeout=route.mirror.timeout, retry="write"
        )
        first = to(replace(route, mirror=None))
        return Mirrored(first, to(copies), route.mirror, telemetry.mirror_dropped)
    if isinstance(route.upstream, Shares):
        parts = route.upstream.parts.items()
        targets = [(to(replace(route, upstream=name)), part) for name, part in parts]
        return ByShares(targets, sticky=route.sticky)
    if route.upstream == SERVICE:
        names = route.services or registered
        return ByService({name: to(replace(route, upstream=name)) for name in names})
    target: Target | None = None
    for name in reversed(chain(route.upstream, configs)):
        config = configs[name]
        observed = (
            config.outlier or config.limit or config.deadline_header or config.balance == "hash"
        )
        kind = ObservedForward if observed else Forward
        forward = kind(pools[name], transport, route, telemetry, rewrite, config=config)
        asked: Target = forward if config.queue is None else WithQueue(forward, config.queue)
        target = asked if target is None else WithFallback(asked, target)
    assert target is not None
    return target
