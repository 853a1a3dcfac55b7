"""Run password work in threads: one a core at a time, addresses in turn, a bounded number waiting.

Verifying a password takes tens of milliseconds on purpose. An address with many attempts delays
only itself: each address has a queue, served in turn, and when all places are taken the longest
queue gives one up.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from math import ceil
from time import perf_counter
from typing import Any, TypeVar

from gateway.core.wait import Wait
from gateway.lifetime.process import Executor

T = TypeVar("T")

WAITING = 100
"""Passwords that may be under way or wait."""


class Busy(Exception):
    """Too many passwords wait. `seconds`: until there is likely to be room, at least 1."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Job(Wait[T]):
    __slots__ = ("_owner", "address", "work")

    def __init__(self, owner: PasswordQueue, address: str, work: Callable[[], T]) -> None:
        super().__init__()
        self._owner = owner
        self.address = address
        self.work = work

    def cancel(self, msg: Any = None) -> bool:
        """Leave the queue. Work that has begun runs to its end; its result is dropped."""
        self._owner._leave(self)
        return super().cancel(msg)


class PasswordQueue:
    """threads: 0 for one a core. waiting: how much work may be under way or wait."""

    def __init__(self, *, threads: int = 0, waiting: int = WAITING) -> None:
        self._threads = threads or os.cpu_count() or 1
        self._pool = Executor(self._threads, "password")
        self._most = waiting
        self._queues: OrderedDict[str, deque[_Job[Any]]] = OrderedDict()
        """By address, the one that is served next first."""
        self._waiting = self._running = 0
        self._seconds = 0.1
        """Moving average of the seconds one password takes."""

    def __repr__(self) -> str:
        return f"<PasswordQueue {self._running} under way, {self._waiting} waiting>"

    def __len__(self) -> int:
        return self._running + self._waiting

    def close(self) -> None:
        """Cancel queued work."""
        for queue in tuple(self._queues.values()):
            for job in tuple(queue):
                job.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, work: Callable[[], T], address: str = "") -> Wait[T]:
        """Return a wait for the result of `work`, called in a thread.

        Raises Busy, at once or while it waits.
        """
        if len(self) >= self._most and not self._displace(address):
            raise self._busy()
        job: _Job[T] = _Job(self, address, work)
        self._queues.setdefault(address, deque()).append(job)
        self._waiting += 1
        self._next()
        return job

    def _busy(self) -> Busy:
        return Busy(max(1, ceil(len(self) * self._seconds / self._threads)))

    def _displace(self, address: str) -> bool:
        """Take a place from the address that has the most, unless that is this one."""
        if not self._queues:
            return False
        longest = max(self._queues.values(), key=len)
        if len(longest) <= len(self._queues.get(address, ())) + 1:
            return False
        job = longest[-1]
        busy = self._busy()
        self._leave(job)
        asyncio.get_running_loop().call_soon(job.fail, busy)
        return True

    def _leave(self, job: _Job[Any]) -> None:
        queue = self._queues.get(job.address)
        if queue is not None and job in queue:
            queue.remove(job)
            self._waiting -= 1
            if not queue:
                del self._queues[job.address]

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        while self._running < self._threads and self._queues:
            address, queue = self._queues.popitem(last=False)
            job = queue.popleft()
            if queue:
                self._queues[address] = queue
            self._waiting -= 1
            self._running += 1
            begun = loop.run_in_executor(self._pool, _timed, job.work)
            begun.add_done_callback(lambda done, job=job: self._ended(job, done))  # type: ignore[misc]

    def _ended(self, job: _Job[Any], done: asyncio.Future[tuple[Any, float]]) -> None:
        self._running -= 1
        self._next()
        if done.cancelled():
            job.cancel()
        elif (error := done.exception()) is not None:
            job.fail(error)
        else:
            result, seconds = done.result()
            self._seconds += (seconds - self._seconds) / 8
            job.wake(result)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = perf_counter()
    return work(), perf_counter() - start
