"""Metrics of several processes as those of one: sums, states, and what ended ones leave behind."""

from __future__ import annotations

import marshal
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.telemetry import HistogramFamily, Telemetry
from gateway.supervisor.sums import readings
from gateway.supervisor.sums.readings import Reading, add, give_up, read, telemetry_of, total

BOUNDS = (0.1, 1.0)


def reading(requests: int = 0, in_flight: int = 0, slow: int = 0, circuit: int = 0) -> Reading:
    telemetry = Telemetry()
    telemetry.families.clear()
    requests_total = telemetry._counter("requests_total", "Requests", "route")
    requests_total.add(("cameras",), requests)
    telemetry._gauge("requests_in_flight", "Now").set((), in_flight)
    telemetry._gauge("circuit_state", "States", "upstream").set(("cameras",), circuit)
    cell = telemetry._histogram("duration_seconds", "Durations", BOUNDS, "route").cell(("cameras",))
    cell.counts[2] += slow
    cell.total += 5.0 * slow
    return read(telemetry)


def values(found: Reading, name: str) -> dict:
    return found[f"gateway_{name}"][1]


def test_sums_and_states():
    found = total([reading(3, 2, 1, 2), reading(4, 1, 2, 0), reading(0, 0, 0, 1)])
    assert values(found, "requests_total") == {("cameras",): 7}
    assert values(found, "requests_in_flight") == {(): 3}
    assert values(found, "circuit_state") == {("cameras",): 1}, "open is the worst"
    assert values(found, "duration_seconds") == {("cameras",): ((0, 0, 3), 15.0)}


def test_an_ended_process_leaves_what_never_falls():
    base: Reading = {}
    add(base, reading(3, 2, 1, 1), gauges=False)
    assert base.keys() == {"gateway_requests_total", "gateway_duration_seconds"}
    found = total([base, reading(1, 1)])
    assert values(found, "requests_total") == {("cameras",): 4}
    assert values(found, "requests_in_flight") == {(): 1}


def by_client(**counts: int) -> Reading:
    telemetry = Telemetry()
    for client, count in counts.items():
        telemetry.client_requests.add((client,), count)
    return read(telemetry)


def shown(*readings: Reading) -> dict[str, float]:
    found = total(readings)["gateway_client_requests_total"][1]
    return {labels[0]: value for labels, value in found.items() if value}


def test_a_client_that_one_process_gives_up_does_not_fall():
    base: Reading = {}
    one, two = by_client(a=7, b=2, _other=1), by_client(a=5)
    give_up(base, {}, one, [two])
    after = by_client(b=2, c=1, _other=1 + 8)  # one more request of `a` since
    give_up(base, one, after, [two])
    assert shown(base, after, two) == {"a": 12, "b": 2, "c": 1, "_other": 2}
    last = by_client(_other=5)
    give_up(base, two, last, [after])
    assert shown(base, after, last) == {"a": 7, "b": 2, "c": 1, "_other": 7}


def test_clients_that_no_process_counts_any_more_are_among_the_rest(
    monkeypatch: pytest.MonkeyPatch,
):
    base: Reading = {}
    add(base, by_client(a=7, b=2), gauges=False)
    give_up(base, {}, by_client(b=1), [])
    assert shown(base) == {"a": 7, "b": 2}
    monkeypatch.setattr(readings, "KEPT_CLIENTS", 1)
    give_up(base, {}, by_client(b=1), [])
    assert shown(base) == {"b": 2, "_other": 7}


def test_adding_changes_nothing_that_was_added():
    first, second = reading(1, slow=1), reading(2, slow=1)
    before = deepcopy((first, second))
    total([first, second])
    assert (first, second) == before


def test_everything_of_a_process_is_shown_again():
    telemetry = Telemetry()
    telemetry.requests.add(("cameras", "GET", "200"), 2)
    telemetry.request_duration.cell(("cameras", "GET")).counts[3] = 7
    shown = telemetry_of(marshal.loads(marshal.dumps(read(telemetry))))
    assert [one.name for one in shown.families] == [one.name for one in telemetry.families]
    durations = next(one for one in shown.families if one.name.endswith("request_duration_seconds"))
    assert isinstance(durations, HistogramFamily)
    assert durations.cells[("cameras", "GET")].counts[3] == 7
    assert shown.request_duration is durations
    assert shown.requests.get(("cameras", "GET", "200")) == 2


lives = st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=5), min_size=1, max_size=5)


@given(lives)
def test_counters_never_fall_over_lives_of_a_worker(lives):
    """Each life counts up; its last reading goes into the base when it ends."""
    base: Reading = {}
    shown, everything = 0, 0
    for increments in lives:
        count, last = 0, {}
        for increment in increments:
            count += increment
            everything += increment
            last = reading(count)
            now = values(total([base, last]), "requests_total")[("cameras",)]
            assert now >= shown
            shown = now
        add(base, last, gauges=False)
    assert values(total([base]), "requests_total")[("cameras",)] == everything
