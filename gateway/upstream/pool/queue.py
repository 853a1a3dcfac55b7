"""The queue of requests that wait for an endpoint with room."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gateway.core.wait import Wait


class Place(Wait[bool]):
    """A request's place in `queue`: True when a pick may succeed, False when `seconds` have passed.

    granted: its turn has come. It leaves the queue at that moment and goes on in the loop's next
    turn, since one turn may lead to another.
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


class Queue:
    """Requests that wait: first come, first served. `changed` is called when one joins or
    leaves."""

    __slots__ = ("_changed", "_places")

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._places: deque[Place] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def wake(self, number: int) -> None:
        """Give the first `number` their turn."""
        places = self._places
        while places and number:
            places.popleft().grant()
            number -= 1

    async def wait(self, seconds: float, first: bool) -> bool:
        """Wait at the end, or as the `first`: True when it is one's turn, False when `seconds` have
        passed."""
        place = Place(self._places, seconds, first)
        self._changed()
        try:
            return await place
        except asyncio.CancelledError:
            if place.granted:
                self.wake(1)  # The turn must not be lost with its request.
            raise
        finally:
            place.leave()
            self._changed()
