"""Pools under fire: outliers, circuits of single endpoints, what counts as a failure, slow starts, nobody left."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import BreakerConfig, HealthConfig, OutlierConfig, PassiveHealthConfig
from gateway.config.tables.traffic import LimitConfig
from gateway.core.failures import Failure
from tests.unit.upstream.pool.test_pool import World

OUTLIER = OutlierConfig(interval=1.0, minimum_requests=5, ejection_time=10.0, max_ejection_time=25.0, max_ejected=0.5)
EACH = BreakerConfig(failure_threshold=2, recovery_timeout=30.0, half_open_requests=1, scope="endpoint")


def serve(world: World, bad: str = "", slow: str = "", requests: int = 10) -> None:
    """A second of requests to every endpoint that can be picked."""
    for endpoint in world.pool.eligible:
        for _ in range(requests):
            world.pool.saw(endpoint, endpoint.host in bad, 1.0 if endpoint.host in slow else 0.01)
    world.now += 1.0
    world.pool.saw(world.pool.eligible[-1], False, 0.01)


def test_an_outlier_is_ejected_for_longer_each_time(caplog: pytest.LogCaptureFixture) -> None:
    world = World("a", "b", "c", outlier=OUTLIER)
    outs = []
    for _ in range(4):
        serve(world, bad="a")
        assert world.eligible() == "b c"
        outs.append(world.endpoint("a").health.passive.until - world.now)
        world.now += outs[-1]
        world.pool.refresh()
        assert world.eligible() == "a b c"
    assert outs == [10.0, 20.0, 25.0, 25.0]
    assert (
        "a:80 is ejected for 10 s as an outlier: 100% of 10 requests failed, 0.0% of its peers'; 2 of 3 eligible" in caplog.text
    )


def test_a_slow_one_is_an_outlier_too_and_no_more_than_the_share_go() -> None:
    world = World("a", "b", "c", "d", "e", outlier=OutlierConfig(interval=1.0, minimum_requests=5, max_ejected=0.2))
    serve(world, bad="b", slow="a")
    assert world.eligible() == "a c d e"
    assert world.pool.status()["endpoints"][1]["last_error"].startswith("100% of")
    serve(world, slow="a")
    assert world.eligible() == "a c d e"


def test_the_series_of_who_is_gone_end_when_nothing_of_it_is_left() -> None:
    world = World("a", "b", outlier=OUTLIER)
    a, b = world.endpoint("a"), world.endpoint("b")
    series = world.telemetry.upstream_requests
    series.add(("other", "a:80", "200"))

    def shown() -> list[str]:
        return [endpoint for upstream, endpoint, _ in series.values if upstream == "becamera"]

    for endpoint in (a, b):
        series.add(("becamera", endpoint.name, "200"))
        series.add(("becamera", endpoint.name, "503"))
        world.pool.saw(endpoint, False, 0.01)
    a.in_flight = 1
    world.reconfigure("c", outlier=OUTLIER)
    assert set(shown()) == {"a:80", "b:80"}, "what it has just answered may be counted still"
    world.reconfigure("d", outlier=OUTLIER)
    assert set(shown()) == {"a:80"}, "it has one in flight"
    world.reconfigure("d", "a", outlier=OUTLIER)
    a.in_flight = 0
    world.reconfigure("d", "a", outlier=OUTLIER)
    assert set(shown()) == {"a:80"}, "another of that name is there"
    for names in ("d", "e", "f"):
        world.reconfigure(names, outlier=OUTLIER)
    assert shown() == []
    assert ("other", "a:80", "200") in series.values
    assert world.pool.outliers is not None and a not in world.pool.outliers._tallies
    series.add(("becamera", "f:80", "200"))
    world.pool.close()
    assert shown() == []


def test_what_is_out_or_not_watched_is_not_counted() -> None:
    world = World("a", "b")
    world.pool.saw(world.endpoint("a"), True, 1.0)
    world.reconfigure("a", "b", outlier=OUTLIER)
    serve(world, bad="a")
    a = world.endpoint("a")
    until = a.health.passive.until
    world.now += 2.0
    for _ in range(20):
        world.pool.saw(a, True, 1.0)
    assert a.health.passive.until == until
    world.reconfigure("a", "b")
    assert world.eligible() == "a b"


def test_the_ceiling_holds_for_passive_health_too() -> None:
    world = World("a", "b", "c", passive_health=PassiveHealthConfig(max_fails=1, max_ejected=0.4))
    world.fail("a")
    world.fail("b")
    assert world.eligible() == "b c"


@pytest.mark.parametrize(("sign", "ejected", "opened"), [("429", True, False), ("503", False, True), ("connect", False, False)])
def test_what_counts_is_chosen(sign: str, ejected: bool, opened: bool) -> None:
    passive, breaker = PassiveHealthConfig(max_fails=1, on=("429",)), BreakerConfig(failure_threshold=1, on=("503",))
    world = World("a", "b", passive_health=passive, circuit_breaker=breaker)
    assert world.pool.blamed == {429, 503}
    endpoint = world.pool.pick("k")
    world.pool.release(endpoint, False, "bad", sign)
    assert bool(endpoint.health.passive.until) is ejected
    assert world.pool.breaker is not None
    assert bool(world.pool.breaker.state) is opened


def test_an_answer_that_is_not_held_against_it_ends_a_row() -> None:
    world = World("a", circuit_breaker=BreakerConfig(failure_threshold=2, on=("connect",)))
    for sign in ("connect", "503", "connect", "reset"):
        world.pool.release(world.pool.pick("k"), False, "bad", sign)
    assert world.pool.breaker is not None
    assert (world.pool.breaker.state, world.pool.breaker.failures) == (0, 1)


def test_each_endpoint_has_its_circuit(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World("a", "b", circuit_breaker=EACH)
    state = world.telemetry.circuit_state
    world.fail("a", 2)
    assert world.eligible() == "b"
    assert state.get(("becamera",)) == 0
    assert {world.exchange().host for _ in range(4)} == {"b"}
    assert world.pool.status()["endpoints"][0]["circuit"] == "open"
    assert world.pool.status()["status"] == "degraded"
    world.now += 30.0
    trial = world.pool.pick("k")
    assert trial.host == "a"
    assert {world.exchange().host for _ in range(4)} == {"b"}
    world.pool.release(trial, True)
    assert world.eligible() == "a b"
    assert "circuit of a:80 open: 2 failures in a row" in caplog.text
    assert "circuit of a:80 closed" in caplog.text


def test_all_circuits_open_is_an_open_circuit_until_it_is_reset() -> None:
    world = World("a", "b", circuit_breaker=EACH)
    world.fail("a", 2)
    world.now += 5.0
    world.fail("b", 2)
    assert world.telemetry.circuit_state.get(("becamera",)) == 1
    failed = world.refused()
    assert (failed.failure, failed.headers[0][1]) == (Failure.CIRCUIT_OPEN, b"25")
    assert world.pool.reset_circuit()
    assert world.eligible() == "a b"
    world.fail("a", 2)
    world.now += 30.0
    trial = world.pool.pick("k")
    world.pool.release(trial, None)
    assert world.pool.pick("k") is trial
    world.pool.release(trial, False)
    assert world.eligible() == "b"
    world.reconfigure("a", "b")
    assert world.eligible() == "a b"
    assert not world.pool.reset_circuit()


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
    assert "nobody can be picked: trying all; 2 of 2 eligible" in caplog.text
    assert "no longer trying all; 1 of 2 eligible" in caplog.text
    world.reconfigure("a", "b")
    assert ("becamera",) not in panic.values


def test_a_recovered_endpoint_starts_slowly() -> None:
    world = World("a", "b", health=HealthConfig(unhealthy_threshold=1, healthy_threshold=1), slow_start=10.0)
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
    world = World("a", "b", passive_health=PassiveHealthConfig(max_fails=1, fail_timeout=5.0), slow_start=10.0)
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
    world.reconfigure(EndpointConfig("http://a:80", weight=0), EndpointConfig("http://b:80", weight=0))
    assert world.refused().failure is Failure.NO_ENDPOINT


# The queue and the limit.


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
    task, next_one = asyncio.create_task(world.pool.wait(10.0)), asyncio.create_task(world.pool.wait(10.0))
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
            world.pool.saw(a, True, 9.0)
            world.pool.saw(a, False, seconds)
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
