"""When a worker counts as stuck. Pure.

Every reading that the supervisor asks for is a question whether the worker lives. Counted are
questions without an answer, not seconds: a machine that stood still has asked none.
"""

from __future__ import annotations

import enum

PULL = 1.0
"""Seconds between two questions."""
AWAY_AFTER = 3
"""Questions a worker may owe before others get its connections."""
KILL_AFTER = 30
"""Questions a worker may owe before it is ended."""


class Verdict(enum.Enum):
    """What to do about a worker."""

    WELL = 0
    AWAY = 1
    """Keep connections from it, and deal those that wait for it to others."""
    KILL = 2


def verdict(owed: int) -> Verdict:
    """Judge a worker that owes so many answers."""
    if owed >= KILL_AFTER:
        return Verdict.KILL
    return Verdict.AWAY if owed >= AWAY_AFTER else Verdict.WELL
