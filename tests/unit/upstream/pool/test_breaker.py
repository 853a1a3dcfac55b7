"""The circuit breaker: what lets requests pass, what stops them, and that it never lets too many
try."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.config.tables.health import BreakerConfig
from gateway.upstream.pool.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, Window

CONFIG = BreakerConfig(failure_threshold=3, recovery_timeout=30.0, half_open_requests=2)


def opened(at: float = 0.0, under_way: int = 0) -> Breaker:
    breaker = Breaker(CONFIG)
    for _ in range(3):
        assert breaker.allow(at)
        breaker.failure(at, under_way)
    assert breaker.state == OPEN
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(CONFIG)
    for ok in (False, False, True, False, False):
        assert breaker.allow(0.0)
        breaker.success() if ok else breaker.failure(0.0)
    assert (breaker.state, breaker.failures) == (CLOSED, 2)
    breaker.abandon()
    assert (breaker.state, breaker.failures) == (CLOSED, 2)
    assert breaker.retry_after(0.0) == 0.0
    breaker.failure(0.0)
    assert breaker.state == OPEN
    assert repr(breaker) == "<Breaker open, 3 failures in a row>"


def test_open_refuses_until_the_time_is_over() -> None:
    breaker = opened(at=100.0)
    assert not breaker.allow(129.9)
    assert breaker.retry_after(110.0) == 20.0
    assert breaker.allow(130.0)
    assert breaker.state == HALF_OPEN
    assert breaker.retry_after(130.0) == 0.0


def test_outcomes_while_open_change_nothing() -> None:
    breaker = opened(at=100.0, under_way=2)
    breaker.success()
    breaker.failure(110.0)
    breaker.abandon()
    assert breaker.state == OPEN
    assert breaker.retry_after(110.0) == 20.0


def test_half_open_lets_so_many_try_and_closes_when_all_succeed() -> None:
    breaker = opened()
    assert [breaker.allow(30.0) for _ in range(4)] == [True, True, False, False]
    breaker.success()
    assert breaker.state == HALF_OPEN
    assert not breaker.allow(31.0)
    breaker.success()
    assert (breaker.state, breaker.failures) == (CLOSED, 0)
    assert breaker.allow(31.0)


def test_one_failed_trial_opens_it_again_for_the_whole_time() -> None:
    breaker = opened()
    assert breaker.allow(30.0)
    breaker.failure(40.0)
    assert breaker.state == OPEN
    assert not breaker.allow(69.9)
    assert breaker.allow(70.0)


def test_a_trial_whose_client_left_frees_its_slot() -> None:
    breaker = opened()
    assert breaker.allow(30.0)
    assert breaker.allow(30.0)
    breaker.abandon()
    assert [breaker.allow(31.0), breaker.allow(31.0)] == [True, False]


def test_abandoning_frees_no_slot_that_a_success_has_used() -> None:
    breaker = opened()
    assert breaker.allow(30.0)
    breaker.success()
    breaker.abandon()
    assert [breaker.allow(31.0), breaker.allow(31.0)] == [True, False]


def test_clients_that_leave_from_before_it_opened_free_no_slot() -> None:
    breaker = opened(under_way=5)
    assert [breaker.allow(30.0), breaker.allow(30.0)] == [True, True]
    for _ in range(5):
        breaker.abandon()
    assert not breaker.allow(30.0)
    breaker.abandon()
    assert breaker.allow(30.0)


def test_a_slot_that_was_not_used_is_given_back_whoever_is_still_under_way() -> None:
    breaker = opened(under_way=5)
    assert breaker.allow(30.0)
    breaker.withdraw()
    assert [breaker.allow(30.0), breaker.allow(30.0), breaker.allow(30.0)] == [True, True, False]


def test_trials_without_end_do_not_keep_everybody_out() -> None:
    breaker = opened()
    breaker.config = BreakerConfig(failure_threshold=3, recovery_timeout=30.0, half_open_requests=3)
    assert [breaker.allow(30.0), breaker.allow(30.0), breaker.allow(35.0)] == [True, True, True]
    breaker.success()
    assert not breaker.allow(64.9)
    assert [breaker.allow(65.0), breaker.allow(65.0), breaker.allow(65.0)] == [True, True, False]
    breaker.success()
    breaker.success()
    assert breaker.state == CLOSED


def test_it_can_be_closed_by_hand() -> None:
    breaker = opened()
    breaker.reset()
    assert (breaker.state, breaker.failures) == (CLOSED, 0)
    assert breaker.allow(0.0)


def test_settings_change_in_place() -> None:
    breaker = opened(at=100.0)
    breaker.config = BreakerConfig(failure_threshold=3, recovery_timeout=5.0, half_open_requests=1)
    assert breaker.allow(105.0)
    assert not breaker.allow(105.0)


@given(threshold=st.integers(1, 8), outcomes=st.lists(st.booleans(), max_size=40))
def test_closed_it_opens_exactly_at_the_threshold(threshold: int, outcomes: list[bool]) -> None:
    breaker = Breaker(BreakerConfig(failure_threshold=threshold))
    for number, ok in enumerate(outcomes, 1):
        breaker.success() if ok else breaker.failure(0.0)
        if outcomes[max(0, number - threshold) : number] == [False] * threshold:
            assert breaker.state == OPEN
            return
        assert breaker.state == CLOSED


class Trials(RuleBasedStateMachine):
    """Requests begin and end in any order. Which are trials is known here, so what the breaker lets
    pass can be checked."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(CONFIG)
        self.now = 0.0
        self.trials: list[float] = []
        """When each trial under way began."""
        self.others = 0
        """How many are under way that were sent while it was closed, or in an earlier half-open
        time."""

    def ended(self, before: int) -> None:
        if before == HALF_OPEN and self.breaker.state != HALF_OPEN:
            self.others += len(self.trials)
            self.trials = []

    @rule(seconds=st.sampled_from([0.0, 1.0, 10.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def request(self) -> None:
        before = self.breaker.state
        allowed = self.breaker.allow(self.now)
        if before == CLOSED:
            assert allowed
            self.others += 1
        elif allowed:
            assert self.breaker.state == HALF_OPEN
            self.trials.append(self.now)

    @precondition(lambda self: self.trials)
    @rule(outcome=st.sampled_from([True, False, None]))
    def trial_ends(self, outcome: bool | None) -> None:
        self.trials.pop(0)
        self.report(outcome)
        assert outcome is not False or self.breaker.state == OPEN

    @precondition(lambda self: self.others)
    @rule(outcome=st.sampled_from([True, False, None]))
    def other_ends(self, outcome: bool | None) -> None:
        self.others -= 1
        self.report(outcome)

    def report(self, outcome: bool | None) -> None:
        before = self.breaker.state
        if outcome is None:
            self.breaker.abandon()
            assert self.breaker.state == before
        elif outcome:
            self.breaker.success()
            assert self.breaker.state in (before, CLOSED)
        else:
            self.breaker.failure(self.now, self.others + len(self.trials))
            assert self.breaker.state in (before, OPEN)
        self.ended(before)

    @invariant()
    def never_too_many_try(self) -> None:
        young = [began for began in self.trials if self.now - began < CONFIG.recovery_timeout]
        assert len(young) <= CONFIG.half_open_requests

    @invariant()
    def somebody_may_try_in_time(self) -> None:
        if self.breaker.state == OPEN:
            assert 0.0 <= self.breaker.retry_after(self.now) <= CONFIG.recovery_timeout


TestTrials = Trials.TestCase


# By rate.

RATE = BreakerConfig(
    failure_threshold=0, failure_rate=0.5, window=10.0, minimum_requests=10, recovery_timeout=30.0
)


def asked(breaker: Breaker, now: float, *outcomes: bool) -> None:
    for ok in outcomes:
        breaker.success(now) if ok else breaker.failure(now)


def test_a_share_of_failures_opens_it() -> None:
    breaker = Breaker(RATE)
    assert breaker.wants_success
    asked(breaker, 1.0, *(True, False) * 4, True)
    assert breaker.state == CLOSED
    asked(breaker, 2.0, False)
    assert (breaker.state, breaker.why) == (OPEN, "5 of 10 requests failed within 10 s")
    breaker.reset()
    asked(breaker, 3.0, False)
    assert breaker.state == CLOSED


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker = Breaker(RATE)
    asked(breaker, 1.0, *(False,) * 9)
    asked(breaker, 12.0, False, *(True,) * 9)
    assert breaker.state == CLOSED
    asked(breaker, 12.5, *(False,) * 8)
    assert breaker.state == OPEN


def test_both_ways_of_counting_may_be_on() -> None:
    breaker = Breaker(BreakerConfig(failure_threshold=3, failure_rate=0.9, minimum_requests=100))
    asked(breaker, 1.0, False, False, True, False, False, False)
    assert (breaker.state, breaker.why) == (OPEN, "3 failures in a row")


def test_a_trial_that_fails_says_so_and_configure_keeps_what_was_counted() -> None:
    breaker = opened()
    assert breaker.allow(30.0)
    breaker.failure(30.0)
    assert (breaker.state, breaker.why) == (OPEN, "a trial failed")
    breaker.configure(RATE)
    assert breaker.state == OPEN
    breaker.reset()
    asked(breaker, 40.0, *(False,) * 9)
    breaker.configure(
        BreakerConfig(failure_threshold=0, failure_rate=0.5, window=10.0, minimum_requests=5)
    )
    asked(breaker, 41.0, False)
    assert breaker.state == OPEN
    breaker.reset()
    breaker.configure(CONFIG)
    assert not breaker.wants_success


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=80))
def test_a_window_counts_what_is_in_it(steps: list[tuple[float, bool]]) -> None:
    window, now, known = Window(10.0), 0.0, []
    for step, failed in steps:
        now += step
        window.add(now, failed)
        known.append((now, failed))
        slot = int(now / 1.0)
        inside = [bad for at, bad in known if int(at / 1.0) > slot - 10]
        assert (window.total, window.failed) == (len(inside), sum(inside))
