from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf

import pytest

from gateway.core.telemetry import Telemetry, background_failures
from gateway.lifetime.supervised import Supervised, Work
from tests.timers import Timers


class Rounds:
    """Work that notes when it ran and does what `script` says, one item a round: raise it or return
    it."""

    def __init__(self, timers: Timers, *script: object) -> None:
        self.timers = timers
        self.script = list(script)
        self.at: list[float] = []

    def __call__(self) -> float | None:
        self.at.append(self.timers.now - 100)
        item = self.script.pop(0) if self.script else None
        if isinstance(item, BaseException):
            raise item
        if callable(item):
            item = item()
        return item  # type: ignore[return-value]


def started(
    timers: Timers, work: Work, *, every: float = 10.0, after: float = 0.0, **options: object
) -> Supervised:
    task = Supervised("sweep", work, every=every, timers=timers, **options)  # type: ignore[arg-type]
    task.start(after)
    return task


def test_rounds_come_every_so_often():
    timers = Timers()
    rounds = Rounds(timers)
    started(timers, rounds, after=3)
    timers.advance(34)
    assert rounds.at == [3, 13, 23, 33]


def test_a_round_says_when_the_next_one_comes():
    timers = Timers()
    rounds = Rounds(timers, 1.0, 5.0, None, inf)
    task = started(timers, rounds)
    timers.advance(100)
    assert rounds.at == [0, 1, 6, 16]
    assert repr(task) == "<Supervised sweep, asleep, 0 failures>"
    task.wake(2)
    timers.advance(13)
    assert rounds.at == [0, 1, 6, 16, 102, 112]


def test_waking_brings_the_next_round_forward_and_never_puts_it_off():
    timers = Timers()
    rounds = Rounds(timers)
    task = started(timers, rounds, after=10)
    task.wake(20)
    task.wake(4)
    task.wake(6)
    assert timers.waiting == [4]
    timers.advance(15)
    assert rounds.at == [4, 14]


def test_a_round_that_wakes_itself_comes_again():
    timers = Timers()
    rounds = Rounds(timers, lambda: task.wake(1))
    task = started(timers, rounds)
    timers.advance(5)
    assert rounds.at == [0, 1]


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 8.0), (0.5, 10.0), (1.0, 12.0)])
def test_jitter_is_a_fraction_of_the_pause(chance: float, pause: float):
    timers = Timers()
    started(timers, Rounds(timers), jitter=0.2, rng=lambda: chance)
    timers.advance(0)
    assert timers.waiting == [pytest.approx(pause)]


def test_an_error_is_logged_once_per_kind_and_counted_and_the_next_round_comes(
    caplog: pytest.LogCaptureFixture,
):
    timers = Timers()
    before = background_failures.get(("sweep",))

    def deep(level: int) -> None:
        deep(level + 1)

    rounds = Rounds(timers, ValueError("a"), ValueError("b"), lambda: deep(0), KeyError("c"))
    task = started(timers, rounds, of="limits.toml")
    with caplog.at_level(logging.ERROR):
        timers.advance(45)
    assert rounds.at == [0, 10, 20, 30, 40]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        ValueError,
        RecursionError,
        KeyError,
    ]
    assert "sweep of limits.toml failed" in caplog.text
    assert background_failures.get(("sweep",)) - before == task.failures == 4
    assert background_failures in Telemetry().families


def test_the_same_type_from_elsewhere_is_another_kind(caplog: pytest.LogCaptureFixture):
    timers = Timers()

    def here() -> float:
        raise ValueError

    def there() -> float:
        raise ValueError

    started(timers, Rounds(timers, here, there, here))
    with caplog.at_level(logging.ERROR):
        timers.advance(35)
    assert len(caplog.records) == 2


def test_closing_ends_it():
    timers = Timers()
    rounds = Rounds(timers)
    task = started(timers, rounds)
    timers.advance(5)
    task.close()
    task.close()
    task.wake()
    timers.advance(50)
    assert rounds.at == [0] and timers.waiting == []
    assert repr(task) == "<Supervised sweep, closed, 0 failures>"


def test_a_round_may_close_it():
    timers = Timers()
    rounds = Rounds(timers, lambda: task.close())
    task = started(timers, rounds)
    timers.advance(50)
    assert rounds.at == [0] and timers.waiting == []


def test_without_a_loop_nothing_runs():
    rounds = Rounds(Timers())
    task = Supervised("sweep", rounds, every=1)
    task.start()
    task.wake()
    task.close()
    assert rounds.at == []


class Gate:
    """An asynchronous round that begins, waits and then does what `then` does."""

    def __init__(self, then: Callable[[], float | None] = lambda: None) -> None:
        self.then = then
        self.began = 0
        self.cancelled = 0
        self.open = asyncio.Event()

    async def __call__(self) -> float | None:
        self.began += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.then()


async def turns() -> None:
    """Let tasks and their callbacks run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_rounds_that_wait_never_overlap_and_the_pause_begins_at_their_end():
    timers, gate = Timers(), Gate()
    task = started(timers, gate)
    timers.advance(100)
    await turns()
    assert gate.began == 1 and timers.waiting == []
    assert repr(task) == "<Supervised sweep, running, 0 failures>"
    gate.open.set()
    await turns()
    assert timers.waiting == [10]
    assert repr(task) == "<Supervised sweep, next in 10 s, 0 failures>"


async def test_waking_during_a_round_is_kept_for_its_end():
    timers, gate = Timers(), Gate()
    task = started(timers, gate)
    timers.advance(0)
    task.wake(3)
    task.wake(7)
    gate.open.set()
    await turns()
    assert timers.waiting == [3]
    timers.advance(3)
    await turns()
    assert gate.began == 2 and timers.waiting == [10], "once only"


async def test_errors_of_rounds_that_wait_are_survived_as_well(caplog: pytest.LogCaptureFixture):
    timers = Timers()

    def fail() -> float:
        raise OSError("disk")

    gate = Gate(fail)
    gate.open.set()
    task = started(timers, gate)
    for _ in range(3):
        timers.advance(10)
        await turns()
    assert gate.began == task.failures == 3
    assert len(caplog.records) == 1


async def test_what_a_round_awaits_may_be_cancelled_without_ending_it(
    caplog: pytest.LogCaptureFixture,
):
    timers = Timers()
    other = asyncio.get_running_loop().create_future()
    other.cancel()

    async def work() -> None:
        await other

    task = started(timers, work)
    timers.advance(0)
    await turns()
    assert task.failures == 1 and timers.waiting == [10]


async def test_closing_cancels_a_round_that_runs():
    timers, gate = Timers(), Gate()
    task = started(timers, gate)
    timers.advance(0)
    await turns()
    task.close()
    await turns()
    assert gate.cancelled == 1 and timers.waiting == []


def test_the_end_of_the_loop_ends_it_without_a_word(caplog: pytest.LogCaptureFixture):
    made: list[Supervised] = []

    async def main() -> None:
        gate = Gate()
        made.append(Supervised("sweep", gate, every=0.0))
        made[0].start()
        while not gate.began:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert caplog.records == [] and repr(made[0]) == "<Supervised sweep, closed, 0 failures>"


async def test_so_does_the_end_of_threads(caplog: pytest.LogCaptureFixture):
    timers, loop = Timers(), asyncio.get_running_loop()

    def ending(*arguments: object) -> None:
        raise RuntimeError("Executor shutdown has been called")

    async def work() -> None:
        loop.run_in_executor(None, int)

    loop.run_in_executor = ending  # type: ignore[assignment]
    task = started(timers, work)
    timers.advance(0)
    await turns()
    del loop.run_in_executor
    assert caplog.records == [] and (task.failures, timers.waiting) == (0, [])


async def test_by_the_loops_own_clock():
    done = asyncio.Event()
    task = Supervised("sweep", done.set, every=3600)
    task.start(0.001)
    await asyncio.wait_for(done.wait(), 10)
    task.close()
