"""What a route does beyond sending, where its upstream's configuration asks for it: watch endpoints, turn to another upstream.

`forwarding` chooses when a configuration is composed: a route whose upstream asks for nothing of this gets a plain Forward.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from gateway.config.pipeline import RouteConfig
from gateway.config.upstream import UpstreamConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.forward import Forward
from gateway.upstream.pool import Pool
from gateway.upstream.transport import Transport

Target = Callable[[Exchange], Awaitable[Reply]]

REFUSALS = frozenset((Failure.NO_ENDPOINT, Failure.CIRCUIT_OPEN, Failure.OVERLOADED))
"""Failures by which a pool says that it sent nothing."""


class WatchfulForward(Forward):
    """A Forward that tells its pool how long every attempt took and how it ended, so that outliers are found."""

    def record(self, exchange: Exchange, endpoint: Endpoint, outcome: Reply | Failed, began: float) -> str | None:
        before = exchange.upstream_seconds
        reason = super().record(exchange, endpoint, outcome, began)
        failed = outcome.status >= 500 if isinstance(outcome, Reply) else outcome.failure.blames
        if failed or isinstance(outcome, Reply):
            self.pool.saw(endpoint, failed, exchange.upstream_seconds - before)
        return reason


class Diverting:
    """Asks an upstream, and when that could not even be tried (no endpoint, circuit open, overloaded) the next one."""

    def __init__(self, first: Forward, then: Target) -> None:
        self.first = first
        self.then = then

    def __repr__(self) -> str:
        return f"<Diverting {self.first!r}, then {self.then!r}>"

    async def __call__(self, exchange: Exchange) -> Reply:
        try:
            return await self.first(exchange)
        except Failed as failed:
            # After an attempt it is no longer known that the request had no effect.
            if failed.failure not in REFUSALS or exchange.attempts:
                raise
        return await self.then(exchange)


def forwarding(
    pools: Mapping[str, Pool],
    configs: Mapping[str, UpstreamConfig],
    transport: Transport,
    route: RouteConfig,
    telemetry: Telemetry,
    rewrite: Callable[[Exchange], str] | None = None,
) -> Target:
    """The target of a route to `route.upstream`, with what `configs` ask for. Fallbacks are known and lead nowhere twice."""
    chain = [route.upstream]
    while configs[chain[-1]].fallback:
        chain.append(configs[chain[-1]].fallback)
    target: Target | None = None
    for name in reversed(chain):
        config = configs[name]
        kind = Forward if config.outlier is None else WatchfulForward
        forward = kind(pools[name], transport, route, telemetry, rewrite, config=config)
        target = forward if target is None else Diverting(forward, target)
    assert target is not None
    return target
