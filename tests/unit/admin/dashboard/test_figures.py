"""Rates, shares and times from counters, against plain arithmetic."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.dashboard import figures
from gateway.admin.dashboard.figures import Counts, counts, gained, point, quantile, rates
from gateway.core.telemetry import Telemetry


def observe(telemetry: Telemetry, route: str, code: str, seconds: float, times: int = 1) -> None:
    telemetry.requests.add((route, "GET", code), times)
    cell = telemetry.request_duration.cell((route, "GET"))
    place = sum(1 for bound in cell.bounds if bound < seconds)
    cell.counts[place] += times
    cell.total += seconds * times


async def test_what_happened_between_two_sums():
    telemetry = Telemetry()
    observe(telemetry, "cameras", "200", 0.004, 10)
    then = await counts(telemetry, 100.0)
    observe(telemetry, "cameras", "200", 0.02, 6)
    observe(telemetry, "cameras", "404", 0.02, 2)
    observe(telemetry, "cameras", "503", 0.2, 2)
    observe(telemetry, "other", "200", 0.02, 4)
    now = await counts(telemetry, 102.0)
    made = point(now, then)
    assert (made["ok"], made["client_errors"], made["server_errors"]) == (5.0, 1.0, 1.0)
    assert 10 <= made["p50"] <= 25 and 100 <= made["p99"] <= 250  # type: ignore[operator]
    first, second = figures.routes(now, then, 10)
    assert first == {
        "route": "cameras", "total": 20, "rate": 5.0, "client_errors": 0.2, "server_errors": 0.2,
        "mean_ms": 56.0, "p95_ms": first["p95_ms"],
    }  # fmt: skip
    assert second["route"] == "other"
    assert len(figures.routes(now, then, 1)) == 1


async def test_without_an_earlier_sum_there_are_totals_alone():
    telemetry = Telemetry()
    telemetry.client_requests.add(("acme",), 5)
    telemetry.client_errors.add(("acme",), 2)
    telemetry.failures.add(("rate_limited",), 2)
    now = await counts(telemetry, 1.0)
    assert figures.clients(now, None, 10) == [
        {"client": "acme", "total": 5, "errors": 2, "rate": 0.0, "error_rate": 0.0}
    ]
    assert rates(now, None, "gateway_failures_total") == [(("rate_limited",), 2, 0.0)]
    assert rates(now, None, "gateway_cache_requests_total") == []


async def test_the_busiest_come_first():
    telemetry = Telemetry()
    telemetry.failures.add(("old",), 100)
    then = await counts(telemetry, 0.0)
    telemetry.failures.add(("new",), 3)
    now = await counts(telemetry, 60.0)
    found = rates(now, then, "gateway_failures_total")
    assert found == [(("new",), 3, 3.0), (("old",), 100, 0.0)]


async def test_limits_near_their_end_and_beyond():
    telemetry = Telemetry()
    then = await counts(telemetry, 0.0)
    telemetry.rate_near.add(("cameras", "standard"), 6)
    telemetry.rate_near.add(("login", "strict"), 2)
    telemetry.rate_limited.add(("login", "strict"), 4)
    now = await counts(telemetry, 120.0)
    assert figures.limits(now, then, 10) == [
        {
            "route": "login", "policy": "strict",
            "near": 2, "near_rate": 1.0, "refused": 4, "refused_rate": 2.0,
        },
        {
            "route": "cameras", "policy": "standard",
            "near": 6, "near_rate": 3.0, "refused": 0, "refused_rate": 0.0,
        },
    ]  # fmt: skip
    assert len(figures.limits(now, then, 1)) == 1


def test_what_began_anew_counts_from_zero():
    then, now = Counts(0.0), Counts(1.0)
    then.sums["a"] = {("x",): 10.0, ("y",): 1.0}
    now.sums["a"] = {("x",): 3.0, ("y",): 4.0}
    assert gained(now, then, "a") == {("y",): 3.0}


async def test_many_cells_are_summed_in_slices(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures, "SLICE", 20)
    telemetry = Telemetry()
    for number in range(100):
        observe(telemetry, f"r{number % 7}", "200", 0.01)
        telemetry.client_requests.add((f"c{number}",))
    now = await counts(telemetry, 0.0)
    assert sum(now.sums["gateway_requests_total"].values()) == 100
    assert len(now.sums["gateway_client_requests_total"]) == 100
    assert sum(map(sum, (one for one, _ in now.times["gateway_request_duration_seconds"].values()))) == 100  # fmt: skip


buckets = st.lists(st.integers(0, 50), min_size=4, max_size=4)


@given(buckets)
def test_quantiles_rise_and_stay_within_the_bounds(found: list[int]):
    bounds = (0.1, 0.5, 2.0)
    values = [quantile(found, bounds, share) for share in (0.01, 0.25, 0.5, 0.9, 1.0)]
    if not sum(found):
        assert values == [None] * 5
        return
    assert all(0 <= low <= high <= 2000 for low, high in pairwise(values))  # type: ignore[operator]
    # Each lies in the bucket that holds it.
    below = sum(found[:2]) / sum(found)
    assert (values[2] <= 500) == (below >= 0.5)  # type: ignore[operator]
