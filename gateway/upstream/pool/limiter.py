"""Limits of concurrent requests: fixed, or adapted to how long answers take. Pure, no clock.

Requests above the limit are refused before anything is sent: the cheapest way to shed load that
could not be served in time. The adaptive limit is Gradient2 of Netflix's concurrency-limits: while
recent answers take their usual time the limit grows a little at a time; when they take longer,
requests are queueing somewhere, and it shrinks in proportion.
"""

from __future__ import annotations

from gateway.config.tables.traffic import LimitConfig

SAMPLES = 50
"""Answers between two changes of an adaptive limit."""

USUAL = 600
"""Answers over which the usual time is averaged, exponentially."""

TOLERANCE = 1.5
"""Up to this many times the usual time is no sign of queueing."""

ROOM = 4.0
"""The most requests by which the limit grows at once."""

SMOOTHING = 0.2
"""The weight of the newly computed limit in the next one."""


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
        """Count an answer that took `seconds` while `live` requests were under way."""
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
            # After an overload: its times must not count as usual in the next one.
            self._usual *= 0.95
        gradient = max(0.5, min(1.0, TOLERANCE * self._usual / recent)) if recent > 0 else 1.0
        if gradient == 1.0 and 2 * live < self.limit:
            return  # The limit is not reached: growing now would make it too large when it is.
        wanted = self.limit * gradient + ROOM
        limit = self.limit * (1 - SMOOTHING) + wanted * SMOOTHING
        self.limit = max(float(config.minimum), min(float(config.requests), limit))
