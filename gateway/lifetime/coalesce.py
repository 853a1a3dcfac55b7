"""Do work once that many requests wait for, such as a question to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from gateway.core.wait import Wait

T = TypeVar("T")


class Full(Exception):
    """Too much different work is under way."""


class Coalesce(Generic[T]):
    """Work by key, at most `most` at a time, each in a Task of its own.

    A client that leaves does not end the work for the others.
    """

    __slots__ = ("_most", "_work")

    def __init__(self, most: int) -> None:
        self._most = most
        self._work: dict[Hashable, tuple[asyncio.Task[T], list[Wait[T]]]] = {}

    def __len__(self) -> int:
        return len(self._work)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._work

    def __iter__(self) -> Any:
        return iter(self._work)

    def join(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, T]]) -> Wait[T]:
        """Wait for the outcome of the work `key`; begin it unless it is under way.

        Raises Full.
        """
        wait: Wait[T] = Wait()
        there = self._work.get(key)
        if there is not None:
            there[1].append(wait)
            return wait
        if len(self._work) >= self._most:
            raise Full
        task = asyncio.get_running_loop().create_task(begin())
        self._work[key] = task, [wait]
        task.add_done_callback(lambda done: self._ended(key, done))
        return wait

    def close(self) -> None:
        """Cancel everything under way."""
        for task, _ in tuple(self._work.values()):
            task.cancel()

    def _ended(self, key: Hashable, task: asyncio.Task[T]) -> None:
        _, waits = self._work.pop(key)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        for wait in waits:
            if error is not None:
                wait.fail(error)
            else:
                wait.wake(task.result())
