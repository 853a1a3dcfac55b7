"""Active checks: one supervised task for each endpoint of a pool, every `interval`.

`check`, from connections/checks.py, asks; the pool decides what the result means. Endpoints of
unknown health are checked at once, the others after a random part of their interval, so that a
reload does not check all of them at the same moment.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

from gateway.config.tables.health import HealthConfig
from gateway.core.clock import REAL, Clock
from gateway.core.failures import Failed
from gateway.lifetime.supervised import Supervised, Timers
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.health import Status
from gateway.upstream.pool.pool import Pool

Check = Callable[[Endpoint, HealthConfig], Awaitable[int]]
"""Asks an endpoint once and returns the status of its answer, 0 where it is not asked for one;
raises Failed if that fails."""


class Prober:
    """Keeps the health of one pool's endpoints up to date. Needs a running loop; all methods are
    called from it.

    report: takes each result, as `Pool.probed` does, which is the default.
    timers: a clock of one's own, in tests.
    """

    __slots__ = ("_check", "_checks", "_clock", "_config", "_pool", "_report", "_rng", "_timers")

    def __init__(
        self,
        pool: Pool,
        check: Check,
        report: Callable[..., None] | None = None,
        *,
        clock: Clock = REAL,
        timers: Timers | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._pool = pool
        self._check = check
        self._report = pool.probed if report is None else report
        self._clock = clock.monotonic
        self._timers = timers
        self._rng = rng or random.Random()  # noqa: S311 - spreads checks over time
        self._config: HealthConfig | None = None
        self._checks: dict[Endpoint, Supervised] = {}

    def __repr__(self) -> str:
        return f"<Prober of {self._pool.name}, {len(self._checks)} endpoints>"

    def start(self) -> None:
        """Begin to check; without `health` in the pool's configuration there is nothing to do."""
        self.sync()

    def sync(self) -> None:
        """Follow the pool after `reconfigure`. An endpoint with unchanged checks keeps its
        rhythm."""
        config = self._pool.config.health
        if config != self._config:
            self.stop()
            self._config = config
        wanted = self._pool.endpoints if config is not None else ()
        for endpoint in set(self._checks).difference(wanted):
            self._checks.pop(endpoint).close()
        for endpoint in wanted:
            if endpoint not in self._checks and config is not None:
                self._watch(endpoint, config)

    def stop(self) -> None:
        """End all checks, at the latest in the loop's next turn."""
        for check in self._checks.values():
            check.close()
        self._checks.clear()

    def _watch(self, endpoint: Endpoint, config: HealthConfig) -> None:
        self._checks[endpoint] = checks = Supervised(
            "health check",
            partial(self._round, endpoint, config),
            every=config.interval,
            of=f"{endpoint.upstream}/{endpoint.name}",
            jitter=config.jitter,
            timers=self._timers,
            rng=self._rng.random,
        )
        unknown = endpoint.health.active.status is Status.UNKNOWN
        checks.start(0.0 if unknown else config.interval * self._rng.random())

    async def _round(self, endpoint: Endpoint, config: HealthConfig) -> float | None:
        """One check; seconds until the next where they are not the usual ones."""
        await self._probe(endpoint, config)
        active = endpoint.health.active
        return (
            None
            if active.status is Status.HEALTHY and not active.against
            else config.unhealthy_interval
        )

    async def _probe(self, endpoint: Endpoint, config: HealthConfig) -> None:
        began = self._clock()
        why = ""
        try:
            async with asyncio.timeout(config.timeout):
                status = await self._check(endpoint, config)
            if config.type == "http" and status not in config.status:
                why = f"{config.path} answered {status}"
        except TimeoutError:
            what = {
                "http": f"{config.path} gave no answer",
                "grpc": "grpc.health.v1 gave no answer",
            }.get(config.type, f"no {config.type.upper()} connection")
            why = f"{what} within {config.timeout:g} s"
        except Failed as failed:
            if not failed.failure.blames:
                # This process had no descriptors left: that says nothing about the endpoint.
                return
            why = str(failed)
        self._report(endpoint, not why, why, self._clock() - began)
