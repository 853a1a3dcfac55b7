"""Driving a coroutine by hand: from one `Wait` to the next, inside the callbacks that bring the
outcomes.

The coroutine of a request never is a Task. It runs when something arrives for it, and goes as far
as it can; where nothing has to be waited for, it ends inside the call of `start`. `core/wait.py`
has the contract of what it may await.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, Final

from gateway.core.wait import Foreign, Wait

Over = Callable[[Any, BaseException | None], None]


class Drive:
    """Resumes `coroutine`; calls `over(value, error)` once, when it has ended.

    `context` holds the context variables of all its steps, and of the Tasks that `foreign` makes
    for it. Without one, steps run in the context of what resumes them: for coroutines that run no
    code but the gateway's, which sets no context variables. Nothing that has to be released may be
    acquired before the first step: one that is cancelled before `start` never runs.
    """

    __slots__ = ("_cancelled", "_coroutine", "_over", "_step", "_waits", "context")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], over: Over, context: Context | None = None
    ) -> None:
        self.renew(coroutine, over, context)

    def __repr__(self) -> str:
        if self._coroutine is None:
            return "<Drive over>"
        if self._waits is _NOT_BEGUN:
            return "<Drive not begun>"
        return "<Drive runs>" if self._waits is None else f"<Drive waits for {self._waits!r}>"

    def renew(
        self, coroutine: Coroutine[Any, Any, Any], over: Over, context: Context | None = None
    ) -> None:
        """Take another coroutine, once the one before has ended: cheaper than a new Drive."""
        self._coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self._over: Over | None = over
        self._waits: Any = _NOT_BEGUN
        self._cancelled = False
        self.context = context
        self._step: Any = (
            coroutine.send if context is None else partial(context.run, coroutine.send)  # type: ignore[call-arg]
        )

    def start(self) -> None:
        """Run the first steps. An exception of `over` itself is the caller's."""
        self.resume(None)

    def cancel(self) -> None:
        """End it: CancelledError is raised, once, where it waits; where it runs, at the next place
        where it would wait."""
        coroutine = self._coroutine
        if coroutine is None:
            return
        if self._waits is _NOT_BEGUN:
            coroutine.close()
            self._end(None, asyncio.CancelledError())
            return
        self._cancelled = True
        if self._waits is not None:
            self._waits.cancel()

    def resume(self, waited: Any) -> None:
        """Go on; what was awaited has its outcome. None for the first steps."""
        coroutine = self._coroutine
        if coroutine is None:
            return
        self._waits = None  # It runs.
        step = self._step
        try:
            waits = self._step_cancelled(coroutine, waited) if self._cancelled else step(None)
            while isinstance(waits, Wait):
                if self._cancelled:
                    waits.cancel()
                    self._cancelled = not waits.cancelled()
                if not waits.done:
                    self._waits = waits
                    waits._resume = self.resume
                    if waits.__class__ is Foreign:
                        waits.begin(self.context)
                    return
                waits = step(None)
        except StopIteration as stop:
            self._coroutine = self._waits = self._step = self.context = None
            over, self._over = self._over, None
            over(stop.value, None)  # type: ignore[misc]
            return
        except BaseException as raised:
            self._end(None, raised)
            if isinstance(raised, (SystemExit, KeyboardInterrupt)):
                raise
            return
        self._await_future(waits)

    def _end(self, value: Any, error: BaseException | None) -> None:
        self._coroutine = self._waits = self._step = self.context = None
        over, self._over = self._over, None
        if over is not None:
            over(value, error)

    def _step_cancelled(self, coroutine: Coroutine[Any, Any, Any], waited: Any) -> Any:
        run = _run_here if self.context is None else self.context.run
        if waited is None:
            self._cancelled = False
            return run(coroutine.throw, asyncio.CancelledError())
        self._cancelled = not waited.cancelled()
        return run(coroutine.send, None)

    def _await_future(self, future: Any) -> None:
        """Await a bare future, or `asyncio.sleep(0)`: they need no Task."""
        self._waits = future
        if future is None:
            asyncio.get_running_loop().call_soon(self.resume, None)
            return
        future._asyncio_future_blocking = False
        future.add_done_callback(self.resume)
        if self._cancelled:
            future.cancel()


_NOT_BEGUN: Final = object()
"""What a coroutine waits for whose first step has not run."""


def _run_here(function: Callable[[Any], Any], argument: Any) -> Any:
    return function(argument)
