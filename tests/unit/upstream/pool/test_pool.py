"""Pools: who may be picked, what outcomes do to that, and what a reload keeps."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import BreakerConfig, HealthConfig, PassiveHealthConfig
from gateway.config.tables.traffic import RetryConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.clock import Clock
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.health import Status
from gateway.upstream.pool.pool import Pool

HEALTH = HealthConfig(interval=10.0, unhealthy_threshold=3, healthy_threshold=2)
PASSIVE = PassiveHealthConfig(max_fails=2, fail_timeout=20.0)
BREAKER = BreakerConfig(failure_threshold=3, recovery_timeout=30.0, half_open_requests=2)


class World:
    """A pool with a clock that is set by hand."""

    def __init__(self, *endpoints: EndpointConfig | str, **settings: Any) -> None:
        self.now = 1000.0
        self.telemetry = Telemetry()
        self.pool = Pool(
            "becamera",
            self.config(*endpoints, **settings),
            clock=Clock(monotonic=lambda: self.now),
            telemetry=self.telemetry,
            rng=random.Random(5),
        )
        self.pool.reconfigure(self.pool.config)

    @staticmethod
    def config(*endpoints: EndpointConfig | str, **settings: Any) -> UpstreamConfig:
        made = tuple(EndpointConfig(f"http://{e}:80") if isinstance(e, str) else e for e in endpoints)
        return UpstreamConfig(endpoints=made, **settings)

    def reconfigure(self, *endpoints: EndpointConfig | str, **settings: Any) -> tuple[Endpoint, ...]:
        return self.pool.reconfigure(self.config(*endpoints, **settings))

    def endpoint(self, name: str) -> Endpoint:
        return next(endpoint for endpoint in self.pool.endpoints if endpoint.host == name)

    def eligible(self) -> str:
        return " ".join(endpoint.host for endpoint in self.pool.eligible)

    def probe(self, name: str, *results: bool) -> None:
        for ok in results:
            self.pool.probed(self.endpoint(name), ok, "" if ok else "connection refused", 0.01)

    def fail(self, name: str, times: int = 1) -> None:
        for _ in range(times):
            endpoint = self.endpoint(name)
            endpoint.in_flight += 1
            self.pool.release(endpoint, False, "connection reset")

    def exchange(self, ok: bool | None = True) -> Endpoint:
        endpoint = self.pool.pick("192.0.2.1")
        self.pool.release(endpoint, ok)
        return endpoint

    def refused(self, tried: tuple[Endpoint, ...] = ()) -> Failed:
        with pytest.raises(Failed) as caught:
            self.pool.pick("192.0.2.1", tried)
        return caught.value

    def healthy(self) -> dict[str, float]:
        return {endpoint: value for (_, endpoint), value in self.telemetry.endpoint_healthy.values.items()}


def backup(name: str) -> EndpointConfig:
    return EndpointConfig(f"http://{name}:80", backup=True)


def limit(name: str, most: int) -> EndpointConfig:
    return EndpointConfig(f"http://{name}:80", max_connections=most)


# Who is eligible.


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


@pytest.mark.parametrize(("probes", "eligible"), [case[1:] for case in TIERS], ids=[case[0] for case in TIERS])
def test_tiers(probes: str, eligible: str) -> None:
    world = World("a", "b", backup("c"), backup("d"), health=HEALTH)
    for step in probes.split():
        world.probe(step[0], *(result == "+" for result in step[1:]))
    assert world.eligible() == eligible
    if eligible:
        assert world.pool.pick("192.0.2.1").host in eligible.split()


def test_failures_in_time_eject_and_time_brings_back() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    world.fail("a")
    world.now += 19.0
    world.fail("a")
    assert world.eligible() == "b"
    assert world.healthy() == {"a:80": 0, "b:80": 1}
    world.fail("a")
    world.now += 19.9
    assert world.exchange().host == "b"
    world.now += 0.1
    world.exchange()
    assert world.eligible() == "a b"
    assert world.healthy() == {"a:80": 1, "b:80": 1}


def test_failures_far_apart_do_not_eject() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    for _ in range(5):
        world.fail("a")
        world.now += 20.0
    assert world.eligible() == "a b"


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


def test_the_only_endpoint_is_never_ejected() -> None:
    world = World("a", passive_health=PASSIVE)
    world.fail("a", 10)
    assert world.exchange().host == "a"
    world = World("a", "b", passive_health=PASSIVE)
    world.fail("a", 2)
    world.reconfigure("a", passive_health=PASSIVE)
    assert world.eligible() == "a"


def test_without_passive_health_nobody_is_ejected() -> None:
    world = World("a", "b")
    world.fail("a", 10)
    assert world.eligible() == "a b"
    assert world.endpoint("a").health.error == "connection reset"


def test_outcomes_without_blame_count_for_nothing() -> None:
    world = World("a", "b", passive_health=PASSIVE, circuit_breaker=BREAKER)
    for _ in range(10):
        world.exchange(None)
    assert world.eligible() == "a b"
    assert world.pool.breaker is not None and world.pool.breaker.failures == 0


def test_probes_of_strangers_are_ignored() -> None:
    world = World("a", "b", health=HEALTH)
    gone = world.endpoint("b")
    world.reconfigure("a", health=HEALTH)
    for _ in range(3):
        world.pool.probed(gone, False, "refused")
    assert gone.health.status is Status.UNKNOWN
    world.reconfigure("a")
    world.probe("a", False, False, False)
    assert world.eligible() == "a"


# Picking.


def test_a_pick_counts_and_a_release_counts_back() -> None:
    world = World("a", "b")
    picked = [world.pool.pick("192.0.2.1") for _ in range(4)]
    assert [endpoint.in_flight for endpoint in world.pool.endpoints] == [2, 2]
    assert world.pool.in_flight == 4
    for endpoint in picked:
        world.pool.release(endpoint, True)
    assert world.pool.in_flight == 0


def test_a_retry_goes_elsewhere_if_there_is_an_elsewhere() -> None:
    world = World("a", "b", backup("c"))
    a, b, c = world.pool.endpoints
    assert world.pool.pick("", [a]) is b
    assert world.pool.pick("", [b]) is a
    assert world.pool.pick("", (a, b)) is c
    assert world.pool.pick("", (a, b, c)) in (a, b)


def test_a_retry_with_one_endpoint_stays_there() -> None:
    world = World("a")
    (a,) = world.pool.endpoints
    assert world.pool.pick("", [a]) is a


def test_a_retry_never_goes_to_an_unhealthy_one() -> None:
    world = World("a", "b", health=HEALTH)
    world.probe("a", True)
    world.probe("b", False, False, False)
    a = world.endpoint("a")
    assert world.pool.pick("", [a]) is a


def test_full_primaries_overflow_into_the_next_tier_until_all_is_full() -> None:
    world = World(limit("a", 1), limit("b", 2), replace(limit("c", 1), backup=True))
    picked = [world.pool.pick("").host for _ in range(4)]
    assert sorted(picked[:3]) == ["a", "b", "b"]
    assert picked[3] == "c"
    failed = world.refused()
    assert failed.failure is Failure.OVERLOADED
    assert failed.headers == ((b"Retry-After", b"1"),)
    assert "max_connections" in failed.why
    assert failed.detail == ""
    world.pool.release(world.endpoint("b"), True)
    assert world.pool.pick("").host == "b"
    assert world.refused(world.pool.endpoints).failure is Failure.OVERLOADED


def test_a_single_endpoint_has_its_limit_too() -> None:
    world = World(limit("a", 2))
    assert [world.pool.pick("").host, world.pool.pick("").host] == ["a", "a"]
    assert world.refused().failure is Failure.OVERLOADED


@pytest.mark.parametrize("balance", ["least_connections", "round_robin", "ip_hash", "random"])
def test_every_balance_serves(balance: str) -> None:
    world = World("a", "b", "c", balance=balance)
    picked = [world.pool.pick(f"192.0.2.{number}") for number in range(60)]
    assert {endpoint.host for endpoint in picked} == {"a", "b", "c"}
    assert (len({world.pool.pick("192.0.2.1") for _ in range(20)}) == 1) is (balance == "ip_hash")


def test_turns_survive_changes_of_others() -> None:
    world = World("a", "b", "c", backup("d"), balance="round_robin", health=HEALTH)
    for name in "abc":
        world.probe(name, True)
    assert world.pool.pick("").host == "a"
    world.probe("d", True)
    assert [world.pool.pick("").host for _ in range(2)] == ["b", "c"]


# Refusals.


def test_no_endpoint_says_when_the_next_check_may_bring_one_back() -> None:
    world = World("a", "b", health=HEALTH)
    world.probe("a", False, False, False)
    world.now += 4.0
    world.probe("b", False, False, False)
    failed = world.refused()
    assert failed.failure is Failure.NO_ENDPOINT
    assert failed.headers == ((b"Retry-After", b"16"),)
    assert failed.why == (
        "upstream becamera: no endpoint can be picked (a:80 unhealthy: connection refused; b:80 unhealthy: connection refused)"
    )
    world.now += 15.5
    assert world.refused().headers == ((b"Retry-After", b"1"),)
    world.now += 100.0
    assert world.refused().headers == ((b"Retry-After", b"1"),)
    world.probe("a", False)
    world.probe("b", True)
    assert world.refused().headers == ((b"Retry-After", b"10"),)


def test_no_endpoint_says_when_an_ejection_ends() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    world.fail("a", 2)
    world.now += 2.5
    world.fail("b", 2)
    failed = world.refused()
    assert failed.headers == ((b"Retry-After", b"18"),)
    assert "a:80 ejected: connection reset" in failed.why


def test_an_upstream_without_endpoints() -> None:
    failed = World().refused()
    assert failed.failure is Failure.NO_ENDPOINT
    assert failed.headers == ((b"Retry-After", b"1"),)
    assert "it has none" in failed.why


def test_the_circuit_opens_tries_and_closes() -> None:
    world = World("a", circuit_breaker=BREAKER)
    state = world.telemetry.circuit_state
    assert state.get(("becamera",)) == 0
    world.fail("a", 3)
    assert state.get(("becamera",)) == 1
    world.now += 9.5
    failed = world.refused()
    assert failed.failure is Failure.CIRCUIT_OPEN
    assert failed.headers == ((b"Retry-After", b"21"),)
    assert failed.why == "upstream becamera: circuit open: 3 failures in a row"
    world.now += 20.5
    trials = [world.pool.pick(""), world.pool.pick("")]
    assert state.get(("becamera",)) == 2
    assert world.refused().headers == ((b"Retry-After", b"1"),)
    world.pool.release(trials[0], True)
    world.pool.release(trials[1], True)
    assert state.get(("becamera",)) == 0
    assert world.exchange().host == "a"


def test_a_failed_trial_opens_the_circuit_again() -> None:
    world = World("a", circuit_breaker=BREAKER)
    world.fail("a", 3)
    world.now += 30.0
    world.exchange(False)
    assert world.telemetry.circuit_state.get(("becamera",)) == 1
    assert world.refused().headers == ((b"Retry-After", b"30"),)


def test_a_success_starts_the_breakers_count_anew() -> None:
    world = World("a", circuit_breaker=BREAKER)
    for _ in range(3):
        world.fail("a", 2)
        world.exchange(True)
    assert world.exchange().host == "a"


def test_a_trial_whose_client_left_frees_its_slot() -> None:
    world = World("a", circuit_breaker=BREAKER)
    world.fail("a", 3)
    world.now += 30.0
    for _ in range(5):
        world.exchange(None)
    assert world.exchange(True).host == "a"


def test_clients_from_before_the_circuit_opened_free_no_trial_slots() -> None:
    world = World("a", circuit_breaker=BREAKER)
    waiting = [world.pool.pick("") for _ in range(10)]
    world.fail("a", 3)
    world.now += 30.0
    assert [world.pool.pick("").host, world.pool.pick("").host] == ["a", "a"]
    for endpoint in waiting:
        world.pool.release(endpoint, None)
        assert world.refused().failure is Failure.CIRCUIT_OPEN


def test_a_trial_that_finds_no_endpoint_keeps_no_slot() -> None:
    world = World(limit("a", 1), circuit_breaker=BREAKER)
    busy = world.pool.pick("")
    for _ in range(3):
        world.pool.release(busy, False)
        busy = world.pool.pick("")
        if world.pool.breaker and world.pool.breaker.failures == 2:
            break
    world.pool.release(busy, False)
    assert world.pool.breaker is not None and world.pool.breaker.state == 1
    world.now += 30.0
    busy = world.pool.pick("")
    for _ in range(5):
        assert world.refused().failure is Failure.OVERLOADED
    world.pool.release(busy, True)
    world.exchange(True)
    assert world.telemetry.circuit_state.get(("becamera",)) == 0


def test_refusals_use_up_no_trial_slots_while_old_requests_are_under_way() -> None:
    world = World("a", circuit_breaker=BREAKER, health=HEALTH)
    for _ in range(10):
        world.pool.pick("")
    world.fail("a", 3)
    world.probe("a", False, False, False)
    world.now += 30.0
    for _ in range(5):
        assert world.refused().failure is Failure.NO_ENDPOINT
    world.probe("a", True, True)
    assert [world.pool.pick("").host, world.pool.pick("").host] == ["a", "a"]
    assert world.refused().failure is Failure.CIRCUIT_OPEN


def test_an_operator_may_close_the_circuit() -> None:
    world = World("a", circuit_breaker=BREAKER)
    assert world.pool.reset_circuit()
    world.fail("a", 3)
    assert world.pool.reset_circuit()
    assert world.exchange().host == "a"
    assert world.telemetry.circuit_state.get(("becamera",)) == 0
    assert not World("a").pool.reset_circuit()


# Reloads.


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
    kept, closed, late = Connection(), Connection(), Connection()
    a.idle.append(kept)
    b.idle.append(closed)
    dropped = world.reconfigure("c", EndpointConfig("http://a:80/", weight=7, max_connections=9), health=HEALTH)
    assert dropped == (b,)
    assert [endpoint.host for endpoint in world.pool.endpoints] == ["c", "a"]
    assert world.endpoint("a") is a
    assert (a.weight, a.max_connections, a.in_flight, a.idle, kept.closed) == (7, 9, 1, [kept], False)
    assert world.eligible() == "a"
    assert closed.closed
    assert world.healthy() == {"c:80": 0, "a:80": 1}
    # What was under way at the dropped one ends as it may; its connection comes back to nobody.
    b.idle.append(late)
    world.pool.release(busy_b, False)
    world.pool.release(busy_a, True)
    assert late.closed
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
    assert [endpoint.name for endpoint in world.pool.endpoints] == ["a:80", "a:80/v1", "https://a:80", "https://a:80/v1"]
    world.reconfigure(*map(EndpointConfig, ["http://a:80/v2", *urls[1:]]))
    assert [endpoint.name for endpoint in world.pool.endpoints] == ["a:80", "a:80/v1", "https://a:80", "https://a:80/v1"]
    world.reconfigure(*map(EndpointConfig, ["https://a:80/v2", "http://a:80/v2", "https://a:80"]))
    assert [endpoint.name for endpoint in world.pool.endpoints] == ["a:80/v2", "a:80", "https://a:80"]


RELOADS = [
    # description, checks before, probes, checks after, status after
    ("the same checks keep healthy", HEALTH, "+", HEALTH, "healthy"),
    ("the same checks keep unhealthy", HEALTH, "---", HEALTH, "unhealthy"),
    ("other checks keep healthy", HEALTH, "+", replace(HEALTH, path="/ready"), "healthy"),
    ("other checks make unhealthy unknown", HEALTH, "---", replace(HEALTH, path="/ready"), "unknown"),
    ("other checks leave unknown unknown", HEALTH, "--", replace(HEALTH, path="/ready"), "unknown"),
    ("new checks begin with what was trusted", None, "", HEALTH, "healthy"),
    ("without checks everyone is trusted", HEALTH, "---", None, "healthy"),
]


@pytest.mark.parametrize(
    ("before", "probes", "after", "status"), [case[1:] for case in RELOADS], ids=[case[0] for case in RELOADS]
)
def test_health_after_a_reload(before: HealthConfig | None, probes: str, after: HealthConfig | None, status: str) -> None:
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


# What people read.


def test_repr_reads_like_a_status_line() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    world.pool.pick("")
    world.fail("a", 2)
    assert repr(world.pool) == "<Pool becamera least_connections, 1 of 2 eligible, 1 in flight>"
    assert repr(World("a", balance="ip_hash", circuit_breaker=BREAKER).pool) == (
        "<Pool becamera ip_hash, 1 of 1 eligible, 0 in flight, circuit closed>"
    )


def events(world: World) -> list[tuple[str, Callable[[], object], str]]:
    """What happens, in order, and the line it logs ("" for none)."""
    text = "upstream becamera: "
    return [
        ("INFO", lambda: world.probe("a", True), text + "a:80 is healthy: 1 check succeeded; 1 of 2 eligible"),
        ("", lambda: world.probe("a", True, False, False), ""),
        (
            "WARNING",
            lambda: world.probe("a", False),
            text + "a:80 is unhealthy: 3 checks failed, the last: connection refused; 1 of 2 eligible",
        ),
        ("", lambda: world.probe("a", True), ""),
        ("INFO", lambda: world.probe("a", True), text + "a:80 is healthy: 2 checks succeeded; 1 of 2 eligible"),
        ("", lambda: world.fail("a"), ""),
        (
            "WARNING",
            lambda: world.fail("a"),
            text + "a:80 is ejected for 20 s: 2 requests failed, the last: connection reset; 1 of 2 eligible",
        ),
        ("WARNING", lambda: world.fail("a"), text + "circuit open: 3 failures in a row, the last at a:80: connection reset"),
        ("", lambda: world.refused(), ""),
        ("INFO", lambda: (setattr(world, "now", 1020.0), world.pool.refresh()), text + "a:80 is back: its ejection is over"),
        ("INFO", lambda: (setattr(world, "now", 1030.0), world.exchange()), text + "circuit half-open: 30 s have passed"),
        ("INFO", lambda: world.exchange(), text + "circuit closed: its trials succeeded"),
        ("WARNING", lambda: world.fail("b", 3), text + "circuit open: 3 failures in a row, the last at b:80: connection reset"),
        ("INFO", lambda: world.pool.reset_circuit(), text + "circuit closed: reset by hand"),
    ]


def test_every_change_of_state_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    world = World("a", "b", health=HEALTH, passive_health=PASSIVE, circuit_breaker=BREAKER)
    caplog.set_level(logging.DEBUG, "gateway.upstream")
    for level, happen, line in events(world):
        caplog.clear()
        happen()
        logged = [(record.levelname, record.getMessage()) for record in caplog.records if "b:80 is" not in record.getMessage()]
        assert logged == ([(level, line)] if line else [])


def test_a_failure_without_a_reason_has_one() -> None:
    world = World("a")
    world.exchange(False)
    assert world.endpoint("a").health.error == "a request failed"


STATUSES = [
    # description, settings, what happens, status
    ("all is well", {}, lambda world: None, "healthy"),
    ("nothing is known yet", {"health": HEALTH}, lambda world: None, "degraded"),
    ("one is out", {"health": HEALTH}, lambda world: (world.probe("a", True), world.probe("b", *[False] * 3)), "degraded"),
    ("nobody is left", {"health": HEALTH}, lambda world: [world.probe(name, *[False] * 3) for name in "ab"], "unhealthy"),
    ("the circuit is open", {"circuit_breaker": BREAKER}, lambda world: world.fail("a", 3), "unhealthy"),
]


@pytest.mark.parametrize(("settings", "happen", "status"), [case[1:] for case in STATUSES], ids=[case[0] for case in STATUSES])
def test_status_in_a_word(settings: dict[str, Any], happen: Callable[[World], object], status: str) -> None:
    world = World("a", "b", **settings)
    happen(world)
    assert world.pool.status()["status"] == status


def test_status_is_plain_and_current() -> None:
    world = World("a", "b", passive_health=PASSIVE, circuit_breaker=BREAKER)
    world.fail("a", 3)
    world.now += 5.0
    status = world.pool.status()
    assert json.loads(json.dumps(status)) == status
    assert status["circuit"] == {"state": "open", "failures": 3, "retry_after": 25.0}
    assert [(e["name"], e["status"], e["eligible"]) for e in status["endpoints"]] == [
        ("a:80", "ejected", False),
        ("b:80", "healthy", True),
    ]
    world.now += 25.0
    world.exchange()
    status = world.pool.status()
    assert status["status"] == "degraded"
    assert status["circuit"]["state"] == "half-open"
    world.reconfigure("a")
    status = world.pool.status()
    assert (status["name"], status["balance"], status["circuit"]) == ("becamera", "least_connections", None)
    assert (status["in_flight"], status["retrying"], status["status"]) == (0, 0, "healthy")


# Any order of events.


ENDPOINTS = st.lists(
    st.builds(
        EndpointConfig,
        url=st.sampled_from([f"http://{name}:80" for name in "abcd"]),
        weight=st.integers(1, 3),
        max_connections=st.sampled_from([0, 0, 1, 3]),
        backup=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda endpoint: endpoint.url,
).map(tuple)

CONFIGS = st.builds(
    UpstreamConfig,
    endpoints=ENDPOINTS,
    balance=st.sampled_from(["least_connections", "round_robin", "ip_hash", "random"]),
    health=st.sampled_from([None, HEALTH, HEALTH, replace(HEALTH, path="/ready")]),
    passive_health=st.sampled_from([None, PASSIVE, PASSIVE, PassiveHealthConfig(max_fails=0)]),
    circuit_breaker=st.sampled_from([None, None, BREAKER]),
)


def tier(endpoint: Endpoint) -> tuple[bool, bool]:
    """Primaries before backups, then what is known to be healthy before what is not known."""
    return endpoint.backup, endpoint.health.active.status is Status.UNKNOWN


class Life(RuleBasedStateMachine):
    """Picks, outcomes, checks, time and reloads in any order, with who is eligible worked out the slow and obvious way."""

    @initialize(config=CONFIGS)
    def begin(self, config: UpstreamConfig) -> None:
        self.world = World()
        self.world.pool.reconfigure(config)
        self.picked: list[Endpoint] = []

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(key=st.sampled_from(["192.0.2.1", "192.0.2.2"]), data=st.data())
    def pick(self, key: str, data: st.DataObject) -> None:
        pool = self.world.pool
        tried = data.draw(st.lists(st.sampled_from(pool.endpoints), max_size=2)) if pool.endpoints else []
        before = {endpoint: endpoint.in_flight for endpoint in pool.endpoints}
        usable = self.usable()
        room = [endpoint for endpoint in usable if not endpoint.max_connections or endpoint.in_flight < endpoint.max_connections]
        try:
            endpoint = pool.pick(key, tried)
        except Failed as failed:
            assert int(dict(failed.headers)[b"Retry-After"]) >= 1
            assert {endpoint: endpoint.in_flight for endpoint in pool.endpoints} == before
            if failed.failure is not Failure.CIRCUIT_OPEN:
                assert not room
                assert failed.failure is (Failure.OVERLOADED if usable else Failure.NO_ENDPOINT)
            return
        # The best tier in which somebody with room has not been tried; when all have been, the best with room.
        choice = [endpoint for endpoint in room if endpoint not in tried] or room
        assert endpoint in [other for other in choice if tier(other) == tier(choice[0])]
        assert {e: e.in_flight for e in pool.endpoints} == {**before, endpoint: before[endpoint] + 1}
        self.picked.append(endpoint)

    @precondition(lambda self: self.picked)
    @rule(ok=st.sampled_from([True, False, False, None]), data=st.data())
    def release(self, ok: bool | None, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.picked) - 1))
        self.world.pool.release(self.picked.pop(number), ok)

    @precondition(lambda self: self.world.pool.endpoints)
    @rule(ok=st.booleans(), times=st.integers(1, 3), data=st.data())
    def probe(self, ok: bool, times: int, data: st.DataObject) -> None:
        endpoint = data.draw(st.sampled_from(self.world.pool.endpoints))
        for _ in range(times):
            self.world.pool.probed(endpoint, ok, "refused")

    @rule(config=CONFIGS)
    def reload(self, config: UpstreamConfig) -> None:
        before = {endpoint.address: endpoint for endpoint in self.world.pool.endpoints}
        dropped = self.world.pool.reconfigure(config)
        after = {endpoint.address: endpoint for endpoint in self.world.pool.endpoints}
        assert [f"http://{endpoint.host}:80" for endpoint in after.values()] == [endpoint.url for endpoint in config.endpoints]
        assert all(after[address] is endpoint for address, endpoint in before.items() if address in after)
        assert set(dropped) == {endpoint for address, endpoint in before.items() if address not in after}

    def usable(self) -> list[Endpoint]:
        """Every endpoint that may be picked at all, the best first: the obvious way."""
        health = {endpoint: endpoint.health for endpoint in self.world.pool.endpoints}
        usable = [
            e for e in health if health[e].active.status is not Status.UNHEALTHY and self.world.now >= health[e].passive.until
        ]
        return sorted(usable, key=tier)

    @invariant()
    def eligible_is_what_it_should_be(self) -> None:
        if not hasattr(self, "world"):
            return
        pool = self.world.pool
        pool.refresh()
        usable = self.usable()
        assert list(pool.eligible) == [endpoint for endpoint in usable if tier(endpoint) == tier(usable[0])]
        healthy = {(e.upstream, e.name): int(e.health.status == "healthy" or e in pool.eligible) for e in pool.endpoints}
        assert self.world.telemetry.endpoint_healthy.values == healthy
        circuit = {} if pool.breaker is None else {("becamera",): pool.breaker.state}
        assert self.world.telemetry.circuit_state.values == circuit

    def teardown(self) -> None:
        if hasattr(self, "world"):
            seen = {*self.picked, *self.world.pool.endpoints}
            for endpoint in self.picked:
                self.world.pool.release(endpoint, None)
            assert all(endpoint.in_flight == 0 for endpoint in seen)


TestLife = Life.TestCase
