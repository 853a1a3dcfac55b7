"""Signals of the process, from its first moment to its last.

Handlers are installed before anything else is imported. Until the event loop can act on them,
signals are remembered, so that none is lost and none kills the process: neither while it starts or
ends, nor as PID 1, where the kernel drops a signal that has no handler.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

STOPPING = (signal.SIGTERM, signal.SIGINT)
HANDLED = (*STOPPING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
AT_ONCE = b"a second TERM or INT: stopping at once\n"


@contextmanager
def blocked(numbers: Iterable[int]) -> Iterator[None]:
    """Keep signals waiting: a program begins without handlers, and they would end it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


class Loop(Protocol):
    """What of an event loop is needed."""

    def call_soon_threadsafe(self, callback: Callable[[int], None], number: int, /) -> object: ...


class Signals:
    """Hands signals to `act`, in the loop's thread. The second TERM or INT ends the process with
    1."""

    def __init__(self, end: Callable[[int], object] = os._exit) -> None:
        self.waiting: list[int] = []
        """Signals that nothing could act on yet, each kind once."""
        self.before_end: Callable[[], object] = lambda: None
        """Called in front of an end at once."""
        self._end = end
        self._stops = 0
        self._loop: Loop | None = None
        self._act: Callable[[int], None] | None = None

    def install(self, numbers: Iterable[int] = HANDLED) -> None:
        for number in numbers:
            signal.signal(number, self.received)
        # A program that took another's place (USR2) begins with them blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def attach(self, loop: Loop, act: Callable[[int], None]) -> None:
        """Call `act` with every signal from now on, those that are waiting first."""
        self._loop, self._act = loop, act
        waiting, self.waiting = self.waiting, []
        for number in waiting:
            loop.call_soon_threadsafe(act, number)

    def detach(self) -> None:
        """Remember signals again: the loop is about to end."""
        self._loop = None

    def received(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal. Runs between any two steps of the main thread, so it only hands on."""
        if number in STOPPING:
            self._stops += 1
            if self._stops > 1:
                _say(AT_ONCE)
                self.before_end()
                self._end(1)
        if self._loop is not None and self._act is not None:
            self._loop.call_soon_threadsafe(self._act, number)
        elif number not in self.waiting:
            self.waiting.append(number)


def _say(line: bytes) -> None:
    """Write to standard error if that takes it now: a pipe that is full must not hold up the
    end."""
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if poll.poll(0):
            os.write(2, line)
    except OSError:
        pass


def hold_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0 to 2 that is closed.

    Otherwise a socket would get its number, and libuv ends the process when such a one is closed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
