"""The queue of requests that wait for an endpoint with room."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.core.wait import Wait


class Place(Wait[bool]):
    """A request's place in `queue`: True when a pick may succeed, False when `seconds` have passed.

    granted: its turn has come. It leaves the queue at that moment and goes on in the loop's next turn, since one turn may
    lead to another.
    """

    __slots__ = ("_queue", "_timer", "granted")

    def __init__(self, queue: deque[Place], seconds: float, first: bool) -> None:
        super().__init__()
        self.granted = False
        self._queue = queue
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)
        queue.appendleft(self) if first else queue.append(self)

    def grant(self) -> None:
        """Its turn has come; the caller has taken it out of the queue."""
        self.granted = True
        self._timer.cancel()
        asyncio.get_running_loop().call_soon(self.wake, True)

    def leave(self) -> None:
        """Leave the queue, if it is still there."""
        self._timer.cancel()
        if self in self._queue:
            self._queue.remove(self)

    def _expire(self) -> None:
        self.leave()
        self.wake(False)
