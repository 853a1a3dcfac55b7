"""Thresholds: how many results it takes to change what is believed about an endpoint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.tables.health import HealthConfig, PassiveHealthConfig
from gateway.upstream.pool.health import Active, Health, Passive, Status

THRESHOLDS = HealthConfig(unhealthy_threshold=3, healthy_threshold=2, interval=10.0)

CASES = [
    # description, status at the start, results (+ and -), status after each
    ("the first success makes an unknown one healthy", "unknown", "+", "healthy"),
    (
        "an unknown one needs as many failures as a healthy one",
        "unknown",
        "---",
        "unknown unknown unhealthy",
    ),
    ("a success among the failures of an unknown one", "unknown", "--+", "unknown unknown healthy"),
    ("failures in a row", "healthy", "---", "healthy healthy unhealthy"),
    (
        "a success starts the count anew",
        "healthy",
        "--+--",
        "healthy healthy healthy healthy healthy",
    ),
    ("coming back takes its own threshold", "unhealthy", "++", "unhealthy healthy"),
    (
        "a failure starts coming back anew",
        "unhealthy",
        "+-+-",
        "unhealthy unhealthy unhealthy unhealthy",
    ),
    (
        "back, then all failures are needed again",
        "unhealthy",
        "++--",
        "unhealthy healthy healthy healthy",
    ),
]


@pytest.mark.parametrize(
    ("start", "results", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_active(start: str, results: str, expected: str) -> None:
    state = Active(Status(start))
    seen = []
    for result in results:
        state = state.advance(result == "+", THRESHOLDS)
        seen.append(state.status)
    assert seen == expected.split()


def test_a_result_that_changes_nothing_makes_nothing() -> None:
    healthy, unhealthy = Active(Status.HEALTHY), Active(Status.UNHEALTHY)
    assert healthy.advance(True, THRESHOLDS) is healthy
    assert unhealthy.advance(False, THRESHOLDS) is unhealthy


@given(results=st.lists(st.booleans(), max_size=60), fall=st.integers(1, 5), rise=st.integers(1, 5))
def test_active_never_changes_below_its_thresholds(
    results: list[bool], fall: int, rise: int
) -> None:
    thresholds = HealthConfig(unhealthy_threshold=fall, healthy_threshold=rise)
    state = Active()
    for number, result in enumerate(results, 1):
        before, state = state, state.advance(result, thresholds)
        row = results[:number]
        if state.status is before.status:
            continue
        if state.status is Status.UNHEALTHY:
            assert row[-fall:] == [False] * fall
        elif before.status is Status.UNHEALTHY:
            assert state.status is Status.HEALTHY
            assert row[-rise:] == [True] * rise
        else:
            assert (before.status, result) == (Status.UNKNOWN, True)
    if results[-fall:] == [False] * fall:
        assert state.status is Status.UNHEALTHY
    if len(results) >= rise and results[-rise:] == [True] * rise:
        assert state.status is Status.HEALTHY


PASSIVE = PassiveHealthConfig(max_fails=3, fail_timeout=10.0)


def test_passive_ejects_after_enough_failures_in_time() -> None:
    state = Passive().failed(100.0, PASSIVE).failed(105.0, PASSIVE)
    assert not state.until
    state = state.failed(109.0, PASSIVE)
    assert state.until == 119.0
    assert state.failed(112.0, PASSIVE) is state
    assert state.returned(118.9) is state
    assert state.returned(119.0) == Passive()


def test_passive_forgets_old_failures() -> None:
    state = Passive().failed(100.0, PASSIVE).failed(105.0, PASSIVE).failed(110.0, PASSIVE)
    assert not state.until
    assert state.fails == (105.0, 110.0)


def test_passive_can_be_off() -> None:
    state = Passive()
    assert state.failed(100.0, PassiveHealthConfig(max_fails=0)) is state


@given(gaps=st.lists(st.floats(0, 20), max_size=60), most=st.integers(1, 5))
def test_passive_ejects_exactly_when_the_window_is_full(gaps: list[float], most: int) -> None:
    config = PassiveHealthConfig(max_fails=most, fail_timeout=10.0)
    state, now = Passive(), 1.0
    since: list[float] = []
    for gap in gaps:
        now += gap
        state = state.returned(now)
        if state.until:
            assert now < state.until
            assert state.failed(now, config) is state
            continue
        since = [at for at in since if now - at < 10.0] + [now]
        state = state.failed(now, config)
        assert bool(state.until) is (len(since) >= most)
        if state.until:
            assert state.until == now + 10.0
            since = []


def test_an_ejection_goes_before_what_checks_say() -> None:
    health = Health(Active(Status.HEALTHY), Passive((), 50.0))
    assert health.status is Status.EJECTED
    health.passive = Passive()
    assert health.status is Status.HEALTHY


@pytest.mark.parametrize(
    ("health", "back"),
    [
        (Health(Active(Status.HEALTHY)), 0.0),
        (Health(Active(Status.HEALTHY), Passive((), 50.0)), 50.0),
        (Health(Active(Status.UNHEALTHY), checked=100.0), 120.0),
        (Health(Active(Status.UNHEALTHY, 1), checked=100.0), 110.0),
        (Health(Active(Status.UNHEALTHY, 1), Passive((), 115.0), checked=100.0), 115.0),
        (Health(Active(Status.UNHEALTHY)), 20.0),
    ],
)
def test_when_it_may_be_back(health: Health, back: float) -> None:
    assert health.back(THRESHOLDS) == back


def test_without_checks_only_an_ejection_keeps_it_out() -> None:
    assert Health(Active(Status.UNHEALTHY), Passive((), 7.0)).back(None) == 7.0


# Ejections that grow.

GROWING = PassiveHealthConfig(max_fails=1, fail_timeout=10.0, max_fail_timeout=35.0)


def test_every_further_ejection_is_longer_and_good_times_make_up_for_it() -> None:
    passive, now, times = Passive(), 100.0, []
    for pause in (0.0, 0.0, 0.0, 0.0, 25.0, 1000.0):
        now += pause
        passive = passive.failed(now, GROWING)
        times.append(passive.until - now)
        now = passive.until
        assert passive.returned(now - 0.1) is passive
        passive = passive.returned(now)
        assert not passive.until
    assert times == [10.0, 20.0, 30.0, 35.0, 30.0, 10.0]


def test_without_a_ceiling_every_ejection_is_the_same() -> None:
    passive = Passive().eject(5.0, 10.0, 0.0)
    assert passive == Passive((), 15.0)
    assert passive.returned(15.0) == Passive()


def test_who_may_not_be_ejected_keeps_its_failures() -> None:
    passive = Passive()
    for now in (1.0, 2.0, 3.0):
        passive = passive.failed(now, GROWING, may_eject=False)
    assert passive == Passive((3.0,))
    assert passive.failed(4.0, GROWING).until == 14.0


def test_checks_while_unhealthy_say_when_it_can_be_back() -> None:
    checks = HealthConfig(interval=30.0, unhealthy_interval=2.0, healthy_threshold=2)
    health = Health(Active(Status.UNHEALTHY), checked=100.0)
    assert health.back(checks) == 104.0
