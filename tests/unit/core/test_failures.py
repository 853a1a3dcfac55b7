"""The table of failures: what clients, logs and retries make of each."""

from __future__ import annotations

import pickle

import pytest

from gateway.core.failures import (
    Failed,
    Failure,
    failure_words,
    failures_called,
    own_failure,
)

PROXY_ERRORS = {
    "destination_unavailable", "connection_limit_reached", "connection_refused", "dns_error", "tls_protocol_error",
    "connection_terminated", "http_protocol_error", "http_response_incomplete", "connection_timeout",
    "connection_read_timeout", "connection_write_timeout", "http_response_timeout", "proxy_internal_error",
}  # fmt: skip
"""Those of RFC 9209 section 2.3 that are in use."""


@pytest.mark.parametrize("failure", Failure)
def test_each(failure: Failure):
    assert failure.reason == failure.name.lower()
    assert failure.level in ("debug", "info", "warning", "error")
    assert 400 <= failure.status <= 599 and failure.title
    assert failure.proxy_error is None or failure.proxy_error in PROXY_ERRORS
    # What is the client's own fault is neither tried again nor held against an endpoint.
    if failure.status < 500:
        assert not failure.blames and failure.retry is None and failure.proxy_error is None
    assert failure.retry is None or failure.blames


def test_a_code_has_one_status():
    statuses = {(failure.code, failure.status) for failure in Failure}
    assert len(statuses) == len({failure.code for failure in Failure})


def test_twins_are_not_aliases():
    assert Failure.NO_ENDPOINT is not Failure.CIRCUIT_OPEN
    assert len({failure.value for failure in Failure}) == len(list(Failure))
    assert pickle.loads(pickle.dumps(Failure.CIRCUIT_OPEN)) is Failure.CIRCUIT_OPEN


def test_what_it_says_is_for_operators_first():
    assert str(
        Failed(Failure.EXPIRED, "The key has expired.", why="key k_1 expired 2026-10-01")
    ) == ("expired: key k_1 expired 2026-10-01")
    assert str(Failed(Failure.EXPIRED, "The key has expired.")) == "expired: The key has expired."
    assert str(Failed(Failure.EXPIRED)) == "expired: Credentials expired"


def test_failures_by_code_and_by_reason():
    assert failures_called("circuit_open") == (Failure.CIRCUIT_OPEN,)
    assert set(failures_called("SVC_001")) == {
        Failure.NO_ENDPOINT,
        Failure.CIRCUIT_OPEN,
        Failure.OVERLOADED,
    }
    assert failures_called("SVC_999") == ()
    assert all(failures_called(word) for word in failure_words())
    assert {"SVC_001", "circuit_open"} <= set(failure_words())


def test_a_failure_of_a_middlewares_own():
    kind = own_failure("LOOKUP_001", 424, "Lookup failed")
    assert (kind.reason, kind.level, kind.retry, kind.blames) == ("lookup_001", "info", None, False)
    assert kind == own_failure("LOOKUP_001", 424, "Lookup failed")
    assert str(Failed(kind)) == "lookup_001: Lookup failed"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("lookup", 424),
        ("L", 424),
        ("X" * 65, 424),
        ("AUTH_001", 401),
        ("NO_ROUTE", 404),
        ("OWN_1", 200),
    ],
)
def test_what_no_failure_of_ones_own_may_be(code: str, status: int):
    with pytest.raises(ValueError):
        own_failure(code, status, "x")
