"""How many requests an upstream gets at a time: a fixed limit, or one that follows how long answers take. Pure, no clock.

What is above the limit is refused before anything is sent: the cheapest way to shed load that could not be served in time.
The adaptive one is Netflix's concurrency-limits, Gradient2: while recent answers take as long as they usually do it grows, a
little at a time; when they take longer, requests are queueing somewhere, and it shrinks by as much as they take longer.
"""

from __future__ import annotations

from gateway.config.tables.traffic import LimitConfig

SAMPLES = 50
"""Answers between two changes of an adaptive limit."""

USUAL = 600
"""Answers over which the usual time is averaged, exponentially."""

TOLERANCE = 1.5
"""How many times the usual time is still no sign of queueing."""

ROOM = 4.0
"""By how many requests the limit may grow at once."""

SMOOTHING = 0.2
"""The share a new limit has in the next; the rest is the one before."""


class Limiter:
    """`limit` is how many requests may be under way now."""

    __slots__ = ("_count", "_sum", "_usual", "config", "limit")

    def __init__(self, config: LimitConfig) -> None:
        self.config = config
        self.limit: float = config.requests
        self._usual = 0.0
        self._sum = 0.0
        self._count = 0

    def __repr__(self) -> str:
        return f"<Limiter {int(self.limit)} of {self.config.requests}>"

    def observe(self, seconds: float, live: int) -> None:
        """An answer took `seconds` while `live` requests were under way."""
        config = self.config
        if not config.adaptive:
            return
        self._usual += (seconds - self._usual) / USUAL if self._usual else seconds
        self._sum += seconds
        self._count += 1
        if self._count < SAMPLES:
            return
        recent, self._sum, self._count = self._sum / self._count, 0.0, 0
        if self._usual > 2 * recent:
            self._usual *= 0.95  # An overload is over: what was usual then must not allow the next one.
        gradient = max(0.5, min(1.0, TOLERANCE * self._usual / recent)) if recent > 0 else 1.0
        if gradient == 1.0 and 2 * live < self.limit:
            return  # Nobody asks for more: growing would only mean to be late when somebody does.
        wanted = self.limit * gradient + ROOM
        limit = self.limit * (1 - SMOOTHING) + wanted * SMOOTHING
        self.limit = max(float(config.minimum), min(float(config.requests), limit))
