"""Active checks: one task for each endpoint of a pool, asking it every `interval` how it is.

How to ask is `check`, from the transport; what an answer means is the pool's to decide. Endpoints nothing is known about are
asked at once, the others after a random part of their interval, so that a reload does not ask all of them at the same moment.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.config.tables.health import HealthConfig
from gateway.core.clock import REAL, Clock
from gateway.core.failures import Failed
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.health import Status
from gateway.upstream.pool.pool import Pool

log = logging.getLogger("gateway.upstream")

Check = Callable[[Endpoint, HealthConfig], Awaitable[int]]
"""Asks an endpoint once and returns the status of its answer, 0 where it is not asked for one; raises Failed if that fails."""


class Prober:
    """Keeps the health of one pool's endpoints up to date. Needs a running loop; all methods are called from it."""

    __slots__ = ("_check", "_clock", "_config", "_pool", "_rng", "_sleep", "_tasks")

    def __init__(
        self,
        pool: Pool,
        check: Check,
        *,
        clock: Clock = REAL,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._pool = pool
        self._check = check
        self._clock = clock.monotonic
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - spreads checks over time
        self._config: HealthConfig | None = None
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Prober of {self._pool.name}, {len(self._tasks)} endpoints>"

    def start(self) -> None:
        """Begins to check; without `health` in the pool's configuration there is nothing to do."""
        self.sync()

    def sync(self) -> None:
        """Follows the pool after `reconfigure`. Who stays with unchanged checks is not disturbed, not even in its rhythm."""
        config = self._pool.config.health
        if config != self._config:
            self.stop()
            self._config = config
        wanted = self._pool.endpoints if config is not None else ()
        for endpoint in set(self._tasks).difference(wanted):
            self._tasks.pop(endpoint).cancel()
        for endpoint in wanted:
            if endpoint not in self._tasks and config is not None:
                self._tasks[endpoint] = asyncio.create_task(
                    self._watch(endpoint, config), name=f"check {endpoint.upstream}/{endpoint.name}"
                )

    def stop(self) -> None:
        """Ends all checks, at the latest in the loop's next turn."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _watch(self, endpoint: Endpoint, config: HealthConfig) -> None:
        if endpoint.health.active.status is not Status.UNKNOWN:
            await self._sleep(config.interval * self._rng.random())
        while True:
            try:
                await self._probe(endpoint, config)
            except Exception:
                # A bug of ours says nothing about the endpoint: its health stays as it was.
                log.exception("upstream %s: checking %s went wrong", endpoint.upstream, endpoint.name)
            healthy = endpoint.health.active.status is Status.HEALTHY and not endpoint.health.active.against
            interval = config.interval if healthy else config.unhealthy_interval or config.interval
            await self._sleep(interval * (1 + config.jitter * (2 * self._rng.random() - 1)))

    async def _probe(self, endpoint: Endpoint, config: HealthConfig) -> None:
        began = self._clock()
        why = ""
        try:
            async with asyncio.timeout(config.timeout):
                status = await self._check(endpoint, config)
            if config.type == "http" and status not in config.status:
                why = f"{config.path} answered {status}"
        except TimeoutError:
            what = f"{config.path} gave no answer" if config.type == "http" else f"no {config.type.upper()} connection"
            why = f"{what} within {config.timeout:g} s"
        except Failed as failed:
            why = str(failed)
        self._pool.probed(endpoint, not why, why, self._clock() - began)
