"""Picking: who gets a request, who is refused and until when, and any order of events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import BreakerConfig, HealthConfig, PassiveHealthConfig
from gateway.config.tables.traffic import LimitConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.failures import Failed, Failure
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.health import Status
from tests.unit.upstream.pool.world import BREAKER, HEALTH, PASSIVE, World, backup, limit


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


def test_a_refusal_is_foretold_and_nothing_is_taken() -> None:
    """Before every pick, whatever has happened: `refusal` says what the pick then does."""
    random = Random(7)
    breaker = BreakerConfig(failure_threshold=2, recovery_timeout=5.0, half_open_requests=2)
    refused: set[Failure] = set()
    for round_ in range(60):
        more: dict[str, Any] = {"circuit_breaker": breaker} if round_ % 2 else {}
        most = {"limit": LimitConfig(3)} if round_ % 3 == 0 else {}
        world = World(limit("a", 2), limit("b", 1), passive_health=PASSIVE, **more, **most)
        held: list[Endpoint] = []
        for _ in range(40):
            world.now += random.choice((0.0, 0.5, 3.0))
            before = [repr(one.breaker) for one in (world.pool,)], world.pool.in_flight
            foretold = world.pool.refusal()
            assert ([repr(one.breaker) for one in (world.pool,)], world.pool.in_flight) == before
            try:
                held.append(world.pool.pick(""))
                assert foretold is None
            except Failed as failed:
                assert foretold is not None
                assert (foretold.failure, foretold.why) == (failed.failure, failed.why)
                refused.add(failed.failure)
            while held and random.random() < 0.6:
                well = random.random() < 0.5
                world.pool.release(held.pop(), well, "" if well else "answered 503", "503")
    assert refused == {Failure.OVERLOADED, Failure.CIRCUIT_OPEN, Failure.NO_ENDPOINT}


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


def test_no_endpoint_says_when_the_next_check_may_bring_one_back() -> None:
    world = World("a", "b", health=HEALTH)
    world.probe("a", False, False, False)
    world.now += 4.0
    world.probe("b", False, False, False)
    failed = world.refused()
    assert failed.failure is Failure.NO_ENDPOINT
    assert failed.headers == ((b"Retry-After", b"16"),)
    assert failed.why == (
        "upstream becamera: no endpoint can be picked (a:80 unhealthy: connection refused; b:80 "
        "unhealthy: connection refused)"
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
    """Picks, outcomes, checks, time and reloads in any order, with who is eligible worked out the
    slow and obvious way."""

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
        tried = (
            data.draw(st.lists(st.sampled_from(pool.endpoints), max_size=2))
            if pool.endpoints
            else []
        )
        before = {endpoint: endpoint.in_flight for endpoint in pool.endpoints}
        usable = self.usable()
        room = [
            endpoint
            for endpoint in usable
            if not endpoint.max_connections or endpoint.in_flight < endpoint.max_connections
        ]
        try:
            endpoint = pool.pick(key, tried)
        except Failed as failed:
            assert int(dict(failed.headers)[b"Retry-After"]) >= 1
            assert {endpoint: endpoint.in_flight for endpoint in pool.endpoints} == before
            if failed.failure is not Failure.CIRCUIT_OPEN:
                assert not room
                assert failed.failure is (Failure.OVERLOADED if usable else Failure.NO_ENDPOINT)
            return
        # The best tier in which somebody with room has not been tried; when all have been, the best
        # with room.
        choice = [endpoint for endpoint in room if endpoint not in tried] or room
        assert endpoint in [other for other in choice if tier(other) == tier(choice[0])]
        assert {e: e.in_flight for e in pool.endpoints} == {
            **before,
            endpoint: before[endpoint] + 1,
        }
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
        assert [f"http://{endpoint.host}:80" for endpoint in after.values()] == [
            endpoint.url for endpoint in config.endpoints
        ]
        assert all(
            after[address] is endpoint for address, endpoint in before.items() if address in after
        )
        assert set(dropped) == {
            endpoint for address, endpoint in before.items() if address not in after
        }

    def usable(self) -> list[Endpoint]:
        """Every endpoint that may be picked at all, the best first: the obvious way."""
        health = {endpoint: endpoint.health for endpoint in self.world.pool.endpoints}
        usable = [
            e
            for e in health
            if health[e].active.status is not Status.UNHEALTHY
            and self.world.now >= health[e].passive.until
        ]
        return sorted(usable, key=tier)

    @invariant()
    def eligible_is_what_it_should_be(self) -> None:
        if not hasattr(self, "world"):
            return
        pool = self.world.pool
        pool.refresh()
        usable = self.usable()
        assert list(pool.eligible) == [
            endpoint for endpoint in usable if tier(endpoint) == tier(usable[0])
        ]
        healthy = {
            (e.upstream, e.name): int(e.health.status == "healthy" or e in pool.eligible)
            for e in pool.endpoints
        }
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


def full(world: World) -> Failure:
    return world.refused().failure


async def test_a_place_goes_to_whoever_has_waited_the_longest() -> None:
    world = World(EndpointConfig("http://a:80", max_connections=1))
    held = world.pool.pick("k")
    order: list[str] = []

    async def waits(name: str, first: bool = False) -> None:
        assert await world.pool.wait(10.0, first)
        order.append(name)

    tasks = [asyncio.create_task(waits("one")), asyncio.create_task(waits("two"))]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(waits("first", True)))
    await asyncio.sleep(0)
    assert world.pool.status()["waiting"] == 3
    for _ in range(3):
        world.pool.release(held, True)
        await asyncio.sleep(0.001)
        held = world.pool.pick("k")
    await asyncio.gather(*tasks)
    assert order == ["first", "one", "two"]
    assert not world.pool.waiting


async def test_who_waits_too_long_or_leaves_is_forgotten() -> None:
    world = World("a")
    assert not await world.pool.wait(0.001)
    task, next_one = (
        asyncio.create_task(world.pool.wait(10.0)),
        asyncio.create_task(world.pool.wait(10.0)),
    )
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert len(world.pool.waiting) == 1
    third = asyncio.create_task(world.pool.wait(10.0))
    await asyncio.sleep(0)
    world.pool.release(world.pool.pick("k"), True)
    next_one.cancel()  # Its turn has come, but it is gone: the third must not wait for ever.
    assert await third
    assert not world.pool.waiting


async def test_all_who_wait_look_again_when_health_changes() -> None:
    world = World("a", "b", health=HealthConfig(unhealthy_threshold=1))
    tasks = [asyncio.create_task(world.pool.wait(10.0)) for _ in range(3)]
    await asyncio.sleep(0)
    world.probe("a", False)
    assert await asyncio.gather(*tasks) == [True] * 3
    task = asyncio.create_task(world.pool.wait(10.0))
    await asyncio.sleep(0)
    world.reconfigure("a", "b", "c")
    assert await task


def test_the_limit_is_over_all_endpoints() -> None:
    world = World("a", "b", limit=LimitConfig(3))
    held = [world.pool.pick("k") for _ in range(3)]
    assert full(world) is Failure.OVERLOADED
    world.pool.release(held[0], True)
    held[0] = world.pool.pick("k")
    assert world.pool.status()["limit"] == 3
    limiter = world.pool.limiter
    world.reconfigure("a", "b", limit=LimitConfig(3), slow_start=1.0)
    assert world.pool.limiter is limiter
    world.reconfigure("a", "b", limit=LimitConfig(4))
    world.pool.pick("k")
    world.reconfigure("a", "b")
    world.pool.pick("k")


def test_an_adaptive_limit_hears_of_answers_only() -> None:
    world = World("a", "b", limit=LimitConfig(100, adaptive=True))
    a = world.endpoint("a")
    for seconds in (0.01, 1.0):
        for _ in range(500):
            world.pool.observe(a, True, 9.0)
            world.pool.observe(a, False, seconds)
    assert world.pool.limiter is not None
    assert world.pool.limiter.limit < 100


async def test_a_turn_that_comes_as_time_runs_out_is_not_lost() -> None:
    """The place becomes free and the waiting time ends in one turn of the loop, in that order."""
    world = World(EndpointConfig("http://a:80", max_connections=1))
    held = world.pool.pick("k")
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(world.pool.wait(0.01))
    await asyncio.sleep(0)
    over = loop.time() + 0.02

    def late() -> None:
        while loop.time() < over:
            pass  # Time has run out, but the loop has yet to hear of it.
        loop.call_soon(world.pool.release, held, True)

    loop.call_soon(late)
    assert await waiting
    assert not world.pool.waiting
