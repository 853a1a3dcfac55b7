"""A changed limit: whoever had used a part of the old one has used the same part of the new one, by
every algorithm."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.clock import Clock
from gateway.limits import buckets as module
from gateway.limits.algorithms import Limit, Taking
from gateway.limits.buckets import Buckets
from gateway.limits.quotas import quota_limit, zone_of
from gateway.limits.rescale import RESCALE

NAMES = [name for name in RESCALE if name != "concurrency"]
UTC = zone_of("UTC")


def limit_of(name: str, quota: int, window: float) -> Limit:
    return quota_limit(quota, "hour", UTC) if name == "quota" else Limit.windowed(quota, window)


@dataclass
class Limited:
    now: float = 100_000.0

    def buckets(self, name: str, limit: Limit) -> Buckets:
        return Buckets(name, limit, Clock(lambda: self.now, lambda: self.now))

    def take(self, buckets: Buckets, key: str = "a", cost: float = 1) -> bool:
        _, (after, left, _) = buckets.check(key, self.now, cost, 1_000)
        if left >= 0:
            buckets.commit(key, after, self.now, cost)
        return left >= 0

    def used(self, buckets: Buckets, key: str = "a") -> float:
        return (
            buckets.limit.quota
            - buckets.algorithm.left(buckets.find(key), buckets.limit, self.now)[0]
        )


requests = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 9)), max_size=25)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(
    requests=requests,
    quotas=st.lists(st.integers(10, 400), min_size=2, max_size=3),
    windows=st.lists(st.sampled_from([1.0, 4.0, 60.0]), min_size=3, max_size=3),
)
def test_the_same_part_is_used(
    name: str, requests: list[tuple[float, int]], quotas: list[int], windows: list[float]
):
    world = Limited()
    buckets = world.buckets(name, limit_of(name, quotas[0], windows[0]))
    for gap, cost in requests:
        world.now += gap
        world.take(buckets, cost=cost)
    for quota, window in zip(quotas[1:], windows[1:], strict=False):
        before = world.used(buckets) / buckets.limit.quota
        buckets.adopt(limit_of(name, quota, window))
        # A log holds whole units: half of one, of either limit, is lost or won.
        allowed = 0.51 / min(quotas) if name == "sliding_log" else 1e-6
        assert world.used(buckets) / quota == pytest.approx(before, abs=allowed)
        assert world.used(buckets) <= quota + 1e-6


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(taken=st.integers(0, 60), first=st.integers(10, 60), second=st.integers(10, 60))
def test_going_back_and_forth_uses_nothing_up_and_gives_nothing_away(
    name: str, taken: int, first: int, second: int
):
    world = Limited()
    buckets = world.buckets(name, limit_of(name, first, 60.0))
    for _ in range(taken):
        world.take(buckets)
    two = (limit_of(name, second, 60.0), limit_of(name, first, 60.0))
    for one in two:
        buckets.adopt(one)
    once = world.used(buckets)
    for _ in range(20):
        for one in two:
            buckets.adopt(one)
    assert world.used(buckets) == pytest.approx(once, abs=1e-6)
    # Half a unit of the smaller limit may be lost or won in it, and then half a unit of the larger
    # one.
    units = 0.5 * first / second + 0.5 if name == "sliding_log" and second < first else 0.0
    assert once == pytest.approx(min(taken, first), abs=units + 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_state_is_rescaled_once_wherever_it_lies(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "STEP_SIZE", 3)
    world = Limited()
    buckets = world.buckets(name, limit_of(name, 100, 60.0))
    buckets.due = world.now + 3600
    keys = [str(number) for number in range(20)]
    for key in keys:
        world.take(buckets, key, 40)
    buckets.adopt(limit_of(name, 50, 60.0))  # all set aside
    buckets.sweep(world.now)  # some brought back
    world.take(buckets, keys[0], 0)  # one called for
    buckets.charge(keys[1], world.now, 5)
    assert 3 < len(buckets.live) < 10
    buckets.adopt(limit_of(name, 200, 60.0))
    expected = {keys[0]: 80, keys[1]: 100}
    assert [round(world.used(buckets, key)) for key in keys] == [
        expected.get(key, 80) for key in keys
    ]
    while buckets._aside:
        buckets.sweep(world.now)
    assert [round(world.used(buckets, key)) for key in keys] == [
        expected.get(key, 80) for key in keys
    ]
    assert len(buckets) == 20


def test_the_part_of_a_window_that_is_over_stays():
    world = Limited()
    for name in ("fixed_window", "sliding_window", "sliding_log"):
        buckets = world.buckets(name, Limit.windowed(10, 60.0))
        for _ in range(10):
            world.take(buckets)
        world.now += 30.0
        buckets.adopt(Limit.windowed(20, 600.0))
        assert not world.take(buckets)
        state = buckets.find("a")
        _, _, wait = buckets.take(state, buckets.limit, world.now, 1)
        assert wait == pytest.approx({"sliding_window": 330.0}.get(name, 300.0)), name


def test_a_token_bucket_keeps_what_its_burst_remembers_and_learns_of_one():
    world = Limited()
    buckets = world.buckets("token_bucket", Limit.refilled(100, 1.0))
    world.take(buckets)
    buckets.adopt(Limit.refilled(100, 1.0, 2))  # nothing to be rescaled
    assert buckets._aside == {}
    buckets.adopt(Limit.refilled(200, 1.0, 2))
    assert [world.take(buckets) for _ in range(2)] == [True, False]
    world.now += 5.0
    buckets.adopt(Limit.refilled(100, 1.0, 2))
    assert [world.take(buckets) for _ in range(3)] == [True, True, False]


def test_a_calendar_that_says_the_same_changes_nothing():
    world = Limited()
    buckets = world.buckets("quota", quota_limit(10, "day", UTC))
    world.take(buckets, cost=5)
    buckets.adopt(quota_limit(10, "day", zone_of("Africa/Abidjan")))
    assert len(buckets.live) == 1
    buckets.adopt(quota_limit(10, "day", zone_of("Asia/Tokyo")))
    assert world.used(buckets) == 5
    world.now += 86_400
    buckets.adopt(quota_limit(20, "day", UTC))
    assert world.used(buckets) == 0


def test_requests_at_a_time_are_as_many_as_there_are():
    world = Limited()
    buckets = world.buckets("concurrency", Limit(4.0, 1.0, 1.0))
    for _ in range(3):
        world.take(buckets)
    buckets.adopt(Limit(2.0, 1.0, 1.0))
    assert not world.take(buckets)
    for _ in range(3):
        buckets.refund("a", world.now, 1, Taking(world.now, 0.0))
    assert [world.take(buckets) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("name", RESCALE)
def test_nothing_is_allowed_and_then_something_again(name: str):
    world = Limited()
    buckets = world.buckets(name, limit_of(name, 3, 60.0))
    assert world.take(buckets)
    buckets.adopt(limit_of(name, 0, 60.0))
    for _ in range(2):
        state, (after, left, wait) = buckets.check("a", world.now, 1, 10)
        assert (left, wait) == (-1.0, float("inf"))
        buckets.undo(state, after, 1)
    buckets.charge("a", world.now, 1)
    assert world.used(buckets) == 0
    buckets.adopt(limit_of(name, 3, 60.0))
    assert [world.take(buckets) for _ in range(4)] == [True, True, True, False]


def test_a_change_in_the_midst_of_an_ordinary_sweep():
    world = Limited()
    buckets = world.buckets("fixed_window", Limit.windowed(100, 60.0))
    for number in range(500):
        world.take(buckets, str(number), 40)
    buckets.sweep(world.now)
    buckets.sweep(world.now)
    assert buckets.live and buckets._aside
    buckets.adopt(Limit.windowed(50, 60.0))
    assert {round(world.used(buckets, str(number))) for number in range(500)} == {20}


def test_room_is_made_among_states_that_are_not_rescaled_yet():
    world = Limited()
    buckets = world.buckets("fixed_window", Limit.windowed(100, 60.0))
    for number in range(30):
        world.take(buckets, str(number), 90 if number else 10)
    buckets.adopt(Limit.windowed(1000, 60.0))
    for number in range(30, 60):
        buckets.check(str(number), world.now, 1, 30)
        assert len(buckets) <= 31
    assert {round(world.used(buckets, key)) for key in [*buckets.live, *buckets._aside]} <= {
        0,
        100,
        900,
    }


@pytest.mark.parametrize("name", ["sliding_log", "quota"])
def test_states_of_those_who_have_used_nothing_stay(name: str):
    world = Limited()
    buckets = world.buckets(name, limit_of(name, 10, 60.0))
    for key in ("a", "b"):
        buckets.check(key, world.now, 1, 10)
    buckets.adopt(limit_of(name, 20, 60.0))
    assert world.used(buckets) == 0 and world.used(buckets, "b") == 0


async def test_sweeps_that_nobody_calls_for_end_with_the_buckets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "TRIM_FROM", 10)
    world = Limited()
    buckets = world.buckets("fixed_window", Limit.windowed(100, 60.0))
    buckets.close()
    for number in range(20):
        world.take(buckets, str(number))
    assert buckets._tending is not None and "next in" in repr(buckets._tending)
    buckets.close()
    assert "closed" in repr(buckets._tending)
