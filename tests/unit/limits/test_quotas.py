from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.limits.algorithms import Limit, Taking
from gateway.limits.quotas import ALL_ALGORITHMS, PeriodEnd, UnknownZone, quota_limit, zone_of

QUOTA, SLOTS = ALL_ALGORITHMS["quota"], ALL_ALGORITHMS["concurrency"]


def unix(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("period", "zone", "at", "end"),
    [
        ("hour", "UTC", "2026-01-01T10:20:00", "2026-01-01T11:00:00"),
        ("hour", "Asia/Kolkata", "2026-01-01T10:20:00", "2026-01-01T11:00:00"),
        ("day", "UTC", "2026-12-31T23:59:59", "2027-01-01T00:00:00"),
        ("day", "Europe/Berlin", "2026-03-29T01:00:00", "2026-03-30T00:00:00"),  # 23 hours
        ("day", "Europe/Berlin", "2026-10-25T01:00:00", "2026-10-26T00:00:00"),  # 25 hours
        ("month", "UTC", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        ("month", "America/New_York", "2026-12-31T23:00:00", "2027-01-01T00:00:00"),
        ("month", "UTC", "2026-01-31T12:00:00", "2026-02-01T00:00:00"),
    ],
)
def test_periods_end_where_the_calendar_says(period: str, zone: str, at: str, end: str):
    assert PeriodEnd(period, zone_of(zone))(unix(at, zone)) == unix(end, zone)


def test_days_on_which_clocks_change_are_as_long_as_they_are():
    ends, zone = PeriodEnd("day", zone_of("Europe/Berlin")), "Europe/Berlin"
    assert ends(unix("2026-03-29T00:00:00", zone)) - unix("2026-03-29T00:00:00", zone) == 23 * 3600
    assert ends(unix("2026-10-25T00:00:00", zone)) - unix("2026-10-25T00:00:00", zone) == 25 * 3600


def test_zones():
    assert zone_of("UTC") is UTC
    for name in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(UnknownZone):
            zone_of(name)


def test_a_quota_starts_afresh_with_the_period_and_not_before():
    limit, state = quota_limit(2, "day", UTC), QUOTA.fresh
    noon = unix("2026-05-05T12:00:00")
    for _ in range(2):
        state, left, back = QUOTA.take(state, limit, noon)
        assert left >= 0 and back == 12 * 3600
    assert QUOTA.take(state, limit, noon + 60)[1:] == (-1.0, 12 * 3600 - 60)
    assert not QUOTA.idle(state, limit, noon + 12 * 3600 - 1)
    assert QUOTA.idle(state, limit, noon + 12 * 3600)
    assert QUOTA.left(state, limit, noon + 12 * 3600) == (2, 0.0)
    assert QUOTA.take(state, limit, noon + 12 * 3600)[1] == 1
    assert QUOTA.refund(state, limit, noon, 5.0, Taking(noon, 0.0))[1] == 0
    # of a day before
    assert QUOTA.refund(state, limit, noon, 1.0, Taking(noon - 86_400, 0.0)) == state
    assert QUOTA.charge(state, limit, noon + 86_400, 1.0)[1] == 1


def test_slots_come_back_only_when_given_back():
    limit, state = Limit(2.0, 1.0, 1.0), SLOTS.fresh
    for _ in range(2):
        state, left, _ = SLOTS.take(state, limit, 0.0)
    assert left == 0 and SLOTS.take(state, limit, 1e9)[1] == -1.0
    assert SLOTS.left(state, limit, 0.0) == (0.0, 0.0)
    state = SLOTS.refund(state, limit, 0.0, 1, Taking(0.0, 0.0))
    assert SLOTS.left(state, limit, 0.0)[0] == 1 and not SLOTS.idle(state, limit, 0.0)
    assert SLOTS.idle(SLOTS.refund(state, limit, 0.0, 3, Taking(0.0, 0.0)), limit, 0.0)


def test_a_part_of_a_limit_is_at_least_one_and_keeps_the_window():
    limit = Limit.refilled(100, 10.0, 20)
    assert limit.shared(1) is limit
    part = limit.shared(4)
    assert (part.quota, part.rate, part.window, part.burst) == (25.0, 2.5, 10.0, 5)
    assert Limit.windowed(2, 60.0).shared(5).quota == 1.0
