"""Requests to an origin that others wait for: one where many clients want the same.

The first request for a key leads; its answer serves those that came meanwhile. Each of them waits
for itself: it may leave, and its time is its own. Where they have waited for what turns out not to
be for all, or not to be stored, that is remembered for a while, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final

from gateway.core.wait import Wait

ALONE_SECONDS = 30.0
"""For how long requests go alone after an answer that others could not have."""
MAX_ALONE = 4096
"""Keys remembered as such; of more, the oldest goes."""
MAX_WAIT = 30.0
"""Seconds that a request waits; then it goes alone."""
WOKEN_AT_ONCE = 32
"""Requests that go on in one turn of the event loop: each may be answered in it."""


class Outcome(enum.Enum):
    """What those that waited are to do."""

    SHARED = enum.auto()
    """Look again: the answer is stored."""
    ALONE = enum.auto()
    """Ask the origin, each for itself."""
    AGAIN = enum.auto()
    """Look again, and wait again: the request that led came to nothing through no fault of the
    origin's."""


_NOBODY: Final[dict[Waiter, None]] = {}
"""Of all flights for which nobody waits; never written to."""


class Waiter(Wait[Outcome]):
    """One request that waits for a flight."""

    __slots__ = ("_flight", "_timer")

    def __init__(self, flight: Flight, seconds: float) -> None:
        super().__init__()
        self._flight = flight
        if flight.waiters is _NOBODY:
            flight.waiters = {}
        flight.waiters[self] = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self.land, Outcome.ALONE)

    def land(self, outcome: Outcome) -> None:
        self._forget()
        self.wake(outcome)

    def cancel(self, msg: object = None) -> bool:
        """Leave; the others go on waiting."""
        self._forget()
        return super().cancel(msg)

    def _forget(self) -> None:
        self._timer.cancel()
        self._flight.waiters.pop(self, None)


class Flight:
    """A request to the origin. `waiters`: those that want its answer, in order."""

    __slots__ = ("_hurry", "key", "waiters")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiters = _NOBODY
        self._hurry: Callable[[], object] | None = None

    def __repr__(self) -> str:
        return f"<Flight {self.key!r}, {len(self.waiters)} wait>"

    def wanted(self) -> bool:
        """Return True if others wait for the answer."""
        return bool(self.waiters)

    def join(self, seconds: float = MAX_WAIT) -> Waiter:
        """Wait for the answer, for so many seconds."""
        waiter = Waiter(self, seconds)
        if self._hurry is not None:
            self._hurry()
        return waiter

    def arriving(self, hurry: Callable[[], object]) -> None:
        """The answer's body begins to arrive; `hurry` is called once others wait for it."""
        self._hurry = hurry
        if self.waiters:
            hurry()


class Flights:
    """The requests of one cache.

    under_way: those that others may wait for, by key. going_alone: until which monotonic second
    nobody waits, by the hash of a key: clients write long ones, and two that share a hash only go
    alone together.
    """

    def __init__(self) -> None:
        self.under_way: dict[Hashable, Flight] = {}
        self.going_alone: OrderedDict[int, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Flights {len(self.under_way)}>"

    def land(self, flight: Flight, outcome: Outcome) -> None:
        """Let those that wait go on."""
        del self.under_way[flight.key]
        waiters, flight.waiters = flight.waiters, _NOBODY
        if waiters:
            asyncio.get_running_loop().call_soon(self._wake, deque(waiters), outcome)

    def alone(self, key: Hashable, now: float) -> None:
        """Remember that an answer was not for all."""
        known, place = self.going_alone, hash(key)
        known[place] = now + ALONE_SECONDS
        known.move_to_end(place)
        if len(known) > MAX_ALONE:
            known.popitem(last=False)

    def goes_alone(self, key: Hashable, now: float) -> bool:
        """Return True if an answer was not for all lately."""
        return self.going_alone.get(hash(key), 0.0) > now

    def _wake(self, waiters: deque[Waiter], outcome: Outcome) -> None:
        for _ in range(min(WOKEN_AT_ONCE, len(waiters))):
            waiters.popleft().land(outcome)
        if waiters:
            asyncio.get_running_loop().call_soon(self._wake, waiters, outcome)
