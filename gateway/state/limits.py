"""Three ways to count requests against a limit, as pure decisions: (state, limit, now) in, (new state, what is left) out.

Neither limits nor clocks live here: a limit changed by a reload applies at once to the states there are. States are tuples of
numbers, of which there may be a million: the garbage collector stops looking at such tuples, so they cost it nothing. Which
state belongs to whom, and forgetting, is buckets.py. All times are monotonic seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

State = tuple[Any, ...]

Taken = tuple[State, float, float]
"""The state after a request, the requests left, and the seconds until all of them are back. When it is refused: the state
as it was, -1.0, and the seconds until one would be admitted, always more than 0."""

LEEWAY = 1e-6
"""Of a request or a second: what rounding may eat, so that a client that waited as long as it was told is admitted."""
ENOUGH = 1.0 - LEEWAY

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Limit:
    """`quota` requests (a whole number) that come back at `rate` a second, all of them within `window` seconds.

    `burst` bounds what any one second may admit besides; 0 means that the quota alone does.
    """

    quota: float
    rate: float
    window: float
    burst: int = 0

    @classmethod
    def refilled(cls, tokens: int, refill: float, burst: int = 0) -> Limit:
        """`tokens` at most, `refill` more a second."""
        return cls._watched(tokens, refill, tokens / refill, burst)

    @classmethod
    def windowed(cls, quota: int, window: float, burst: int = 0) -> Limit:
        """`quota` within `window` seconds."""
        return cls._watched(quota, quota / window, window, burst)

    @classmethod
    def _watched(cls, quota: int, rate: float, window: float, burst: int) -> Limit:
        """A burst that a token bucket can never reach is left out: it need not be watched."""
        return cls(float(quota), rate, window, 0 if burst >= quota + rate else burst)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """fresh: the state of whoever has not been seen, or not for so long that it makes no difference.

    take: counts one request if there is room for it; a refused one counts for nothing.
    left: (what there is to take now, seconds until all is back); counts nothing.
    idle: whether `fresh` would decide the same from now on.
    """

    fresh: State
    take: Callable[[Any, Limit, float], Taken]
    left: Callable[[Any, Limit, float], tuple[float, float]]
    idle: Callable[[Any, Limit, float], bool]


# Token bucket: (level, stamp, recent). `level` tokens at `stamp`, the last admission; refilled continuously, a request takes one.
# `recent` are the times of admissions within the last second, and perhaps some older ones, oldest first, for the burst. It is
# exact, and there only for those who come more than once a second; without it, `stamp` is the only one there can have been.
# It is changed in place: only the newest state of a chain may be taken from.

TokenState = tuple[float, float, list[float] | None]


def take_token(state: TokenState, limit: Limit, now: float) -> Taken:
    level, stamp, recent = state
    quota, rate, burst = limit.quota, limit.rate, limit.burst
    since = now - stamp
    level += since * rate
    if level > quota:
        level = quota
    if level < ENOUGH:
        return state, -1.0, _token_wait(recent, limit, now, level)
    if burst:
        if since < 1.0:
            if recent is None:
                recent = [stamp]
            count = len(recent)
            # Old times are dropped before the count may refuse, and now and then so that lists stay short.
            if count >= burst or not count & 15:
                del recent[: bisect_right(recent, now - 1.0)]
                if len(recent) >= burst:
                    return state, -1.0, _token_wait(recent, limit, now, level)
            recent.append(now)
        else:
            recent = None
    level -= 1.0
    if level < 0.0:
        level = 0.0
    return (level, now, recent), level, (quota - level) / rate


def _token_wait(recent: list[float] | None, limit: Limit, now: float, level: float) -> float:
    """Seconds until there is a token, and room within the burst."""
    wait = max(LEEWAY, (1.0 - level) / limit.rate)
    if limit.burst and recent is not None and len(recent) >= limit.burst:
        wait = max(wait, recent[-limit.burst] + 1.0 - now)
    return wait


def tokens_left(state: TokenState, limit: Limit, now: float) -> tuple[float, float]:
    level, stamp, _ = state
    level = min(limit.quota, level + (now - stamp) * limit.rate)
    return level, (limit.quota - level) / limit.rate


def tokens_idle(state: TokenState, limit: Limit, now: float) -> bool:
    level, stamp, _ = state
    since = now - stamp
    return since >= 1.0 and level + since * limit.rate >= limit.quota


# Fixed window: (start, count). A window begins with the first request after the one before it, so that not everybody starts over
# at the same moment.

FixedState = tuple[float, int]


def take_fixed(state: FixedState, limit: Limit, now: float) -> Taken:
    start, count = state
    rest = start + limit.window - now
    if rest < LEEWAY:
        start, count, rest = now, 0, limit.window
    if count >= limit.quota:
        return state, -1.0, rest
    count += 1
    return (start, count), limit.quota - count, rest


def fixed_left(state: FixedState, limit: Limit, now: float) -> tuple[float, float]:
    start, count = state
    rest = start + limit.window - now
    if rest < LEEWAY:
        return limit.quota, 0.0
    return max(0.0, limit.quota - count), rest


def fixed_idle(state: FixedState, limit: Limit, now: float) -> bool:
    return now - state[0] >= limit.window


# Sliding window: (start, current, previous). `current` requests since `start`, and `previous` in the window before it, which
# weigh as much as the last `window` seconds still reach into it. Exact when those were spread evenly, and never far off.

SlidingState = tuple[float, int, int]


def take_sliding(state: SlidingState, limit: Limit, now: float) -> Taken:
    window, quota = limit.window, limit.quota
    start, current, previous = state
    elapsed = now - start
    if elapsed > window - LEEWAY:
        start, current, previous = _rolled(state, window, now)
        elapsed = max(0.0, now - start)
    used = current + previous * (1.0 - elapsed / window)
    if used + 1.0 > quota + LEEWAY:
        room = quota - 1.0 - current
        if room >= 0.0:
            # The previous window has to weigh no more than `room`.
            return state, -1.0, max(LEEWAY, window * (1.0 - room / previous) - elapsed)
        # This window alone is too much: the next has to begin, and this one to weigh no more than quota - 1 in it.
        return state, -1.0, window - elapsed + window * (1.0 - (quota - 1.0) / current)
    left = quota - used - 1.0
    return (start, current + 1, previous), (left if left > 0.0 else 0.0), window - elapsed


def _rolled(state: SlidingState, window: float, now: float) -> SlidingState:
    """The state in the window that `now` lies in."""
    start, current, _ = state
    if now - start > 2 * window - LEEWAY:
        return now, 0, 0
    return start + window, 0, current


def sliding_left(state: SlidingState, limit: Limit, now: float) -> tuple[float, float]:
    window = limit.window
    if now - state[0] > 2 * window - LEEWAY:
        return limit.quota, 0.0
    start, current, previous = state if now - state[0] <= window - LEEWAY else _rolled(state, window, now)
    elapsed = max(0.0, now - start)
    return max(0.0, limit.quota - current - previous * (1.0 - elapsed / window)), window - elapsed


def sliding_idle(state: SlidingState, limit: Limit, now: float) -> bool:
    return now - state[0] >= 2 * limit.window


ALGORITHMS = {
    "token_bucket": Algorithm((0.0, NEVER, None), take_token, tokens_left, tokens_idle),
    "sliding_window": Algorithm((NEVER, 0, 0), take_sliding, sliding_left, sliding_idle),
    "fixed_window": Algorithm((NEVER, 0), take_fixed, fixed_left, fixed_idle),
}
