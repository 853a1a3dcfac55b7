from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.runtime.slices import SLICE, Steps, at_once, in_slices

WAYS = [
    pytest.param(lambda steps: asyncio.run(in_slices(steps)), id="in slices"),
    pytest.param(at_once, id="at once"),
]


def adding(count: int) -> Steps[int]:
    total = 0
    for number in range(count):
        total += yield (lambda number=number: number)
        yield None
    return total


@pytest.mark.parametrize("run", WAYS)
def test_what_runs_apart_is_sent_back(run: Callable[[Steps[int]], int]):
    assert run(adding(4)) == 6


@pytest.mark.parametrize("run", WAYS)
def test_errors_reach_the_caller(run: Callable[[Steps[Any]], Any]):
    def failing() -> Steps[None]:
        yield None
        raise KeyError("step")

    with pytest.raises(KeyError, match="step"):
        run(failing())


async def test_a_slice_is_as_much_as_its_time_allows():
    now, turns = 0.0, 0
    at: list[int] = []

    def steps() -> Steps[None]:
        nonlocal now
        for _ in range(12):
            at.append(turns)
            now += SLICE / 3
            yield None

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(others())
    await asyncio.sleep(0)
    await in_slices(steps(), clock=lambda: now)
    counting.cancel()
    assert [at.count(turn) for turn in sorted(set(at))] == [3, 3, 3, 3]


async def test_what_runs_apart_does_so_in_a_thread():
    def steps() -> Steps[int]:
        return (yield threading.get_ident)

    assert await in_slices(steps()) != threading.get_ident()


async def test_breaking_it_off_closes_the_steps():
    closed = asyncio.Event()

    def steps() -> Steps[None]:
        try:
            while True:
                yield None
        finally:
            closed.set()

    running = asyncio.create_task(in_slices(steps(), clock=iter(range(10**6)).__next__))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed.is_set()
