"""Ways to count requests against a limit, as pure decisions: (state, limit, now, cost) in, (new
state, units left) out.

Here are those of so many within so long; quotas.py has those per calendar period and at a time.
Redis decides the same in Lua (redis_script.py); the same tests run over both.

Neither limits nor clocks live here: a limit changed by a reload applies at once to the states there
are. States are tuples of numbers, which the garbage collector does not track: there may be a
million. Keys, and forgetting, are buckets.py. Longer than 400 lines: one algorithm is read beside
the others. Times are monotonic seconds. A cost is a whole number
of units, 1 for most requests, and never more than the quota.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

State = tuple[Any, ...]

Taken = tuple[State, float, float]
"""The state after a request, the units left, and the seconds until all of them are back.

When it is refused: the state as it was, -1.0, and the seconds until it would be admitted, more than
0.
"""

LEEWAY = 1e-6
"""Of a unit or a second: what rounding may take, so that a client that waited as told is
admitted."""

NEVER = float("-inf")

REFUND_DEPTH = 1000
"""A sliding log gives nothing back once so many later requests are in it: what a refund costs is
bounded."""


class Taking(NamedTuple):
    """What is remembered of a request whose units may be given back: when it took them, and the
    units left after it."""

    at: float
    left: float


@dataclass(frozen=True, slots=True)
class Limit:
    """`quota` units (a whole number) that come back at `rate` a second, all within `window`
    seconds.

    burst: requests that any one second may admit besides; 0: no such bound. ends: of a quota, gives
    the end of the period that a Unix time lies in.
    """

    quota: float
    rate: float
    window: float
    burst: int = 0
    ends: Callable[[float], float] | None = None

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
        """Leave out a burst that a token bucket can never reach."""
        return cls(float(quota), rate, window, 0 if burst >= quota + rate else burst)

    def shared(self, among: int) -> Limit:
        """One of `among` equal parts of it, at least one unit."""
        if among <= 1:
            return self
        quota = max(1.0, float(int(self.quota / among)))
        rate = self.rate * quota / self.quota
        return Limit(
            quota, rate, self.window, max(1, self.burst // among) if self.burst else 0, self.ends
        )


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to count.

    fresh:  the state of a caller without one: new, or idle for so long that it makes no difference.
    take:   counts a request of a cost if there is room for it; a refused one counts for nothing.
    left:   (units left now, seconds until all are back); counts nothing.
    idle:   True if `fresh` decides the same from now on.
    charge: counts a cost, whether there is room or not; a negative one gives units back.
    refund: gives units of a Taking back as far as they still count: the caller never has more than
            without the request, so nothing of an earlier window reaches a later one.
    undo:   (state, state after, cost): forgets a take whose state is not used.
    wall:   times are Unix times.
    """

    fresh: State
    take: Callable[..., Taken]
    left: Callable[[Any, Limit, float], tuple[float, float]]
    idle: Callable[[Any, Limit, float], bool]
    charge: Callable[[Any, Limit, float, float], State]
    refund: Callable[[Any, Limit, float, float, Taking], State]
    undo: Callable[[Any, Any, float], None] | None = None
    wall: bool = False


# Token bucket: (level, stamp, recent). `level` tokens at `stamp`, the last admission; refilled
# continuously. `recent`, for the burst, are the times of admissions within the last second and some
# older ones, oldest first. It is exact, and None while requests come a second apart: then `stamp`
# is the only one. It is changed in place: only the newest state of a chain may be taken from.

TokenState = tuple[float, float, list[float] | None]


def take_token(state: TokenState, limit: Limit, now: float, cost: float = 1.0) -> Taken:
    level, stamp, recent = state
    quota, rate, burst = limit.quota, limit.rate, limit.burst
    since = now - stamp
    level += since * rate
    if level > quota:
        level = quota
    if level < cost - LEEWAY:
        return (
            state,
            -1.0,
            _token_wait([stamp] if recent is None else recent, limit, now, cost - level),
        )
    if burst:
        if since < 1.0:
            if recent is None:
                recent = [stamp]
            count = len(recent)
            # Drop old times before the count may refuse, and now and then so that lists stay short.
            if count >= burst or not count & 15:
                del recent[: bisect_right(recent, now - 1.0)]
                if len(recent) >= burst:
                    return state, -1.0, _token_wait(recent, limit, now, cost - level)
            recent.append(now)
        else:
            recent = None
    level -= cost
    if level < 0.0:
        level = 0.0
    return (level, now, recent), level, (quota - level) / rate


def _token_wait(recent: list[float], limit: Limit, now: float, missing: float) -> float:
    """Seconds until the missing tokens are there, and room within the burst."""
    wait = max(LEEWAY, missing / limit.rate)
    if limit.burst and len(recent) >= limit.burst:
        wait = max(wait, recent[-limit.burst] + 1.0 - now)
    return wait


def tokens_left(state: TokenState, limit: Limit, now: float) -> tuple[float, float]:
    level, stamp, _ = state
    level = min(limit.quota, level + (now - stamp) * limit.rate)
    return max(0.0, level), (limit.quota - level) / limit.rate


def charge_tokens(state: TokenState, limit: Limit, now: float, cost: float) -> TokenState:
    level, stamp, recent = state
    since = now - stamp
    if recent is None and limit.burst:
        recent = [stamp] if since < 1.0 else []  # `now` is not the time of an admission.
    return min(limit.quota, min(limit.quota, level + since * limit.rate) - cost), now, recent


def burst_room(state: TokenState, limit: Limit, now: float) -> float:
    """Return how many more requests the second up to `now` may admit; inf without a burst."""
    if not limit.burst:
        return inf
    _, stamp, recent = state
    times = [stamp] if recent is None else recent
    return float(limit.burst - len(times) + bisect_right(times, now - 1.0))


def admit_ahead(state: TokenState, now: float, count: int) -> None:
    """Count requests in the burst of a state that `charge_tokens` has just made."""
    times = state[2]
    if times is not None:
        del times[: bisect_right(times, now - 1.0)]
        times.extend([now] * count)


def refund_tokens(
    state: TokenState, limit: Limit, now: float, units: float, taking: Taking
) -> TokenState:
    """The level was `taking.left` then and has risen by the refill at most. What was missing to the
    quota at its highest is what the bucket could have held besides."""
    room = limit.quota - taking.left - (now - taking.at) * limit.rate
    return state if room <= 0.0 else charge_tokens(state, limit, now, -min(units, room))


def undo_token(state: TokenState, after: TokenState, cost: float) -> None:
    if after[2] is not None and after[2] is state[2]:
        after[2].pop()


def tokens_idle(state: TokenState, limit: Limit, now: float) -> bool:
    level, stamp, _ = state
    since = now - stamp
    return since >= 1.0 and level + since * limit.rate >= limit.quota


# Fixed window: (start, count). A window begins with the first request after the one before it, so
# that callers do not start over all at once.

FixedState = tuple[float, float]


def take_fixed(state: FixedState, limit: Limit, now: float, cost: float = 1) -> Taken:
    start, count = state
    rest = start + limit.window - now
    if rest < LEEWAY:
        start, count, rest = now, 0, limit.window
    if count + cost > limit.quota:
        return state, -1.0, rest
    count += cost
    return (start, count), limit.quota - count, rest


def fixed_left(state: FixedState, limit: Limit, now: float) -> tuple[float, float]:
    start, count = state
    rest = start + limit.window - now
    if rest < LEEWAY:
        return limit.quota, 0.0
    return max(0.0, limit.quota - count), rest


def fixed_idle(state: FixedState, limit: Limit, now: float) -> bool:
    return now - state[0] >= limit.window


def charge_fixed(state: FixedState, limit: Limit, now: float, cost: float) -> FixedState:
    start, count = state
    if start + limit.window - now < LEEWAY:
        start, count = now, 0.0
    return start, max(0.0, count + cost)


def refund_fixed(
    state: FixedState, limit: Limit, now: float, units: float, taking: Taking
) -> FixedState:
    start, count = state
    return (start, max(0.0, count - units)) if taking.at >= start else state


# Sliding window: (start, current, previous). `current` units since `start`, and `previous` in the
# window before it, which weigh by how far the last `window` seconds still reach into it. Exact when
# those were spread evenly.

SlidingState = tuple[float, float, float]


def take_sliding(state: SlidingState, limit: Limit, now: float, cost: float = 1) -> Taken:
    window, quota = limit.window, limit.quota
    start, current, previous = state
    elapsed = now - start
    if elapsed > window - LEEWAY:
        start, current, previous = _rolled(state, window, now)
        elapsed = max(0.0, now - start)
    used = current + previous * (1.0 - elapsed / window)
    if used + cost > quota + LEEWAY:
        room = quota - cost - current
        if room >= 0.0:
            # The previous window has to weigh no more than `room`.
            return state, -1.0, max(LEEWAY, window * (1.0 - room / previous) - elapsed)
        # This window alone is too much: it has to weigh no more than quota - cost in the next.
        return state, -1.0, window - elapsed + window * (1.0 - (quota - cost) / current)
    left = quota - used - cost
    return (start, current + cost, previous), (left if left > 0.0 else 0.0), window - elapsed


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
    start, current, previous = (
        state if now - state[0] <= window - LEEWAY else _rolled(state, window, now)
    )
    elapsed = max(0.0, now - start)
    return max(0.0, limit.quota - current - previous * (1.0 - elapsed / window)), window - elapsed


def sliding_idle(state: SlidingState, limit: Limit, now: float) -> bool:
    return now - state[0] >= 2 * limit.window


def charge_sliding(state: SlidingState, limit: Limit, now: float, cost: float) -> SlidingState:
    start, current, previous = (
        state if now - state[0] <= limit.window - LEEWAY else _rolled(state, limit.window, now)
    )
    current += cost
    if current < 0.0:  # Units that a lease gives back may be those of the window before.
        current, previous = 0.0, max(0.0, previous + current)
    return start, current, previous


def refund_sliding(
    state: SlidingState, limit: Limit, now: float, units: float, taking: Taking
) -> SlidingState:
    start, current, previous = (
        state if now - state[0] <= limit.window - LEEWAY else _rolled(state, limit.window, now)
    )
    if taking.at >= start:
        return start, max(0.0, current - units), previous
    if taking.at >= start - limit.window:
        return start, current, max(0.0, previous - units)
    return state


# Sliding log: (times, marks). `times` are those of the requests within the window, oldest first.
# Where some cost more than one unit, `marks` has one number more: the units taken before each of
# them, and by all. So a request is two numbers and the same work at any cost. Exact. Changed in
# place: only the newest state of a chain may be taken from.

LogState = tuple["array[float] | None", "array[float] | None"]


def take_log(state: LogState, limit: Limit, now: float, cost: float = 1) -> Taken:
    times, marks = state
    if times is None:
        times = array("d")
    elif gone := bisect_right(times, now - limit.window + LEEWAY):
        del times[:gone]
        if marks is not None:
            del marks[:gone]
    left = limit.quota - (len(times) if marks is None else marks[-1] - marks[0]) - cost
    if left < 0.0:
        # Enough units are gone with the first request after which so many are missing.
        last = int(-left) if marks is None else bisect_left(marks, marks[0] - left)
        return state, -1.0, max(LEEWAY, times[last - 1] + limit.window - now)
    if marks is None and cost == 1:
        times.append(now)
        return (times, None), left, limit.window
    return _logged(times, marks, now, cost), left, limit.window


def _logged(times: array[float], marks: array[float] | None, now: float, cost: float) -> LogState:
    if marks is None and cost != 1:
        marks = array("d", range(len(times) + 1))
    times.append(now)
    if marks is not None:
        marks.append(marks[-1] + cost)
    return times, marks


def log_left(state: LogState, limit: Limit, now: float) -> tuple[float, float]:
    times, marks = state
    if not times:
        return limit.quota, 0.0
    gone = bisect_right(times, now - limit.window + LEEWAY)
    used = len(times) - gone if marks is None else marks[-1] - marks[gone]
    return max(0.0, limit.quota - used), max(0.0, times[-1] + limit.window - now)


def log_idle(state: LogState, limit: Limit, now: float) -> bool:
    return not state[0] or now - state[0][-1] >= limit.window


def charge_log(state: LogState, limit: Limit, now: float, cost: float) -> LogState:
    times, marks = state
    return _logged(array("d") if times is None else times, marks, now, cost)


def refund_log(state: LogState, limit: Limit, now: float, units: float, taking: Taking) -> LogState:
    times, marks = state
    if times is None:
        return state
    index = bisect_left(times, taking.at)
    if index == len(times) or len(times) - index > REFUND_DEPTH:
        return state
    if marks is None:
        marks = array("d", range(len(times) + 1))
    # Another request of the same moment may have been given back already.
    while index + 1 < len(times) and times[index] == taking.at and marks[index + 1] == marks[index]:
        index += 1
    if times[index] != taking.at:
        return state
    units = min(units, marks[index + 1] - marks[index])
    for later in range(index + 1, len(marks)):
        marks[later] -= units
    return times, marks


def undo_log(state: LogState, after: LogState, cost: float) -> None:
    times, marks = state
    if times is not None:
        times.pop()
    if marks is not None:
        marks.pop()


ALGORITHMS = {
    "token_bucket": Algorithm(
        (0.0, NEVER, None),
        take_token,
        tokens_left,
        tokens_idle,
        charge_tokens,
        refund_tokens,
        undo_token,
    ),
    "sliding_window": Algorithm(
        (NEVER, 0, 0), take_sliding, sliding_left, sliding_idle, charge_sliding, refund_sliding
    ),
    "sliding_log": Algorithm(
        (None, None), take_log, log_left, log_idle, charge_log, refund_log, undo_log
    ),
    "fixed_window": Algorithm(
        (NEVER, 0), take_fixed, fixed_left, fixed_idle, charge_fixed, refund_fixed
    ),
}
"""Those that limit how many within how long."""
