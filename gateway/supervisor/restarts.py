"""When a worker that has ended is started again. Pure.

One that has served for a while is replaced at once. Those that end again and again, or never come
to serve, are started after pauses that double.
"""

from __future__ import annotations

SETTLED = 1.0
"""Seconds a worker has to serve to count as well."""
FIRST = 0.1
LONGEST = 10.0
"""Seconds of the first pause, and of the longest."""


def pause(failures: int) -> float:
    """Return the seconds before a start that follows so many lives in a row that were too short."""
    return min(LONGEST, FIRST * 2.0 ** min(failures - 1, 20)) if failures else 0.0


def failures(before: int, served: float | None) -> int:
    """Count a life that ended. served: seconds since it began to serve; None if it never did."""
    return 0 if served is not None and served >= SETTLED else before + 1
