"""Background work that comes round again and again: sweeps, watches, fetches, flushes.

`Supervised` owns the timer and, while an asynchronous round runs, its task. An exception in a round
never ends the work: it is logged once per kind, counted, and the next round comes. The work itself,
and how long it waits after a failure that it knows of, belong to the owner.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Protocol

from gateway.core.telemetry import background_failures

log = logging.getLogger("gateway.background")

Pause = float | None
"""Seconds until the next round: `None` for the usual pause, `math.inf` for none until `wake`."""

Work = Callable[[], Pause | Coroutine[Any, Any, Pause]]
"""One round. A plain function runs inside the timer's callback; `async def` runs as a task."""


_LOOP_ENDS = ("Executor shutdown has been called", "cannot schedule new futures after")
"""How errors begin that threads cannot be started any more."""


class Handle(Protocol):
    """What a timer returns, for example asyncio.TimerHandle."""

    def cancel(self) -> None: ...


class Timers(Protocol):
    """The clock that rounds go by; a running event loop is one."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle: ...


class Supervised:
    """Call `work` every `every` seconds, counted from the end of one round to the start of the
    next.

    task:   what kind of work it is, for logs and the label of gateway_background_failures_total.
            A constant, never a path or a name from outside.
    of:     what this one works on, for logs alone: a path, a URL, an upstream.
    jitter: random change of every pause, up or down, as a fraction of it (0 to 1).
    timers: a clock of one's own, in tests; otherwise the loop that runs when `start` is called.

    Rounds never overlap. After a round that raised, the pause is `every`.
    """

    __slots__ = (
        "_again", "_closed", "_due", "_every", "_handle", "_jitter", "_kinds", "_random",
        "_task", "_timers",
        "_work", "failures", "name", "of",
    )  # fmt: skip

    def __init__(
        self,
        task: str,
        work: Work,
        *,
        every: float,
        of: str = "",
        jitter: float = 0.0,
        timers: Timers | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.name = task
        self.of = of
        self.failures = 0
        self._work = work
        self._every = every
        self._jitter = jitter
        self._timers = timers
        self._random = rng
        self._handle: Handle | None = None
        self._due = inf
        self._task: asyncio.Task[Pause] | None = None
        self._again = inf  # the longest pause allowed after the round that is running
        self._closed = False
        self._kinds: set[tuple[type[BaseException], str, int]] = set()

    def __repr__(self) -> str:
        if self._closed:
            state = "closed"
        elif self._task is not None:
            state = "running"
        elif self._handle is not None and self._timers is not None:
            state = f"next in {self._due - self._timers.time():.3g} s"
        else:
            state = "asleep"
        return f"<Supervised {self._label}, {state}, {self.failures} failures>"

    def start(self, after: float = 0.0) -> None:
        """Begin, with a round in at most `after` seconds; once begun, the same as `wake`.

        Does nothing where no loop runs: `gateway check` builds everything and runs nothing.
        """
        if self._timers is None:
            try:
                self._timers = asyncio.get_running_loop()
            except RuntimeError:
                return
        self.wake(after)

    def wake(self, within: float = 0.0) -> None:
        """Run the next round in at most `within` seconds. During a round: after it, another one."""
        if self._closed or self._timers is None:
            return
        if self._task is not None:
            self._again = min(self._again, within)
            return
        due = self._timers.time() + within
        if due < self._due:
            self._schedule(due)

    def close(self) -> None:
        """End: no round begins any more, and one that runs is cancelled. Harmless twice."""
        self._closed = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._task is not None:
            self._task.cancel()

    @property
    def _label(self) -> str:
        return f"{self.name} of {self.of}" if self.of else self.name

    def _schedule(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._due = due
        if due < inf and self._timers is not None:
            self._handle = self._timers.call_at(due, self._round)

    def _round(self) -> None:
        self._handle, self._due, self._again = None, inf, inf
        try:
            result = self._work()
        except Exception as error:
            self._failed(error)
            self._next(None)
            return
        if isinstance(result, Coroutine):
            self._task = asyncio.get_running_loop().create_task(result, name=self._label)
            self._task.add_done_callback(self._ended)
        else:
            self._next(result)

    def _ended(self, task: asyncio.Task[Pause]) -> None:
        self._task = None
        if self._closed:
            return
        pause: Pause = None
        try:
            pause = task.result()
        except (Exception, asyncio.CancelledError) as error:
            if task.cancelling() or str(error).startswith(_LOOP_ENDS):
                self.close()  # Not by the owner: the loop ends, as asyncio.run ends it.
                return
            # A CancelledError is that of something that the round awaited, not of the round.
            self._failed(error)
        self._next(pause)

    def _next(self, pause: Pause) -> None:
        if self._closed or self._timers is None:
            return
        if pause is None:
            pause = self._every
        if self._jitter:
            pause *= 1 + self._jitter * (2 * self._random() - 1)
        due = self._timers.time() + min(pause, self._again)
        self._schedule(min(due, self._due))  # earlier, if the round itself asked for the next one

    def _failed(self, error: BaseException) -> None:
        """Count a failure; log the first of each kind, which is the error's type and its origin."""
        self.failures += 1
        background_failures.add((self.name,))
        origin = error.__traceback__
        while origin is not None and origin.tb_next is not None:
            origin = origin.tb_next
        kind = (
            type(error),
            origin.tb_frame.f_code.co_filename if origin else "",
            origin.tb_lineno if origin else 0,
        )
        if kind not in self._kinds:
            self._kinds.add(kind)
            log.error("%s failed; the next round comes as usual", self._label, exc_info=error)
