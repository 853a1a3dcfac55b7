"""Awaitables for a request's way: outcomes that callbacks deliver, without a Task, a Future or a
turn of the loop.

A `Wait` yields itself once; `core/drive.py` resumes the coroutine from inside `wake`. Rules for
those who call `wake` and `fail`:

- They resume the coroutine at once. It may run to its end, and begin the next request: leave your
  own state consistent first, never call them inside a parser's callback, and use
  `loop.call_soon(wait.wake)` where one wake can lead to another.
- An outcome that comes before it is awaited is kept. Only the first counts.

asyncio's own awaitables need a current Task, which a driven coroutine has not: `foreign` gives one
to them alone. The other way round a Wait passes for a future under a real Task, so an operator's
hook can await what the gateway offers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import CodeType, CoroutineType
from typing import Any, Generic, TypeVar

from mypy_extensions import mypyc_attr

STOPPED = "a coroutine raised StopIteration"
"""What becomes of a StopIteration of others' code, which would end a compiled coroutine well."""

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Resume = Callable[[Any], object]


@mypyc_attr(allow_interpreted_subclasses=True)
class Wait(Generic[T]):
    """An outcome that comes once, maybe early. One coroutine awaits it, once.

    A subclass that must do something when the wait is given up, such as leaving a queue, overrides
    `cancel`.
    """

    __slots__ = ("_asyncio_future_blocking", "_error", "_resume", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._resume: Resume | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._asyncio_future_blocking: bool | None = (
            None  # None: asyncio.isfuture says no, so wait_for makes it a Task.
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'done' if self.done else 'waiting'}>"

    def __await__(self) -> Generator[Wait[T], None, T]:
        if not self.done:
            self._asyncio_future_blocking = True  # What a Task takes for a future.
            yield self
        if self._error is not None:
            error, self._error = (
                self._error,
                None,
            )  # Else it and its traceback would refer to each other.
            try:
                raise error
            finally:
                del error
        return self._value  # type: ignore[no-any-return]

    def wake(self, value: Any = None) -> None:
        """Deliver a value; resumes at once what waits for it."""
        if not self.done:
            self.done = True
            self._value = value
            resume, self._resume = self._resume, None
            if resume is not None:
                resume(self)

    def fail(self, error: BaseException) -> None:
        """Deliver an exception, raised where the wait is awaited."""
        if not self.done:
            self._error = error
            self.wake()

    def cancel(self, msg: Any = None) -> bool:
        """Give the wait up: the coroutine gets CancelledError. False when the outcome is there
        already."""
        if self.done:
            return False
        self.fail(asyncio.CancelledError())
        return True

    def cancelled(self) -> bool:
        """Return True if the outcome is a cancellation."""
        return isinstance(self._error, asyncio.CancelledError)

    # What a Task asks of a future that its coroutine yields.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def add_done_callback(self, callback: Resume, *, context: Context | None = None) -> None:
        loop = asyncio.get_running_loop()

        def resume(wait: Any) -> None:
            loop.call_soon(callback, wait, context=context)

        if self.done:
            resume(self)
        else:
            self._resume = resume
            if isinstance(self, Foreign):
                self.begin(context or Context())

    def result(self) -> None:
        """Nothing: `__await__` gives the outcome to the coroutine itself."""


class _Sleep(Wait[None]):
    __slots__ = ("_timer",)

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.wake)

    def cancel(self, msg: Any = None) -> bool:
        self._timer.cancel()
        return super().cancel(msg)


def sleep(seconds: float) -> Wait[None]:
    """A wait that is over after `seconds`."""
    return _Sleep(seconds)


class Foreign(Wait[T]):
    """One Task for an awaitable that needs one; begun once the wait is awaited, in the context of
    the request."""

    __slots__ = ("_awaitable", "_task")

    def __init__(self, awaitable: Awaitable[T]) -> None:
        super().__init__()
        self._awaitable = awaitable
        self._task: asyncio.Task[T] | None = None

    def begin(self, context: Context | None) -> None:
        """Called by the driver of the coroutine that awaits this."""
        awaitable = self._awaitable
        coroutine = awaitable if isinstance(awaitable, Coroutine) else _await(awaitable)
        self._task = asyncio.get_running_loop().create_task(coroutine, context=context)
        self._task.add_done_callback(self._ended)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the Task; the wait is over when the Task is, so that its cleanup comes first."""
        if self._task is not None:
            return self._task.cancel(msg)
        if isinstance(self._awaitable, Coroutine):
            self._awaitable.close()
        return super().cancel(msg)

    def _ended(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.fail(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.fail(error)
        else:
            self.wake(task.result())


def foreign(awaitable: Awaitable[T]) -> Wait[T]:
    """The outcome of an awaitable that needs a current Task (asyncio.timeout, create_connection, an
    operator's hook)."""
    return Foreign(awaitable)


def own(function: F) -> F:
    """Mark an `async def` of the gateway's that needs no current Task: it awaits Waits, futures (a
    shielded Task is one) and its like."""
    code = function.__code__
    _OWN.add(code)
    return function


_OWN: set[CodeType] = set()


def in_task(function: Callable[..., Awaitable[T]]) -> Callable[..., Wait[T]]:
    """`function` for driven coroutines: what it returns gets a Task of its own."""
    return lambda *arguments: Foreign(function(*arguments))


def driven(awaitable: Awaitable[T]) -> Awaitable[T]:
    """Return `awaitable` itself if it needs no Task, else a Wait for a Task of its own."""
    if isinstance(awaitable, CoroutineType):
        needs_none = awaitable.cr_code in _OWN
    elif isinstance(awaitable, Coroutine):
        # One of a compiled module, which has no code. None of those needs a Task (setup.cfg).
        needs_none = type(awaitable).__module__.startswith("gateway.")
    else:
        needs_none = isinstance(awaitable, Wait)
    return awaitable if needs_none else Foreign(awaitable)


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable
