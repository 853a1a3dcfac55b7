"""The snapshots of the dashboard: one an interval for all, and what stands in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.admin.dashboard import live as module
from gateway.admin.dashboard.live import INTERVAL, SHOWN, Live
from gateway.core.clock import Clock
from gateway.core.telemetry import background_failures, log_lines_dropped
from tests.unit.admin.state import HEALTH, STATUS, State


class Time:
    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(lambda: self.now, lambda: 1_800_000_000 + self.now)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def live(state: State, time: Time) -> Live:
    return Live(state, time.clock)


async def look(live: Live) -> dict[str, Any]:
    return dict(json.loads(await live.body()))


async def test_everyone_who_looks_in_an_interval_gets_the_same_bytes(
    live: Live, state: State, time: Time
):
    first = await live.body()
    time.now += INTERVAL / 2
    state.telemetry.requests.add(("cameras", "GET", "200"), 4)
    assert all([await live.body() is first for _ in range(20)])
    assert state.refreshed == 1
    time.now += INTERVAL / 2
    second = json.loads(await live.body())
    assert state.refreshed == 2
    assert second["series"]["ok"] == [2.0]
    (route,) = second["routes"]
    assert (route["route"], route["rate"], route["total"]) == ("cameras", 2.0, 4)
    assert (route["match"], route["target"], route["pipeline"]) == (
        "/cameras", "becamera", "partner",
    )  # fmt: skip


async def test_points_go_back_a_quarter_of_an_hour_and_rates_a_minute(
    live: Live, state: State, time: Time
):
    for _ in range(int(2 * SHOWN / 10)):
        state.telemetry.requests.add(("cameras", "GET", "200"), 10)
        await live._sum()
        time.now += 10
    said = await look(live)
    assert len(said["series"]["at"]) == 91
    assert 60 <= said["recent"] <= 75
    assert said["routes"][0]["rate"] == pytest.approx(1.0, rel=0.2)


async def test_a_round_comes_sooner_while_somebody_looks(live: Live, time: Time):
    assert await live._round() == module.UNSEEN_INTERVAL
    await live.body()
    assert await live._round() == INTERVAL
    time.now += module.LOOKING
    assert await live._round() == module.UNSEEN_INTERVAL


async def test_routes_without_traffic_are_there_too(live: Live, state: State):
    said = await look(live)
    assert [(one["route"], one["rate"], one["p95_ms"]) for one in said["routes"]] == [
        ("cameras", 0.0, None)
    ]


async def test_nothing_that_has_no_place_is_shown(live: Live, state: State):
    state.health_now = {**HEALTH, "secret": "s3cr3t"}
    assert b"s3cr3t" not in await live.body()


async def test_warnings(live: Live, state: State, time: Time, monkeypatch: pytest.MonkeyPatch):
    now = 1_800_000_000 + time.now
    state.telemetry.certificate_expiry.set(("edge.pem",), now + 86400)
    state.telemetry.certificate_expiry.set(("old.pem",), now - 1)
    state.telemetry.certificate_expiry.set(("fresh.pem",), now + 90 * 86400)
    state.telemetry.worker_restarts.add((), 2)
    store = {"name": "redis://a", "status": "unhealthy", "reason": "refused"}
    state.health_now = {**HEALTH, "store": store}
    monkeypatch.setitem(STATUS, "waiting", ["[listen] waits for a restart"])
    monkeypatch.setattr(log_lines_dropped, "values", {})
    monkeypatch.setattr(background_failures, "values", {("usage",): 3})
    found = {(one["kind"], one["text"]) for one in (await look(live))["warnings"]}
    assert found == {
        ("restart", "[listen] waits for a restart"),
        ("store", "The store redis://a is away: refused"),
        ("certificate", "The certificate edge.pem expires in 1.0 days"),
        ("certificate", "The certificate old.pem has expired"),
        ("gateway_worker_restarts_total", "Workers ended and were started again 2 times"),
        ("gateway_background_failures_total", "Background work failed 3 times: usage"),
        ("configuration", "pipelines/partner.toml:3:1: warning: caching never looks up"),
    }
