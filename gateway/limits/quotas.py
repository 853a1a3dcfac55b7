"""Quotas of a calendar day or month, and requests at a time: decisions as in algorithms.py.

A quota's period ends by the calendar of a time zone: days of 23 or 25 hours and months of any
length come out right. Its times are Unix times. A request at a time is refunded when it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.limits.algorithms import ALGORITHMS, NEVER, Algorithm, Limit, Taken, Taking

PERIODS = {"hour": 3600.0, "day": 86_400.0, "month": 30 * 86_400.0}
"""Calendar periods, and about how many seconds they have."""

POLL = 1.0
"""Seconds after which to try again for a slot: when a request will end is not known."""


class UnknownZone(ValueError):
    """No time zone of that name is installed."""


def zone_of(name: str) -> tzinfo:
    """The time zone called `name` in the IANA database. Raises UnknownZone."""
    if name == "UTC":
        return UTC  # Needs no database of time zones: small images have none.
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnknownZone(f"there is no time zone {name!r}") from None


@dataclass(frozen=True, slots=True)
class PeriodEnd:
    """Called with a Unix time: the end of the period that it lies in."""

    period: str
    zone: tzinfo

    def __call__(self, unix: float) -> float:
        local = datetime.fromtimestamp(unix, self.zone)
        if self.period == "hour":
            begins = local.replace(minute=0, second=0, microsecond=0)
            return begins.timestamp() + 3600.0
        # Wall-clock arithmetic, then back to Unix time: right on days on which clocks change too.
        begins = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        if self.period == "month":
            begins = begins.replace(day=1)
            return (begins + timedelta(days=32)).replace(day=1).timestamp()
        return (begins + timedelta(days=1)).timestamp()


def quota_limit(quota: int, period: str, zone: tzinfo) -> Limit:
    """`quota` units within every calendar `period`."""
    seconds = PERIODS[period]
    return Limit(float(quota), quota / seconds, seconds, ends=PeriodEnd(period, zone))


# Quota: (end, count). `end` is the end of the period in which `count` was taken.

QuotaState = tuple[float, float]


def take_quota(state: QuotaState, limit: Limit, now: float, cost: float = 1) -> Taken:
    end, count = state
    if now >= end:
        end, count = _end(limit, now), 0
    if count + cost > limit.quota:
        return state, -1.0, end - now
    count += cost
    return (end, count), limit.quota - count, end - now


def quota_left(state: QuotaState, limit: Limit, now: float) -> tuple[float, float]:
    end, count = state
    if now >= end:
        return limit.quota, 0.0
    return max(0.0, limit.quota - count), end - now


def quota_idle(state: QuotaState, limit: Limit, now: float) -> bool:
    return now >= state[0]


def charge_quota(state: QuotaState, limit: Limit, now: float, cost: float) -> QuotaState:
    end, count = state
    if now >= end:
        end, count = _end(limit, now), 0.0
    return end, max(0.0, count + cost)


def refund_quota(
    state: QuotaState, limit: Limit, now: float, units: float, taking: Taking
) -> QuotaState:
    end, count = state
    return (end, max(0.0, count - units)) if _end(limit, taking.at) == end else state


def _end(limit: Limit, now: float) -> float:
    assert limit.ends is not None
    return limit.ends(now)


# Concurrency: (count,). Nothing comes back by itself.


def take_slot(state: tuple[float], limit: Limit, now: float, cost: float = 1) -> Taken:
    count = state[0] + cost
    if count > limit.quota:
        return state, -1.0, POLL
    return (count,), limit.quota - count, 0.0


def slots_left(state: tuple[float], limit: Limit, now: float) -> tuple[float, float]:
    return max(0.0, limit.quota - state[0]), 0.0


def slots_idle(state: tuple[float], limit: Limit, now: float) -> bool:
    return state[0] <= 0


def charge_slot(state: tuple[float], limit: Limit, now: float, cost: float) -> tuple[float]:
    return (state[0] + cost,)


def refund_slot(
    state: tuple[float], limit: Limit, now: float, units: float, taking: Taking
) -> tuple[float]:
    return (max(0.0, state[0] - units),)


ALL_ALGORITHMS: dict[str, Algorithm] = {
    **ALGORITHMS,
    "quota": Algorithm(
        (NEVER, 0), take_quota, quota_left, quota_idle, charge_quota, refund_quota, wall=True
    ),
    "concurrency": Algorithm((0,), take_slot, slots_left, slots_idle, charge_slot, refund_slot),
}
"""All algorithms by the name that TOML uses."""
