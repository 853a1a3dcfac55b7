"""Each finished request is counted once in every family it concerns, and no stranger can make a
family grow without end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.core import identities
from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context
from gateway.core.identities import Clients
from gateway.core.telemetry import SIZE_BUCKETS, Family, Telemetry
from gateway.lifetime.registry import Registry
from gateway.middlewares.metrics import (
    ACTIVE_MAX,
    ACTIVE_SECONDS,
    CONFIG,
    SIZES,
    TURN,
    Active,
    Metrics,
    MetricsConfig,
    build,
)
from tests.exchange import exchange
from tests.telemetry import observe


def answered(method: str = "GET", route: str | None = "cameras", **facts: Any) -> Exchange:
    return exchange(
        method,
        "/cameras",
        route=route,
        **{"started": 100.0, "reply": Reply(200), "written": True, **facts},
    )


def finished(*exchanges: Exchange, now: float = 100.03) -> Telemetry:
    telemetry = Telemetry()
    counted = Metrics(telemetry, lambda: now)
    for each in exchanges:
        counted.finish(each)
    return telemetry


def test_requests_by_route_method_and_code():
    failed = Failed(Failure.CLIENT_GONE)
    telemetry = finished(
        answered(),
        answered(),
        answered("POST", reply=Reply(201)),
        answered("BREW", route=None, reply=Reply(404)),
        answered(route="health", reply=None, written=False, failed=failed),
    )
    assert telemetry.requests.values == {
        ("cameras", "GET", "200"): 2,
        ("cameras", "POST", "201"): 1,
        ("_none", "other", "404"): 1,
        ("health", "GET", "499"): 1,
    }


def test_durations_and_sizes():
    telemetry = finished(
        answered(bytes_in=64, bytes_out=65), answered(reply=Reply(404), bytes_in=0, bytes_out=10**9)
    )
    duration = telemetry.request_duration.cells[("cameras", "GET")]
    assert duration.total == pytest.approx(0.06)
    assert [
        count
        for bound, count in zip(duration.bounds, duration.counts, strict=False)
        if bound == 0.05
    ] == [2]
    assert sum(duration.counts) == 2
    request, response = (
        telemetry.request_size.cells[("cameras",)],
        telemetry.response_size.cells[("cameras",)],
    )
    assert (request.total, request.counts[0], sum(request.counts)) == (64, 2, 2)
    assert (response.total, response.counts[1], response.counts[-1]) == (65 + 10**9, 1, 1)


@settings(max_examples=100, deadline=None)
@given(st.integers(min_value=0, max_value=2**40), st.floats(min_value=0, max_value=100))
def test_counted_as_a_histogram_would(size: int, took: float):
    telemetry = finished(answered(bytes_in=size, bytes_out=size), now=100.0 + took)
    plain = Telemetry()
    observe(plain.response_size.cell(("cameras",)), size)
    observe(plain.request_duration.cell(("cameras", "GET")), (100.0 + took) - 100.0)
    for counted, observed in (
        (telemetry.request_size.cell(("cameras",)), plain.response_size.cell(("cameras",))),
        (telemetry.response_size.cell(("cameras",)), plain.response_size.cell(("cameras",))),
        (
            telemetry.request_duration.cell(("cameras", "GET")),
            plain.request_duration.cell(("cameras", "GET")),
        ),
    ):
        assert (counted.counts, counted.total) == (observed.counts, observed.total)


def test_sizes_have_the_bounds_of_the_family():
    assert SIZES == SIZE_BUCKETS


def test_failures_by_reason():
    telemetry = finished(
        answered(),
        answered(failed=Failed(Failure.RATE_LIMITED)),
        answered(failed=Failed(Failure.TIMEOUT)),
        answered(failed=Failed(Failure.TIMEOUT)),
    )
    assert telemetry.failures.values == {("rate_limited",): 1, ("timeout",): 2}


def test_calls_that_an_endpoint_says_have_failed_count_by_their_status():
    telemetry = finished(
        answered("POST"),
        answered("POST", reason="grpc_not_found"),
        answered("POST", reason="grpc_unavailable", failed=Failed(Failure.TIMEOUT)),
    )
    assert telemetry.failures.values == {("grpc_not_found",): 1, ("timeout",): 1}


def test_requests_by_client_count_those_who_said_who_they_are():
    telemetry = finished(
        answered(),
        answered(identity=Identity("acme", "api_key")),
        answered(identity=Identity("acme", "jwt")),
    )
    assert telemetry.client_requests.values == {("acme",): 2}


def test_failures_by_client_and_active_clients():
    telemetry = finished(
        answered(identity=Identity("acme", "jwt")),
        answered(identity=Identity("acme", "jwt"), reply=Reply(429)),
        answered(identity=Identity("other", "jwt")),
        answered(failed=Failed(Failure.UNAUTHENTICATED)),
    )
    assert telemetry.client_errors.values == {("acme",): 1}
    active = Active(telemetry.active_clients)
    for client in ("a", "b", "a"):
        active.note(client)
    for _ in range(ACTIVE_SECONDS // TURN):
        active.turn()
        assert telemetry.active_clients.get() == 2
    active.note("c")
    active.turn()
    assert telemetry.active_clients.get() == 1
    for number in range(ACTIVE_MAX + 10):
        active.note(str(number))
    assert len(active.seen) == ACTIVE_MAX
    active.close()


def test_requests_in_flight_are_not_its_business():
    assert finished(answered()).in_flight.level == 0


@pytest.mark.parametrize("method", ["get", "GETT", "", "\udcff"])
def test_methods_a_stranger_makes_up_are_one(method: str):
    assert list(finished(answered(method)).requests.values) == [("cameras", "other", "200")]


# Clients.


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Clients:
    """Two have a series, three others are watched, and a round is ten requests of others."""
    monkeypatch.setattr(identities, "CANDIDATES", 3)
    monkeypatch.setattr(identities, "ROUND", 10)
    return Clients(Telemetry().client_requests, most=2)


def count(clients: Clients, *names: str, **times: int) -> dict[str, float]:
    for name in (*names, *(name for name, number in times.items() for _ in range(number))):
        clients.count(name)
    return {labels[0]: value for labels, value in clients._family.values.items()}


def test_the_first_have_a_series_and_the_rest_share_one(clients: Clients):
    assert count(clients, a=3, b=1, c=2, d=1) == {"a": 3, "b": 1, "_other": 3}


def test_a_busier_client_takes_the_place_of_the_idlest(clients: Clients):
    count(clients, a=6, b=4, c=9)
    assert count(clients, d=1) == {"a": 6, "_other": 4 + 10}
    assert count(clients, c=2, b=1) == {"a": 6, "c": 2, "_other": 15}


@pytest.mark.parametrize(
    ("idle", "stay"),
    [
        ({"a": 2, "b": 1}, ["a", "d"]),
        ({"a": 1, "b": 1}, ["c", "d"]),
        ({"a": 1, "b": 3}, ["b", "d"]),
    ],
)
def test_the_busiest_newcomer_comes_first_and_takes_the_idlest_place(
    clients: Clients, idle: dict[str, int], stay: list[str]
):
    count(clients, **idle)
    count(clients, c=4, d=6)
    assert sorted(clients._labels) == stay
    assert sum(clients._family.values.values()) == sum(idle.values()) + 10


def test_twice_as_busy_is_not_enough(clients: Clients):
    assert count(clients, a=5, b=5, c=10) == {"a": 5, "b": 5, "_other": 10}


def test_only_what_happened_in_this_round_counts(clients: Clients):
    count(clients, a=100, b=100, c=10)
    assert set(count(clients, a=5, c=10)) == {"a", "_other"}
    assert count(clients, c=1) == {"a": 105, "c": 1, "_other": 100 + 20}


def test_candidates_are_bounded(clients: Clients):
    count(clients, "a", "b", *(f"stranger{number}" for number in range(9)))
    assert len(clients._candidates) == 3
    count(clients, "stranger0")
    assert clients._candidates == {}


def test_those_with_a_series_keep_it_across_a_restart_of_counting(clients: Clients):
    count(clients, a=1, b=1, c=1)
    again = Clients(clients._family, most=2)
    assert count(again, a=1, c=1, d=1) == {"a": 2, "b": 1, "_other": 3}


def test_a_client_called_other_is_one_of_the_others(clients: Clients):
    assert count(clients, "_other", a=1) == {"_other": 1, "a": 1}
    assert count(clients, b=1, c=1) == {"_other": 2, "a": 1, "b": 1}


def test_names_no_label_could_have(clients: Clients):
    assert count(clients, "\ud800x", "y" * 500) == {"?x": 1, "y" * 128: 1}


def test_two_names_with_one_label_survive_losing_it(clients: Clients):
    count(clients, "\ud800", "\ud801", c=10)
    assert count(clients, "\ud801", "c")["c"] == 1
    assert sum(clients._family.values.values()) == 14


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=12), max_size=300))
def test_the_sum_is_exact_nothing_falls_and_series_are_bounded(asked: list[int]):
    family = Family("counter", "x", "", ("client",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identities, "CANDIDATES", 4)
        patch.setattr(identities, "ROUND", 7)
        clients = Clients(family, most=3)
        before: dict[tuple[str, ...], float] = {}
        for number, name in enumerate(asked, 1):
            clients.count(str(name))
            assert sum(family.values.values()) == number
            assert len(family.values) <= 4
            assert all(
                family.values[labels] >= value
                for labels, value in before.items()
                if labels in family.values
            )
            before = dict(family.values)


# Building.


def test_every_pipeline_shares_one():
    keep = Registry()
    draft = keep.draft()
    context = Context("metrics", pipeline="a", keep=draft.keep)
    first = build(MetricsConfig(), context)
    second = build(
        MetricsConfig(),
        Context("metrics", pipeline="b", telemetry=context.telemetry, keep=draft.keep),
    )
    assert first.finish is not None
    assert first.finish == second.finish
    assert (first.request, first.response, first.error) == (None, None, None)
    first.finish(answered())
    assert context.telemetry.requests.values == {("cameras", "GET", "200"): 1}


def test_it_has_no_settings():
    assert CONFIG().load({}) == MetricsConfig()
    with pytest.raises(ValidationError):
        CONFIG().load({"buckets": [1]})
