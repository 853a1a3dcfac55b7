"""What a changed limit makes of a state: half of the old limit used is half of the new one used.

One pure decision for each algorithm: (state, old limit, new limit, now) in, state out, as if the
new limit had always been in force and the caller had used the same part of it. docs/limits.md
derives them; redis_script.py has them once more, in Lua. Neither limit is 0: buckets.py begins
afresh there.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from gateway.limits.algorithms import (
    LEEWAY,
    FixedState,
    Limit,
    LogState,
    SlidingState,
    State,
    TokenState,
)
from gateway.limits.quotas import QuotaState

Rescale = Callable[[Any, Limit, Limit, float], State]


def counts_alike(old: Limit, new: Limit, now: float) -> bool:
    """Return True if states mean the same under both limits; a burst makes no difference."""
    if (old.quota, old.rate, old.window) != (new.quota, new.rate, new.window):
        return False
    return old.ends is None or new.ends is None or old.ends(now) == new.ends(now)


def tokens(state: TokenState, old: Limit, new: Limit, now: float) -> TokenState:
    """The same part of the tokens is there. The times of the last second stay: they are soon
    gone."""
    level, stamp, recent = state
    since = now - stamp
    level = min(old.quota, level + since * old.rate) * new.quota / old.quota
    if recent is None and new.burst:
        recent = [stamp] if since < 1.0 else []  # `now` is not the time of an admission.
    return level, now, recent


def fixed(state: FixedState, old: Limit, new: Limit, now: float) -> FixedState:
    """The same part of the window is over, and the same part of the limit is used in it."""
    start, count = state
    return now - (now - start) * new.window / old.window, count * new.quota / old.quota


def sliding(state: SlidingState, old: Limit, new: Limit, now: float) -> SlidingState:
    """The same, for this window and the one before it."""
    start, current, previous = state
    start = now - (now - start) * new.window / old.window
    return start, current * new.quota / old.quota, previous * new.quota / old.quota


def log(state: LogState, old: Limit, new: Limit, now: float) -> LogState:
    """More units or fewer, as far apart in proportion; to the nearest whole unit, so that a change
    and its reverse add none."""
    times, marks = state
    if times is None:
        return state
    if marks is None:
        marks = array("d", range(len(times) + 1))
    gone = bisect_right(times, now - old.window + LEEWAY)
    before = int(marks[-1] - marks[gone])
    after = int(before * new.quota / old.quota + 0.5)
    ratio = new.window / old.window
    scaled, kept = array("d"), array("d", (0.0,))
    for index in range(gone, len(times)):
        mark = -(-int(marks[index + 1] - marks[gone]) * after // before) if before else 0
        if mark > kept[-1]:
            scaled.append(now - (now - times[index]) * ratio)
            kept.append(mark)
    return scaled, kept


def quota(state: QuotaState, old: Limit, new: Limit, now: float) -> QuotaState:
    """The same part of the quota is used. Periods end when the calendar says so."""
    end, count = state
    if now >= end:
        return state
    assert new.ends is not None
    return new.ends(now), count * new.quota / old.quota


def slots(state: tuple[float], old: Limit, new: Limit, now: float) -> tuple[float]:
    """Requests at a time are as many as there are."""
    return state


RESCALE: dict[str, Rescale] = {
    "token_bucket": tokens,
    "sliding_window": sliding,
    "sliding_log": log,
    "fixed_window": fixed,
    "quota": quota,
    "concurrency": slots,
}
"""By name."""
