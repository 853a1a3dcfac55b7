"""Which attempts may be repeated, after how long, and how many at once."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.tables.traffic import POLICIES, RetryConfig
from gateway.core.failures import Failure
from gateway.upstream.retry import FREE_RETRIES, Budget, asked_for, delay, is_idempotent, may_retry

CONFIG = RetryConfig(attempts=3, on=(*RetryConfig().on, "unavailable"))

CASES = [
    # description, method, outcome, attempt, replayable, keyed, reason
    ("a status of the list", "GET", 503, 1, True, False, "503"),
    ("a status that is not in the list", "GET", 500, 1, True, False, None),
    ("an answer that is none of a failure", "GET", 200, 1, True, False, None),
    ("a reset connection", "GET", Failure.CONNECTION_RESET, 1, True, False, "reset"),
    ("an answer that breaks off", "PUT", Failure.INCOMPLETE_RESPONSE, 1, True, False, "reset"),
    ("a timeout", "DELETE", Failure.READ_TIMEOUT, 2, True, False, "timeout"),
    ("a refused connection", "HEAD", Failure.CONNECT_FAILED, 1, True, False, "connect"),
    ("no connection in time", "OPTIONS", Failure.CONNECT_TIMEOUT, 1, True, False, "connect"),
    ("the last attempt", "GET", 503, 3, True, False, None),
    ("a failure nobody may repeat", "GET", Failure.BODY_TOO_LARGE, 1, True, False, None),
    ("POST answered 503: it may have been acted upon", "POST", 503, 1, True, False, None),
    ("POST reset", "POST", Failure.CONNECTION_RESET, 1, True, False, None),
    ("PATCH timed out", "PATCH", Failure.READ_TIMEOUT, 1, True, False, None),
    ("POST that was never sent", "POST", Failure.CONNECT_FAILED, 1, True, False, "connect"),
    ("PATCH that was never sent", "PATCH", Failure.DNS_FAILED, 1, True, False, "connect"),
    (
        "a body that was never sent is still whole",
        "PUT",
        Failure.CONNECT_FAILED,
        1,
        False,
        False,
        "connect",
    ),
    ("a body that is gone", "PUT", 503, 1, False, False, None),
    ("POST with an Idempotency-Key", "POST", 503, 1, True, True, "503"),
    ("POST with an Idempotency-Key and a body that is gone", "POST", 503, 1, False, True, None),
    ("methods are case-sensitive", "get", 503, 1, True, False, None),
    (
        "a call of gRPC whose status is in the list",
        "POST",
        "unavailable",
        1,
        True,
        False,
        "unavailable",
    ),
    ("a call of gRPC whose messages are gone", "POST", "unavailable", 1, False, False, None),
    (
        "a call of gRPC that succeeded, or failed otherwise",
        "POST",
        "internal",
        1,
        True,
        False,
        None,
    ),
    ("an answer that is no call's", "POST", "", 1, True, False, None),
]


@pytest.mark.parametrize(
    ("method", "outcome", "attempt", "replayable", "keyed", "reason"),
    [c[1:] for c in CASES],
    ids=[c[0] for c in CASES],
)
def test_may_retry(
    method: str,
    outcome: Failure | int | str,
    attempt: int,
    replayable: bool,
    keyed: bool,
    reason: str | None,
) -> None:
    assert may_retry(CONFIG, method, outcome, attempt, replayable, keyed) == reason


def test_only_what_the_list_names_is_retried() -> None:
    config = RetryConfig(on=("timeout", "500"))
    assert may_retry(config, "GET", 500, 1, True) == "500"
    assert may_retry(config, "GET", Failure.READ_TIMEOUT, 1, True) == "timeout"
    assert may_retry(config, "GET", 503, 1, True) is None
    assert may_retry(config, "POST", Failure.CONNECT_FAILED, 1, True) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
def test_idempotent_methods(method: str) -> None:
    assert is_idempotent(method)


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "get", "PURGE"])
def test_other_methods(method: str) -> None:
    assert not is_idempotent(method)


class Fixed(random.Random):
    """A random number generator that always says the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


def test_waits_double_from_the_first() -> None:
    config = RetryConfig(base_delay=0.1, max_delay=60.0)
    assert [delay(config, attempt, Fixed(0.0)) for attempt in (1, 2, 3, 4)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8]
    )
    assert delay(config, 1, Fixed(1.0)) == pytest.approx(0.13)


@given(
    base=st.floats(0, 10),
    longest=st.floats(0, 10),
    attempt=st.integers(1, 10),
    seed=st.integers(),
)
def test_a_wait_has_at_most_30_percent_of_jitter_and_never_passes_the_longest(
    base: float, longest: float, attempt: int, seed: int
) -> None:
    config = RetryConfig(base_delay=base, max_delay=longest)
    least = delay(config, attempt, Fixed(0.0))
    wait = delay(config, attempt, random.Random(seed))
    assert least <= wait <= least * 1.3
    assert wait <= longest * (1 + 1e-12)
    assert least <= base * 2 ** (attempt - 1)


def test_a_long_wait_still_has_jitter() -> None:
    config = RetryConfig(base_delay=1.0, max_delay=2.0)
    assert delay(config, 9, Fixed(1.0)) == pytest.approx(2.0)
    assert delay(config, 9, Fixed(0.0)) == pytest.approx(2.0 / 1.3)


def test_a_few_retries_are_always_allowed() -> None:
    budget = Budget(share=0.0)
    assert [budget.take(0) for _ in range(FREE_RETRIES + 1)] == [True] * FREE_RETRIES + [False]


def test_retries_are_a_share_of_the_requests_under_way() -> None:
    budget = Budget(share=0.2)
    assert sum(budget.take(100) for _ in range(100)) == 20
    budget.give()
    assert budget.take(100)
    assert not budget.take(100)
    assert repr(budget) == "<Budget 20 retrying, at most 20% of requests>"


@given(
    share=st.floats(0, 1),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=100),
)
def test_a_place_is_only_given_below_the_share(share: float, steps: list[tuple[bool, int]]) -> None:
    budget = Budget(share)
    held = 0
    for take, live in steps:
        if take:
            allowed = held < FREE_RETRIES or held < share * live
            assert budget.take(live) is allowed
            held += allowed
        elif held:
            budget.give()
            held -= 1
        assert budget.retrying == held


def test_what_was_saved_is_for_a_burst() -> None:
    budget = Budget(share=0.2)
    assert sum(budget.take(50, first=10_000) for _ in range(200)) == 100
    for _ in range(100):
        budget.attempt(again=False)
        budget.give()
    assert budget.made == 100
    assert sum(budget.take(50, first=10_000) for _ in range(60)) == 10
    assert sum(budget.take(1000, first=20_000) for _ in range(2000)) == 1000


@given(
    st.floats(0, 1),
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 100), st.integers(1, 3)), max_size=60),
)
def test_in_the_long_run_the_share_holds_whatever_was_saved(
    share: float, steps: list[tuple[int, int, int]]
) -> None:
    """Retries one after the other, so that the places for those at once allow FREE_RETRIES only by
    being free again."""
    budget, first, by_saving = Budget(share), 0, 0
    for requests, live, attempts in steps:
        first += requests
        for _ in range(FREE_RETRIES):
            assert budget.take(live, first)
        while budget.retrying < 50 and budget.retrying >= share * live and budget.take(live, first):
            by_saving += 1
            for attempt in range(attempts):
                budget.attempt(again=attempt > 0)
        while budget.retrying:
            budget.give()
    # One place may lead to several attempts; what it overdraws is paid back before there is
    # another.
    assert by_saving <= share * first + 1


# Policies.


@pytest.mark.parametrize(
    ("policy", "method", "keyed", "outcome", "attempts"),
    [
        ("read", "GET", False, 503, 4),
        ("read", "GET", False, Failure.READ_TIMEOUT, 4),
        ("read", "POST", False, 503, 1),
        ("idempotent_write", "PUT", False, 503, 1),
        ("idempotent_write", "PUT", True, 502, 4),
        ("idempotent_write", "POST", True, Failure.CONNECTION_RESET, 4),
        ("write", "POST", True, 503, 1),
        ("write", "GET", False, Failure.CONNECT_FAILED, 1),
        ("critical", "GET", False, 503, 2),
        ("critical", "GET", False, 502, 1),
        ("critical", "POST", False, 503, 1),
        ("critical", "POST", True, 503, 2),
    ],
)
def test_policies(
    policy: str, method: str, keyed: bool, outcome: Failure | int, attempts: int
) -> None:
    made = 1
    while may_retry(POLICIES[policy], method, outcome, made, True, keyed) is not None:
        made += 1
    assert made == attempts


@pytest.mark.parametrize(
    ("policy", "waits"),
    [("read", [0.1, 0.2, 0.4]), ("idempotent_write", [0.2, 0.4, 0.8]), ("critical", [1.0])],
)
def test_waits_of_policies(policy: str, waits: list[float]) -> None:
    class Never(random.Random):
        def random(self) -> float:
            return 0.0

    assert [
        delay(POLICIES[policy], attempt, Never()) for attempt in range(1, len(waits) + 1)
    ] == pytest.approx(waits)


def test_growth_and_jitter_are_configurable() -> None:
    config = RetryConfig(base_delay=1.0, max_delay=100.0, factor=3.0, jitter=0.0)
    assert [delay(config, attempt, random.Random(1)) for attempt in (1, 2, 3)] == [1.0, 3.0, 9.0]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        (b"3", 3),
        (b" 1.5 ", 1.5),
        (b"Fri, 31 Dec 1999 23:59:59 GMT", 0),
        (b"Sun, 06 Nov 2044 08:49:40 GMT", 3),
        (b"Sunday, 06-Nov-44 08:49:40 GMT", 3),
        (b"Sun Nov  6 08:49:40 2044", 3),
        (b"Sun, 06 Nov 99999999 08:49:40 GMT", 0),
        (b"Sun, 76 Nov 2044 08:49:40 GMT", 0),
        (b"\xff soon", 0),
        (b"-1", 0),
        (b"inf", 0),
        (b"nan", 0),
        (b"", 0),
    ],
)
def test_what_retry_after_asks_for(value: bytes | None, seconds: float) -> None:
    assert asked_for(value, datetime(2044, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()) == seconds
