"""Which endpoints there are and may be picked: tiers, slow starts, draining, what a reload
keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import HealthConfig, PassiveHealthConfig
from gateway.config.tables.traffic import RetryConfig
from gateway.core.failures import Failure
from gateway.core.telemetry import Telemetry
from gateway.upstream.pool.pool import Pool
from tests.unit.upstream.pool.world import BREAKER, HEALTH, PASSIVE, World, backup


def test_without_checks_everyone_counts_as_healthy() -> None:
    world = World("a", "b", backup("c"))
    assert world.eligible() == "a b"
    assert {world.exchange().host for _ in range(6)} == {"a", "b"}
    assert world.healthy() == {"a:80": 1, "b:80": 1, "c:80": 1}


TIERS = [
    # description, probes, eligible
    ("nothing is known yet", "", "a b"),
    ("the first success goes before the unknown", "a+", "a"),
    ("more join with their first success", "a+ b+", "a b"),
    ("an unhealthy primary leaves it to the unknown one", "a---", "b"),
    ("backups wait while a primary is unknown", "a--- c+", "b"),
    ("healthy backups serve when no primary can", "a--- b--- c+", "c"),
    ("unknown backups are the last resort", "a--- b---", "c d"),
    ("nobody is left", "a--- b--- c--- d---", ""),
    ("one success is not enough to come back", "a--- b--- c+ a+", "c"),
    ("two are", "a--- b--- c+ a++", "a"),
]


@pytest.mark.parametrize(
    ("probes", "eligible"), [case[1:] for case in TIERS], ids=[case[0] for case in TIERS]
)
def test_tiers(probes: str, eligible: str) -> None:
    world = World("a", "b", backup("c"), backup("d"), health=HEALTH)
    for step in probes.split():
        world.probe(step[0], *(result == "+" for result in step[1:]))
    assert world.eligible() == eligible
    if eligible:
        assert world.pool.pick("192.0.2.1").host in eligible.split()


def test_refresh_brings_back_without_a_pick_but_not_too_early() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    world.fail("a", 2)
    world.now += 10.0
    world.fail("b", 2)
    world.pool.refresh()
    assert world.eligible() == ""
    world.now += 10.0
    world.pool.refresh()
    assert world.eligible() == "a"
    world.now += 10.0
    world.pool.refresh()
    assert world.eligible() == "a b"


def test_making_a_pool_shows_nothing_to_others() -> None:
    telemetry = Telemetry()
    config = World.config("a", circuit_breaker=BREAKER)
    pool = Pool("becamera", config, telemetry=telemetry)
    assert pool.pick("").host == "a"
    assert not telemetry.endpoint_healthy.values
    assert not telemetry.circuit_state.values
    pool.reconfigure(config)
    assert telemetry.endpoint_healthy.values == {("becamera", "a:80"): 1}
    assert telemetry.circuit_state.values == {("becamera",): 0}


class Connection:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_reload_keeps_what_stays_and_drops_what_goes() -> None:
    world = World("a", "b", health=HEALTH)
    world.probe("a", True)
    world.probe("b", True)
    a, b = world.pool.endpoints
    busy_a, busy_b = world.pool.pick("", [b]), world.pool.pick("", [a])
    kept, closed = Connection(), Connection()
    a.idle.append(kept)
    b.idle.append(closed)
    dropped = world.reconfigure(
        "c", EndpointConfig("http://a:80/", weight=7, max_connections=9), health=HEALTH
    )
    assert dropped == (b,)
    assert [endpoint.host for endpoint in world.pool.endpoints] == ["c", "a"]
    assert world.endpoint("a") is a
    assert (a.weight, a.max_connections, a.in_flight, a.idle, kept.closed) == (
        7,
        9,
        1,
        [kept],
        False,
    )
    assert world.eligible() == "a"
    assert closed.closed
    assert world.healthy() == {"c:80": 0, "a:80": 1}
    # What was under way at the dropped one ends as it may; its connection comes back to nobody.
    assert b.retired and not a.retired
    world.pool.release(busy_b, False)
    world.pool.release(busy_a, True)
    assert (a.in_flight, b.in_flight) == (0, 0)
    assert world.healthy() == {"c:80": 0, "a:80": 1}


def test_failures_of_a_dropped_endpoint_blame_nobody() -> None:
    world = World("a", "b", circuit_breaker=BREAKER)
    b = world.endpoint("b")
    for _ in range(5):
        b.in_flight += 1
    world.reconfigure("a", circuit_breaker=BREAKER)
    for _ in range(5):
        world.pool.release(b, False, "connection reset")
    assert world.pool.breaker is not None and world.pool.breaker.failures == 0
    assert b.health.error == ""


def test_another_scheme_or_path_is_another_endpoint() -> None:
    world = World("a")
    (plain,) = world.pool.endpoints
    assert world.reconfigure(EndpointConfig("https://a:80")) == (plain,)
    assert world.endpoint("a") is not plain
    assert world.healthy() == {"a:80": 1}


def test_names_are_unique_in_their_pool() -> None:
    urls = ["http://a:80", "http://a:80/v1", "https://a:80", "https://a:80/v1"]
    world = World(*map(EndpointConfig, urls))
    assert [endpoint.name for endpoint in world.pool.endpoints] == [
        "a:80",
        "a:80/v1",
        "https://a:80",
        "https://a:80/v1",
    ]
    world.reconfigure(*map(EndpointConfig, ["http://a:80/v2", *urls[1:]]))
    assert [endpoint.name for endpoint in world.pool.endpoints] == [
        "a:80",
        "a:80/v1",
        "https://a:80",
        "https://a:80/v1",
    ]
    world.reconfigure(*map(EndpointConfig, ["https://a:80/v2", "http://a:80/v2", "https://a:80"]))
    assert [endpoint.name for endpoint in world.pool.endpoints] == [
        "a:80/v2",
        "a:80",
        "https://a:80",
    ]


RELOADS = [
    # description, checks before, probes, checks after, status after
    ("the same checks keep healthy", HEALTH, "+", HEALTH, "healthy"),
    ("the same checks keep unhealthy", HEALTH, "---", HEALTH, "unhealthy"),
    ("other checks keep healthy", HEALTH, "+", replace(HEALTH, path="/ready"), "healthy"),
    (
        "other checks make unhealthy unknown",
        HEALTH,
        "---",
        replace(HEALTH, path="/ready"),
        "unknown",
    ),
    ("other checks leave unknown unknown", HEALTH, "--", replace(HEALTH, path="/ready"), "unknown"),
    ("new checks begin with what was trusted", None, "", HEALTH, "healthy"),
    ("without checks everyone is trusted", HEALTH, "---", None, "healthy"),
]


@pytest.mark.parametrize(
    ("before", "probes", "after", "status"),
    [case[1:] for case in RELOADS],
    ids=[case[0] for case in RELOADS],
)
def test_health_after_a_reload(
    before: HealthConfig | None, probes: str, after: HealthConfig | None, status: str
) -> None:
    world = World("a", "b", health=before)
    world.probe("a", *(result == "+" for result in probes))
    world.reconfigure("a", "b", "c", health=after)
    assert world.endpoint("a").health.status == status
    assert world.endpoint("c").health.status == ("healthy" if after is None else "unknown")


def test_counts_towards_a_threshold_survive_the_same_checks_only() -> None:
    world = World("a", "b", health=HEALTH)
    world.probe("a", True, False, False)
    world.reconfigure("a", "b", health=replace(HEALTH))
    world.probe("a", False)
    assert world.endpoint("a").health.status == "unhealthy"
    world = World("a", "b", health=HEALTH)
    world.probe("a", True, False, False)
    world.reconfigure("a", "b", health=replace(HEALTH, interval=5.0))
    world.probe("a", False, False)
    assert world.endpoint("a").health.status == "healthy"


def test_an_ejection_survives_a_reload_unless_switched_off() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    world.fail("a", 2)
    world.reconfigure("a", "b", passive_health=replace(PASSIVE, max_fails=9))
    assert world.eligible() == "b"
    world.reconfigure("a", "b", passive_health=replace(PASSIVE, max_fails=0))
    assert world.eligible() == "a b"
    world.reconfigure("a", "b", passive_health=PASSIVE)
    world.fail("a", 2)
    world.reconfigure("a", "b")
    assert world.eligible() == "a b"


def test_the_breaker_keeps_its_state_and_takes_new_settings() -> None:
    world = World("a", circuit_breaker=BREAKER)
    world.fail("a", 3)
    breaker = world.pool.breaker
    world.reconfigure("a", circuit_breaker=replace(BREAKER, recovery_timeout=5.0))
    assert world.pool.breaker is breaker
    assert world.telemetry.circuit_state.values == {("becamera",): 1}
    world.now += 5.0
    assert world.exchange().host == "a"
    world.reconfigure("a")
    assert world.pool.breaker is None
    assert world.telemetry.circuit_state.values == {}
    world.reconfigure("a", circuit_breaker=BREAKER)
    assert world.telemetry.circuit_state.values == {("becamera",): 0}


def test_weights_and_balance_take_effect_at_once() -> None:
    world = World("a", "b", balance="round_robin")
    world.reconfigure(EndpointConfig("http://a:80", weight=3), "b", balance="round_robin")
    assert [world.pool.pick("").host for _ in range(4)].count("a") == 3
    world.reconfigure("a", "b", balance="ip_hash")
    assert len({world.pool.pick("192.0.2.9") for _ in range(9)}) == 1


def test_retry_settings_take_effect_at_once() -> None:
    world = World("a", retry=RetryConfig(budget=0.5))
    assert world.pool.budget.share == 0.5
    budget = world.pool.budget
    world.reconfigure("a", retry=RetryConfig(budget=0.1))
    assert world.pool.budget is budget
    assert budget.share == 0.1
    assert world.pool.config.retry == RetryConfig(budget=0.1)


def test_closing_leaves_nothing_behind() -> None:
    world = World("a", "b", circuit_breaker=BREAKER)
    connection = Connection()
    world.endpoint("a").idle.append(connection)
    busy = world.pool.pick("")
    assert [endpoint.host for endpoint in world.pool.close()] == ["a", "b"]
    assert connection.closed
    assert world.telemetry.endpoint_healthy.values == {}
    assert world.telemetry.circuit_state.values == {}
    world.pool.release(busy, False)
    assert busy.in_flight == 0
    assert world.refused().failure is Failure.NO_ENDPOINT
    assert world.telemetry.endpoint_healthy.values == {}


def test_try_all_when_nobody_is_left(caplog: pytest.LogCaptureFixture) -> None:
    world = World("a", "b", health=HealthConfig(unhealthy_threshold=1), on_empty="try_all")
    panic = world.telemetry.upstream_try_all
    assert panic.get(("becamera",)) == 0
    world.probe("a", False)
    world.probe("b", False)
    assert {world.exchange().host for _ in range(4)} == {"a", "b"}
    assert panic.get(("becamera",)) == 1
    assert world.healthy() == {"a:80": 0, "b:80": 0}
    assert (world.pool.status()["status"], world.pool.status()["trying_all"]) == ("unhealthy", True)
    world.probe("a", True, True)
    assert world.eligible() == "a"
    assert panic.get(("becamera",)) == 0
    assert "no endpoint can be picked: trying all; 2 of 2 eligible" in caplog.text
    assert "no longer trying all; 1 of 2 eligible" in caplog.text
    world.reconfigure("a", "b")
    assert ("becamera",) not in panic.values


def test_a_recovered_endpoint_starts_slowly() -> None:
    world = World(
        "a", "b", health=HealthConfig(unhealthy_threshold=1, healthy_threshold=1), slow_start=10.0
    )
    world.probe("a", True)
    world.probe("b", True)
    assert [one.weight for one in world.pool.endpoints] == [1, 1]
    world.probe("a", False)
    world.probe("a", True)
    weights = []
    for _ in range(11):
        world.exchange()
        weights.append(round(world.endpoint("a").weight, 1))
        world.now += 1.0
    assert weights == [0.1, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert world.pool.status()["endpoints"][0]["weight"] == 1


def test_who_joins_starts_slowly_and_gets_little() -> None:
    world = World("a", "b", slow_start=10.0)
    world.reconfigure("a", "b", "c", slow_start=10.0, balance="round_robin")
    taken = [world.exchange().host for _ in range(210)]
    assert taken.count("c") == 10
    world.now += 10.0
    taken = [world.exchange().host for _ in range(210)]
    assert taken.count("c") == 70


def test_an_ejected_one_comes_back_slowly() -> None:
    world = World(
        "a", "b", passive_health=PassiveHealthConfig(max_fails=1, fail_timeout=5.0), slow_start=10.0
    )
    world.fail("a")
    world.now += 5.0
    world.exchange()
    assert world.endpoint("a").weight == 0.1


def test_who_drains_finishes_what_it_has() -> None:
    world = World("a", "b")
    held = {world.pool.pick("k").host for _ in range(2)}
    assert held == {"a", "b"}
    world.reconfigure("a", EndpointConfig("http://b:80", drain=True))
    assert world.endpoint("b").in_flight == 1
    assert {world.exchange().host for _ in range(4)} == {"a"}
    assert "draining" in repr(world.endpoint("b"))
    world.reconfigure(
        EndpointConfig("http://a:80", weight=0), EndpointConfig("http://b:80", weight=0)
    )
    assert world.refused().failure is Failure.NO_ENDPOINT


def test_one_that_drains_is_not_shown_as_healthy() -> None:
    """In the metric; what it has in flight it still finishes."""
    world = World("a", EndpointConfig("http://b:80", drain=True))
    shown = world.telemetry.endpoint_healthy
    assert [shown.get(("becamera", name)) for name in ("a:80", "b:80")] == [1, 0]
    world.reconfigure("a", "b")
    assert shown.get(("becamera", "b:80")) == 1
