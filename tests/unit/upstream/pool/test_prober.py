"""Active checks: when they run, what they make of an answer, and that nothing stops them but being
stopped."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import HealthConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.clock import Clock
from gateway.core.failures import Failed, Failure
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool
from gateway.upstream.pool.prober import Prober
from tests.timers import Timers

HEALTH = HealthConfig(
    interval=10.0, timeout=5.0, unhealthy_threshold=2, healthy_threshold=2, jitter=0.1
)


class Fixed(random.Random):
    """Always says the same."""

    value = 0.5

    def random(self) -> float:
        return self.value


class Listening(Pool):
    """Tells when a check has ended."""

    heard: asyncio.Event

    def probed(self, endpoint: Endpoint, ok: bool, why: str = "", seconds: float = 0.0) -> None:
        super().probed(endpoint, ok, why, seconds)
        self.heard.set()


class World:
    """A pool and its prober, whose time passes when it is told to and whose checks answer what they
    are told to."""

    def __init__(self, *names: str, health: HealthConfig | None = HEALTH) -> None:
        self.now = 100.0
        clock = Clock(monotonic=lambda: self.now)
        self.pool = Listening("u", self.config(*names, health=health), clock=clock)
        self.pool.heard = asyncio.Event()
        self.pool.reconfigure(self.pool.config)
        self.rng = Fixed()
        self.timers = Timers()
        self.prober = Prober(self.pool, self.check, clock=clock, timers=self.timers, rng=self.rng)
        self.checked: list[str] = []
        self.seen: list[HealthConfig] = []
        self.answer: int | BaseException = 200
        self.hangs = False

    @staticmethod
    def config(*names: str, health: HealthConfig | None = HEALTH) -> UpstreamConfig:
        return UpstreamConfig(
            endpoints=tuple(EndpointConfig(f"http://{name}:80") for name in names), health=health
        )

    async def check(self, endpoint: Endpoint, health: HealthConfig) -> int:
        self.checked.append(endpoint.host)
        self.seen.append(health)
        self.now += 0.25
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def start(self) -> None:
        """Starts, and lets what is due at once run."""
        self.prober.start()
        await self.settle()

    async def settle(self) -> None:
        """Lets what is due now run until it waits."""
        self.timers.advance(0.0)
        for _ in range(10):
            await asyncio.sleep(0)

    async def wake(self) -> list[float]:
        """Passes all pauses; returns how long they were to last."""
        pauses = self.timers.waiting
        if pauses:
            self.timers.advance(pauses[-1])
        await self.settle()
        return pauses

    def statuses(self) -> list[str]:
        return [str(endpoint.health.status) for endpoint in self.pool.endpoints]


@asynccontextmanager
async def running(*names: str, health: HealthConfig | None = HEALTH) -> AsyncIterator[World]:
    world = World(*names, health=health)
    await world.start()
    try:
        yield world
    finally:
        world.prober.stop()
        await world.settle()


async def test_unknown_endpoints_are_checked_at_once_and_then_every_interval() -> None:
    async with running("a", "b") as world:
        assert world.checked == ["a", "b"]
        assert world.statuses() == ["healthy", "healthy"]
        assert world.pool.endpoints[0].health.seconds == 0.25
        assert await world.wake() == [10.0, 10.0]
        assert world.checked == ["a", "b", "a", "b"]
        assert repr(world.prober) == "<Prober of u, 2 endpoints>"


@pytest.mark.parametrize(("drawn", "seconds"), [(0.0, 9.0), (0.5, 10.0), (1.0, 11.0)])
async def test_intervals_vary(drawn: float, seconds: float) -> None:
    world = World("a")
    world.rng.value = drawn
    await world.start()
    assert await world.wake() == [pytest.approx(seconds)]
    world.prober.stop()
    await world.settle()


async def test_known_endpoints_wait_a_part_of_their_interval_first() -> None:
    world = World("a", "b")
    world.pool.probed(world.pool.endpoints[0], True)
    world.rng.value = 0.25
    await world.start()
    assert world.checked == ["b"]
    assert await world.wake() == [2.5, pytest.approx(9.5)]
    assert world.checked == ["b", "a", "b"]
    world.prober.stop()
    await world.settle()


ANSWERS = [
    # description, answer, last error
    ("a status that is not in the list", 503, "/health answered 503"),
    (
        "no connection",
        Failed(Failure.CONNECT_FAILED, why="a:80: refused"),
        "connect_failed: a:80: refused",
    ),
    ("a timeout of the check's own", TimeoutError(), "/health gave no answer within 5 s"),
]


@pytest.mark.parametrize(
    ("answer", "error"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
async def test_failed_checks(answer: int | BaseException, error: str) -> None:
    async with running("a") as world:
        world.answer = answer
        await world.wake()
        assert world.statuses() == ["healthy"]
        await world.wake()
        assert world.statuses() == ["unhealthy"]
        assert world.pool.endpoints[0].health.error == error
        world.answer = 200
        await world.wake()
        await world.wake()
        assert world.statuses() == ["healthy"]


async def test_other_statuses_may_count_as_healthy() -> None:
    world = World("a", health=replace(HEALTH, status=(204, 503)))
    world.answer = 503
    await world.start()
    assert world.statuses() == ["healthy"]
    world.prober.stop()
    await world.settle()


async def test_a_check_that_hangs_is_ended() -> None:
    world = World("a", health=replace(HEALTH, timeout=0.01, unhealthy_threshold=1))
    world.hangs = True
    await world.start()
    async with asyncio.timeout(10):
        await world.pool.heard.wait()
    assert world.statuses() == ["unhealthy"]
    assert world.pool.endpoints[0].health.error == "/health gave no answer within 0.01 s"
    world.prober.stop()
    await world.settle()


async def test_a_bug_is_logged_and_says_nothing_about_the_endpoint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running("a") as world:
        world.answer = ZeroDivisionError("a bug")
        for _ in range(3):
            await world.wake()
        assert world.statuses() == ["healthy"]
        assert [
            record.getMessage() for record in caplog.records if record.levelno == logging.ERROR
        ] == ["health check of u/a:80 failed; the next round comes as usual"]
        assert all(record.exc_info for record in caplog.records if record.levelno == logging.ERROR)
        world.answer = 503
        await world.wake()
        await world.wake()
        assert world.statuses() == ["unhealthy"]


async def test_stopping_ends_all_tasks_even_within_a_check() -> None:
    async with running("a", "b") as world:
        world.hangs = True
        await world.wake()
        tasks = [
            task for task in asyncio.all_tasks() if task.get_name().startswith("health check of u/")
        ]
        assert sorted(task.get_name() for task in tasks) == [
            "health check of u/a:80",
            "health check of u/b:80",
        ]
        world.prober.stop()
        await world.settle()
        assert all(task.cancelled() for task in tasks)
        assert repr(world.prober) == "<Prober of u, 0 endpoints>"
        world.hangs = False
        await world.start()
        await world.wake()
        assert world.checked == ["a", "b"] * 3


async def test_a_reload_disturbs_only_what_changed() -> None:
    async with running("a", "b") as world:
        checks = dict(world.prober._checks)
        a, b = world.pool.endpoints
        world.pool.reconfigure(world.config("a", "c"))
        world.prober.sync()
        await world.settle()
        assert world.checked == ["a", "b", "c"]
        assert "closed" in repr(checks[b])
        assert world.prober._checks[a] is checks[a]
        await world.wake()
        assert world.checked[3:] == ["a", "c"]


async def test_other_checks_start_over() -> None:
    async with running("a") as world:
        world.pool.reconfigure(world.config("a", health=replace(HEALTH, path="/ready")))
        world.prober.sync()
        await world.settle()
        assert world.checked == ["a"]
        await world.wake()
        assert world.checked == ["a", "a"]
        assert [health.path for health in world.seen] == ["/health", "/ready"]


async def test_without_checks_there_is_nothing_to_do() -> None:
    async with running("a", health=None) as world:
        assert (world.checked, world.timers.waiting) == ([], [])
        world.pool.reconfigure(world.config("a", health=HEALTH))
        world.prober.sync()
        await world.settle()
        await world.wake()
        assert world.checked == ["a"]
        world.pool.reconfigure(world.config("a", health=None))
        world.prober.sync()
        await world.settle()
        assert await world.wake() == []


async def test_a_late_result_of_a_dropped_endpoint_changes_nothing() -> None:
    async with running("a", "b") as world:
        world.hangs = True
        await world.wake()
        gone = world.pool.endpoints[1]
        world.pool.reconfigure(world.config("a"))
        world.prober.sync()
        await world.settle()
        assert gone.health.status == "healthy"
        assert world.prober._checks.keys() == {world.pool.endpoints[0]}


async def test_what_is_short_in_this_process_says_nothing_about_the_endpoint() -> None:
    async with running("a") as world:
        world.answer = Failed(Failure.OVERLOADED, why="out of descriptors")
        for _ in range(3):
            await world.wake()
        assert world.statuses() == ["healthy"]
        assert world.checked == ["a"] * 4
