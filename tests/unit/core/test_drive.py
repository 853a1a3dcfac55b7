"""The traps of driving a coroutine by hand, one by one."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.core.drive import Drive
from gateway.core.wait import Wait
from tests.unit.core.test_wait import NAME, Ends, drive, take


def test_what_waits_for_nothing_ends_inside_start() -> None:
    async def way() -> int:
        return 1

    _, ends = drive(way())
    assert ends.calls == [(1, None)]


def test_it_is_resumed_inside_wake() -> None:
    wait: Wait[int] = Wait()

    async def way() -> int:
        return await wait + await wait

    _, ends = drive(way())
    assert ends.calls == []
    wait.wake(2)
    assert ends.calls == [(4, None)]


def test_an_answer_inside_send_does_not_resume_what_runs() -> None:
    """An endpoint that answers within `send`: the outcome is there before the coroutine waits for
    it."""
    answer: Wait[str] = Wait()

    async def way() -> str:
        answer.wake("at once")
        return await answer

    _, ends = drive(way())
    assert ends.calls == [("at once", None)]


def test_cancelled_where_it_waits_it_gets_the_error_once() -> None:
    wait: Wait[None] = Wait()
    seen = []

    async def way() -> None:
        try:
            await wait
        except asyncio.CancelledError:
            seen.append("first")
        cleanup: Wait[str] = Wait()
        cleanup.wake("cleaned")
        seen.append(await cleanup)

    driven, ends = drive(way())
    driven.cancel()
    assert seen == ["first", "cleaned"]
    assert ends.calls == [(None, None)]


def test_cleanup_after_a_cancellation_may_wait() -> None:
    cleanup: Wait[str] = Wait()

    async def way() -> str:
        try:
            await Wait()
        except asyncio.CancelledError:
            pass
        return await cleanup

    driven, ends = drive(way())
    driven.cancel()
    assert ends.calls == []
    cleanup.wake("done")
    assert ends.calls == [("done", None)]


def test_cancelled_while_it_runs_it_gets_the_error_at_the_next_wait() -> None:
    """A client that is lost inside `write`."""
    driven: Any = None

    async def way() -> None:
        driven.cancel()
        reached.append("still running")
        await Wait()
        reached.append("never")

    reached: list[str] = []
    ends = Ends()
    driven = Drive(way(), ends)
    driven.start()
    assert reached == ["still running"]
    assert isinstance(ends.calls[0][1], asyncio.CancelledError)


def test_cancelled_while_it_runs_and_never_waits_it_ends_as_it_would() -> None:
    driven: Any = None

    async def way() -> str:
        driven.cancel()
        return "done"

    ends = Ends()
    driven = Drive(way(), ends)
    driven.start()
    assert ends.calls == [("done", None)]


def test_cancelled_before_its_start_nothing_of_it_runs() -> None:
    async def way() -> None:
        raise AssertionError

    ends = Ends()
    driven = Drive(way(), ends)
    driven.cancel()
    driven.start()
    assert len(ends.calls) == 1
    assert isinstance(ends.calls[0][1], asyncio.CancelledError)


def test_cancelling_what_is_over_changes_nothing() -> None:
    async def way() -> None:
        pass

    driven, ends = drive(way())
    driven.cancel()
    assert ends.calls == [(None, None)]


def test_after_a_cancellation_the_outcome_resumes_nothing() -> None:
    wait: Wait[str] = Wait()
    driven, ends = drive(wait_for(wait))
    driven.cancel()
    wait.wake("too late")
    assert len(ends.calls) == 1


async def wait_for(wait: Wait[str]) -> str:
    return await wait


def test_a_wait_of_its_own_kind_is_cancelled_its_own_way() -> None:
    left = []

    class Queued(Wait[None]):
        def cancel(self, msg: Any = None) -> bool:
            left.append(self)
            return super().cancel(msg)

    queued = Queued()

    async def way() -> None:
        await queued

    driven, ends = drive(way())
    driven.cancel()
    assert left == [queued]
    assert isinstance(ends.calls[0][1], asyncio.CancelledError)


def test_frames_survive_a_cancellation_while_an_error_is_handled() -> None:
    """`throw` loses frames on 3.11 while a coroutine awaits inside `except`; here the error is
    raised inside `__await__`."""

    async def inner() -> None:
        await Wait()

    async def way() -> None:
        try:
            raise ValueError
        except ValueError:
            await inner()

    driven, ends = drive(way())
    driven.cancel()
    error = ends.calls[0][1]
    assert error is not None
    names, trace = [], error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-3:] == ["way", "inner", "__await__"]


def test_context_variables_end_with_the_request() -> None:
    async def way() -> None:
        NAME.set("one request's")
        await wait
        assert NAME.get() == "one request's"

    wait: Wait[None] = Wait()
    _, ends = drive(way())
    assert NAME.get() == ""
    wait.wake()
    assert ends.calls == [(None, None)]


def test_without_a_context_steps_run_in_that_of_what_resumes_them() -> None:
    seen = []

    async def way() -> None:
        seen.append(NAME.get())
        await wait
        seen.append(NAME.get())

    wait: Wait[None] = Wait()
    ends = Ends()
    drive = Drive(way(), ends)
    copy_context().run(lambda: (NAME.set("starts"), drive.start()))
    copy_context().run(lambda: (NAME.set("wakes"), wait.wake()))
    assert seen == ["starts", "wakes"] and ends.calls == [(None, None)]


def test_cancelled_without_a_context() -> None:
    wait: Wait[None] = Wait()
    ends = Ends()
    drive = Drive(take(wait), ends)
    drive.start()
    drive.cancel()
    assert isinstance(ends.calls[0][1], asyncio.CancelledError)


def test_renewed_it_drives_another_and_keeps_nothing_of_the_first() -> None:
    class Weak(Wait[int]):
        """One that can be referred to weakly."""

    first = Weak()
    ends, context = Ends(), copy_context()
    drive = Drive(take(first), ends, context)
    drive.start()
    first.wake(1)
    kept = weakref.ref(first), weakref.ref(context)
    del first, context
    assert [reference() for reference in kept] == [None, None]
    second: Wait[int] = Wait()
    drive.renew(take(second), ends)
    drive.start()
    drive.cancel()
    third: Wait[int] = Wait()
    drive.renew(take(third), ends)
    drive.start()
    third.wake(3)
    assert ends.calls[0] == (1, None) and ends.calls[2] == (3, None)
    assert isinstance(ends.calls[1][1], asyncio.CancelledError)


def test_the_gateway_sets_no_context_variables() -> None:
    """Why requests need no context of their own where no operator's hook runs."""
    package = Path(gateway.__file__).parent
    assert [file for file in package.rglob("*.py") if "ContextVar" in file.read_text()] == []


def test_the_end_may_begin_the_next_without_depth() -> None:
    """Requests that complete inside each other: a loop, not a nested call, takes the next."""
    left = 5000

    async def way() -> None:
        pass

    while left:
        _, ends = drive(way())
        assert ends.calls
        left -= 1


def test_an_error_comes_to_over() -> None:
    async def way() -> None:
        raise ValueError("no")

    _, ends = drive(way())
    assert str(ends.calls[0][1]) == "no"


def test_an_exit_goes_on_after_over() -> None:
    async def way() -> None:
        raise KeyboardInterrupt

    ends = Ends()
    with pytest.raises(KeyboardInterrupt):
        Drive(way(), ends).start()
    assert len(ends.calls) == 1


def test_an_error_leaves_no_cycle() -> None:
    class Odd(Exception):
        pass

    async def way() -> None:
        raise Odd

    gc.collect()
    gc.disable()
    try:
        Drive(way(), lambda value, error: None).start()
        assert not [one for one in gc.get_objects() if isinstance(one, Odd)]
    finally:
        gc.enable()


async def test_bare_futures_and_sleep_0_need_no_task() -> None:
    future = asyncio.get_running_loop().create_future()

    async def way() -> str:
        await asyncio.sleep(0)
        return str(await future)

    _, ends = drive(way())
    future.set_result("here")
    await ends.event.wait()
    assert ends.calls == [("here", None)]


async def test_cancelled_at_a_bare_future_and_at_sleep_0() -> None:
    async def at_future() -> None:
        await asyncio.get_running_loop().create_future()

    async def at_sleep() -> None:
        await asyncio.sleep(0)

    for way in (at_future, at_sleep):
        driven, ends = drive(way())
        driven.cancel()
        await ends.event.wait()
        assert isinstance(ends.calls[0][1], asyncio.CancelledError)
