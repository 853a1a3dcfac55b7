"""A Wait's outcome: early, once, cancelled; and its face towards real Tasks."""

from __future__ import annotations

import asyncio
import gc
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from gateway.core.drive import Drive
from gateway.core.wait import Wait, foreign, sleep

NAME: ContextVar[str] = ContextVar("NAME", default="")


class Ends:
    """What became of a Drive."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, BaseException | None]] = []
        self.event = asyncio.Event()

    def __call__(self, value: Any, error: BaseException | None) -> None:
        self.calls.append((value, error))
        self.event.set()


def drive(coroutine: Any) -> tuple[Drive, Ends]:
    ends = Ends()
    made = Drive(coroutine, ends, copy_context())
    made.start()
    return made, ends


async def take(wait: Any) -> Any:
    return await wait


def test_an_outcome_that_comes_early_is_kept() -> None:
    wait: Wait[str] = Wait()
    wait.wake("early")
    _, ends = drive(take(wait))
    assert ends.calls == [("early", None)]


def test_only_the_first_outcome_counts() -> None:
    wait: Wait[str] = Wait()
    _, ends = drive(take(wait))
    wait.wake("first")
    wait.wake("second")
    wait.fail(ValueError())
    assert wait.cancel() is False
    assert ends.calls == [("first", None)]


def test_a_failure_is_raised_where_the_wait_is_awaited() -> None:
    wait: Wait[str] = Wait()

    async def way() -> str:
        try:
            return await wait
        except ValueError:
            return "caught"

    _, ends = drive(way())
    wait.fail(ValueError())
    assert ends.calls == [("caught", None)]


def test_a_raised_error_leaves_no_cycle() -> None:
    class Odd(Exception):
        pass

    gc.collect()
    gc.disable()
    try:
        wait: Wait[str] = Wait()
        wait.fail(Odd())

        async def way(wait: Wait[str]) -> None:
            try:
                await wait
            except Odd:
                pass

        drive(way(wait))
        del wait
        assert not [one for one in gc.get_objects() if isinstance(one, Odd)]
    finally:
        gc.enable()


async def test_under_a_task_it_passes_for_a_future() -> None:
    wait: Wait[str] = Wait()
    task = asyncio.create_task(take(wait))
    await asyncio.sleep(0)
    wait.wake("late")
    assert not task.done()  # Not inside `wake`: a Task runs in a turn of its own.
    assert await task == "late"


async def test_a_task_that_waits_for_it_can_be_cancelled() -> None:
    wait: Wait[str] = Wait()
    task = asyncio.create_task(take(wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wait.done


async def test_a_failure_under_a_task() -> None:
    wait: Wait[str] = Wait()
    task = asyncio.create_task(take(wait))
    await asyncio.sleep(0)
    wait.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await task


async def test_wait_for_and_timeout_work_around_it() -> None:
    wait: Wait[str] = Wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait, 0.001)
    other: Wait[str] = Wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await other
    assert wait.done and other.done


async def test_sleep_ends_by_itself_and_by_cancellation() -> None:
    _, ends = drive(take(sleep(0.001)))
    await asyncio.wait_for(ends.event.wait(), 20)
    assert ends.calls == [(None, None)]
    cancelled, ended = drive(take(sleep(3600)))
    cancelled.cancel()
    assert isinstance(ended.calls[0][1], asyncio.CancelledError)


async def test_what_needs_a_task_gets_one() -> None:
    async def hook() -> str:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        assert asyncio.current_task() is not None
        return "done"

    _, ends = drive(take(foreign(hook())))
    await ends.event.wait()
    assert ends.calls == [("done", None)]


async def test_a_failure_of_what_has_a_task() -> None:
    async def hook() -> None:
        raise ValueError("no")

    _, ends = drive(take(foreign(hook())))
    await ends.event.wait()
    assert str(ends.calls[0][1]) == "no"


async def test_a_future_is_awaited_too() -> None:
    future = asyncio.get_running_loop().create_future()
    _, ends = drive(take(foreign(future)))
    future.set_result("here")
    await ends.event.wait()
    assert ends.calls == [("here", None)]


async def test_a_cancelled_hook_cleans_up_before_the_way_goes_on() -> None:
    order = []

    async def hook() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            order.append("hook")

    async def way() -> None:
        try:
            await foreign(hook())
        finally:
            order.append("way")

    driven, ends = drive(way())
    await asyncio.sleep(0)
    driven.cancel()
    await ends.event.wait()
    assert order == ["hook", "way"]
    assert isinstance(ends.calls[0][1], asyncio.CancelledError)


async def test_a_hook_that_swallows_its_cancellation_does_not_save_the_way() -> None:
    async def hook() -> str:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return "went on"
        return ""

    reached = []

    async def way() -> None:
        reached.append(await foreign(hook()))
        await Wait()

    driven, ends = drive(way())
    await asyncio.sleep(0)
    driven.cancel()
    await ends.event.wait()
    assert reached == ["went on"]
    assert isinstance(ends.calls[0][1], asyncio.CancelledError)


async def test_a_hook_that_has_not_begun_never_does() -> None:
    async def hook() -> None:
        raise AssertionError

    wait = foreign(hook())
    assert wait.cancel() is True
    _, ends = drive(take(wait))
    assert isinstance(ends.calls[0][1], asyncio.CancelledError)


async def test_hooks_of_one_request_share_its_context() -> None:
    async def sets() -> None:
        NAME.set("of this request")

    async def way() -> str:
        await foreign(sets())
        return NAME.get()

    _, ends = drive(way())
    await ends.event.wait()
    assert ends.calls == [("of this request", None)]
    assert NAME.get() == ""
