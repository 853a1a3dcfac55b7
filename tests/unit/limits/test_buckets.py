from __future__ import annotations

import logging
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.clock import Clock
from gateway.limits.algorithms import ALGORITHMS, Limit, State, Taking
from gateway.limits.buckets import STEP_PAUSE, STEP_SIZE, SWEEP_PAUSE, Buckets
from gateway.limits.rescale import RESCALE, counts_alike

LIMIT = Limit.refilled(10, 1.0)
MANY = 1_000_000


def take(buckets: Buckets, key: str, now: float, most: int = MANY) -> float:
    """What a caller does, step by step."""
    if now >= buckets.due:
        buckets.sweep(now)
    state = buckets.live.get(key)
    if state is None:
        state = buckets.open(key, now, most)
    buckets.live[key], left, _ = buckets.take(state, buckets.limit, now)
    return left


def sweep_all(buckets: Buckets, now: float) -> float:
    """Steps until what there is now has been looked at once."""
    now = max(now, buckets.due)
    buckets.sweep(now)
    while buckets._aside:
        now = buckets.due
        buckets.sweep(now)
    return now


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_key_counts_by_itself(name: str):
    buckets = Buckets(name, Limit.windowed(2, 60.0))
    assert [take(buckets, "a", 0.0) >= 0 for _ in range(3)] == [True, True, False]
    assert take(buckets, "b", 0.0) >= 0
    assert repr(buckets) == "<Buckets 2 keys, 0 evicted>"


def test_a_sweep_changes_no_decision():
    swept, kept = Buckets("token_bucket", LIMIT), Buckets("token_bucket", LIMIT)
    kept.due = float("inf")
    now = 0.0
    for step in range(3000):
        now += 0.03
        key = f"client {step * 7 % 23}"
        assert take(swept, key, now) == take(kept, key, now)
    assert len(swept) <= len(kept) == 23


limits = st.builds(
    Limit.windowed,
    st.integers(1, 9),
    st.sampled_from([1.0, 2.0, 8.0]),
    st.sampled_from([0, 0, 2]),
)
keys = st.sampled_from("abc")
steps = st.one_of(
    st.tuples(st.just("take"), keys, st.integers(1, 3)),
    st.tuples(st.just("take"), keys, st.just(1)),
    st.tuples(st.just("charge"), keys, st.integers(1, 3)),
    st.tuples(st.just("refund"), st.integers(0, 5), st.integers(1, 2)),
    st.tuples(st.just("wait"), st.integers(0, 200), st.none()),
    st.tuples(st.just("reload"), limits, st.none()),
    st.tuples(st.just("sweep"), st.none(), st.none()),
)


@pytest.mark.parametrize("name", ALGORITHMS)
@settings(max_examples=100, deadline=None)
@given(limit=limits, steps=st.lists(steps, max_size=60))
def test_reloads_and_sweeps_decide_as_if_states_were_never_set_aside(
    name: str, limit: Limit, steps: list[tuple[str, Any, Any]]
):
    """Beside them a dict of all states there have been, each rescaled when the limit changes."""
    now, algorithm = 1000.0, ALGORITHMS[name]
    buckets = Buckets(name, limit, Clock(lambda: now, lambda: now))
    states: dict[str, State] = {}
    taken: list[tuple[str, Taking, float]] = []
    for what, one, units in steps:
        if what == "wait":
            now += one / 16
        elif what == "sweep":
            buckets.sweep(now)
        elif what == "reload":
            if limit != one and not counts_alike(limit, one, now):
                rescale = RESCALE[name]
                states = {key: rescale(state, limit, one, now) for key, state in states.items()}
            buckets.adopt(one)
            limit = one
            taken.clear()
        elif what == "charge" and one in states:
            buckets.charge(one, now, units)
            states[one] = algorithm.charge(states[one], limit, now, units)
        elif what == "refund" and taken:
            key, taking, cost = taken.pop(one % len(taken))
            buckets.refund(key, now, min(units, cost), taking)
            states[key] = algorithm.refund(states[key], limit, now, min(units, cost), taking)
        elif what == "take":
            cost = min(units, limit.quota)
            state, (after, left, back) = buckets.check(one, now, cost, MANY)
            wanted = algorithm.take(states.get(one, algorithm.fresh), limit, now, cost)
            assert (left, back) == pytest.approx(wanted[1:], abs=1e-4)
            if left < 0.0:
                buckets.undo(state, after, cost)
                continue
            buckets.commit(one, after, now, cost)
            states[one] = wanted[0]
            taken.append((one, Taking(now, left), cost))


def test_what_is_full_again_is_forgotten_a_step_at_a_time():
    buckets = Buckets("token_bucket", LIMIT)
    buckets.sweep(0.0)
    for number in range(1000):
        take(buckets, f"slow {number}", 0.01)
    assert len(buckets) == 1000
    buckets.sweep(60.0)
    assert len(buckets) == 1000 and buckets.due == 60.0 + STEP_PAUSE
    buckets.sweep(61.0)
    assert len(buckets) == 1000 - STEP_SIZE
    now = sweep_all(buckets, 62.0)
    assert len(buckets) == 0 and buckets.due == now + SWEEP_PAUSE


def test_what_is_in_use_is_brought_back():
    buckets = Buckets("token_bucket", LIMIT)
    for number in range(5):
        take(buckets, f"idle {number}", 0.0)
    for _ in range(8):
        take(buckets, "busy", 4.0)
    sweep_all(buckets, 6.0)
    assert list(buckets.live) == ["busy"]
    assert buckets.algorithm.left(buckets.find("busy"), LIMIT, 6.0)[0] == 4.0


def test_a_key_set_aside_is_found_and_taken_up_again():
    buckets = Buckets("token_bucket", LIMIT)
    for _ in range(4):
        take(buckets, "busy", 0.0)
    buckets.sweep(100.0)
    assert buckets.live == {}
    assert buckets.find("busy")[0] == 6.0
    assert buckets.find("nobody") == buckets.algorithm.fresh
    buckets.due = 1000.0
    assert take(buckets, "busy", 0.0) == 5.0
    assert len(buckets) == 1


def test_strangers_end_a_sweep_without_the_clock():
    buckets = Buckets("token_bucket", LIMIT)
    for number in range(600):
        take(buckets, f"old {number}", 0.0)
    buckets.sweep(100.0)
    buckets.due = 1000.0
    for number in range(300):
        take(buckets, f"new {number}", 100.0)
    assert len(buckets) == 300


class TestFull:
    def test_there_are_never_more_than_the_most(self):
        buckets = Buckets("token_bucket", LIMIT)
        for number in range(500):
            take(buckets, f"client {number}", 0.0, most=50)
            assert len(buckets) <= 50
        assert buckets.evicted == 450

    def test_idle_ones_go_first_and_do_not_count_as_evicted(self):
        buckets = Buckets("token_bucket", LIMIT)
        take(buckets, "idle", 0.0, most=2)
        take(buckets, "busy", 20.0, most=2)
        take(buckets, "new", 20.0, most=2)
        assert {*buckets.live, *buckets._aside} == {"busy", "new"}
        assert buckets.evicted == 0

    def test_the_fullest_goes_and_the_exhausted_stays(self):
        buckets = Buckets("token_bucket", LIMIT)
        for _ in range(11):
            take(buckets, "flood", 0.0, most=3)
        for number in range(40):
            take(buckets, f"stranger {number}", 0.0, most=3)
        assert take(buckets, "flood", 0.0, most=3) == -1.0

    def test_a_lowered_most_is_reached_by_and_by(self):
        buckets = Buckets("token_bucket", LIMIT)
        for number in range(20):
            take(buckets, f"client {number}", 0.0)
        for number in range(12):
            take(buckets, f"late {number}", 0.0, most=10)
        assert len(buckets) == 10

    def test_one_warning_a_minute(self, caplog: pytest.LogCaptureFixture):
        buckets = Buckets("token_bucket", LIMIT)
        with caplog.at_level(logging.WARNING, "gateway.state"):
            for now in (0.0, 1.0, 2.0, 3.0, 61.5, 62.0):
                for number in range(3):
                    take(buckets, f"{now} {number}", now, most=2)
        assert len(caplog.records) == 2
        assert "max_keys" in caplog.text


@pytest.mark.parametrize("name", ALGORITHMS)
def test_another_program_goes_on_counting(name: str):
    now = 1000.0
    clock = Clock(lambda: now, lambda: now)
    before = Buckets(name, Limit.windowed(4, 60.0), clock)
    for key, count in (("a", 4), ("b", 1)):
        for _ in range(count):
            take(before, key, now)
    before.sweep(now)  # in the middle of one
    take(before, "b", now)
    for quota, left in ((4, 1), (8, 3)):
        after = Buckets(name, Limit.windowed(quota, 60.0), clock)
        after.load_state(pickle.loads(pickle.dumps(before.dump_state())))
        assert take(after, "a", now) == -1
        assert take(after, "b", now) == left
