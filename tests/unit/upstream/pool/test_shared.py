"""Pools of several processes tell one another of checks, ejections and circuits."""

from __future__ import annotations

import marshal
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.upstream.pool.breaker import CLOSED, OPEN
from gateway.upstream.pool.health import Status
from gateway.upstream.pool.shared import KINDS
from tests.unit.upstream.pool.world import BREAKER, HEALTH, PASSIVE, World

EACH = replace(BREAKER, scope="endpoint")


def worlds(*endpoints: str, count: int = 2, **settings) -> list[World]:
    return [World(*endpoints, **settings) for _ in range(count)]


def tell(world: World, *others: World) -> list[bool]:
    """Pass on what the world has to tell, as it goes over a socket."""
    told, world.told[:] = marshal.loads(marshal.dumps(world.told)), []
    return [other.pool.take_over(kind, *body) for kind, body in told for other in others]


def check(world: World, name: str, *others: World) -> None:
    kind, body = world.pool.checked(world.endpoint(name))
    for other in others:
        assert other.pool.take_over(kind, *marshal.loads(marshal.dumps(body)))


def test_checks_of_one_are_those_of_all():
    one, other = worlds("a", "b", health=HEALTH)
    one.probe("a", True)
    one.probe("b", False, False, False)
    for name in ("a", "b"):
        check(one, name, other)
    assert (other.eligible(), other.healthy()) == ("a", {"a:80": 1, "b:80": 0})
    assert other.endpoint("b").health.error == "connection refused"
    one.probe("b", True)
    check(one, "b", other)
    assert other.eligible() == "a"
    one.probe("b", True)
    check(one, "b", other)
    assert other.eligible() == "a b"
    assert other.told == []


def test_an_endpoint_that_comes_back_starts_slowly_everywhere():
    one, other = worlds("a", "b", health=HEALTH, slow_start=10.0)
    for world in (one, other):
        world.probe("a", True)
    one.probe("b", False, False, False)
    check(one, "b", other)
    one.probe("b", True, True)
    check(one, "b", other)
    weights = [world.endpoint("b").weight for world in (one, other)]
    assert weights[0] == weights[1] < 1


def test_an_ejection_is_over_at_the_same_time():
    one, other = worlds("a", "b", passive_health=PASSIVE)
    one.fail("a", 2)
    other.now += 1000.0  # clocks need not agree
    assert tell(one, other) == [True]
    assert other.eligible() == "b"
    assert other.told == [], "what was told is not told again"
    other.now += 19.9
    other.pool.refresh()
    assert other.eligible() == "b"
    other.now += 0.2
    other.pool.refresh()
    assert other.eligible() == "a b"


def test_all_together_eject_no_more_than_max_ejected():
    one, other, judge = worlds("a", "b", count=3, passive_health=replace(PASSIVE, max_ejected=0.5))
    one.fail("a", 2)
    other.fail("b", 2)
    assert tell(one, judge) == [True]
    told = list(other.told)
    assert tell(other, judge) == [False]
    [(_, (address, *_))] = told
    assert other.pool.take_over("returned", address)
    assert (other.eligible(), judge.eligible()) == ("a b", "b")


def test_circuits_open_and_close_everywhere():
    one, other = worlds("a", "b", circuit_breaker=BREAKER)
    one.fail("a", 3)
    tell(one, other)
    assert other.pool.breaker.state == OPEN
    assert "3 failures in a row" in str(other.refused().why or other.refused())
    for world in (one, other):
        world.now += 30.0
    one.exchange()
    one.exchange()
    assert one.pool.breaker.state == CLOSED
    tell(one, other)
    assert other.pool.breaker.state == CLOSED
    assert other.exchange()
    assert other.told == []


def test_circuits_of_endpoints():
    one, other = worlds("a", "b", circuit_breaker=EACH)
    one.fail("a", 3)
    tell(one, other)
    assert other.endpoint("a").breaker.state == OPEN
    assert {other.exchange().host for _ in range(5)} == {"b"}
    other.pool.take_over("reset")
    assert other.endpoint("a").breaker.state == CLOSED


def test_one_that_begins_is_told_everything():
    one, new = worlds(
        "a", "b", "c", "d", health=HEALTH, passive_health=PASSIVE, circuit_breaker=EACH
    )
    for name in "abd":
        one.probe(name, True)
    one.probe("c", False, False, False)
    one.fail("a", 2)
    one.fail("b", 1)
    one.pool.take_over("circuit", tuple(one.endpoint("d").address), True, 5.0, "by another")
    for kind, body in one.pool.known():
        assert kind in KINDS and new.pool.take_over(kind, *body)
    assert new.eligible() == one.eligible()
    statuses = [new.endpoint(name).health.status for name in "abc"]
    assert statuses == [Status.EJECTED, Status.HEALTHY, Status.UNHEALTHY]
    assert new.endpoint("d").breaker.state == OPEN


def test_news_of_what_is_not_here_changes_nothing():
    (world,) = worlds("a", count=1)
    for kind, body in (
        ("checked", ("unhealthy", 0, "x", 0.0, 0.1)),
        ("ejected", (9.0, 0, "x", 0.5)),
        ("returned", ()),
        ("circuit", (True, 3.0, "x")),
    ):
        assert world.pool.take_over(kind, ("http", "elsewhere", 80, ""), *body)
    assert world.pool.take_over("checked", ("http", "a", 80, ""), "unhealthy", 0, "x", 0.0, 0.1)
    assert world.pool.take_over("circuit", ("http", "a", 80, ""), True, 3.0, "x")
    assert world.pool.take_over("circuit", None, True, 3.0, "x")
    world = World("a", circuit_breaker=BREAKER)
    assert world.pool.take_over("circuit", ("http", "elsewhere", 80, ""), True, 3.0, "x")
    assert world.exchange()
    world = World("a", passive_health=PASSIVE)
    assert not world.pool.take_over("ejected", ("http", "a", 80, ""), 9.0, 0, "x", 0.5)
    assert world.eligible() == "a", "the only endpoint is never ejected"


steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["fail", "ok", "wait", "long wait"])), max_size=60
)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_whatever_happens_where_the_judge_never_has_more_out_than_allowed(steps):
    passive = replace(PASSIVE, max_ejected=0.5)
    *workers, judge = worlds("a", "b", "c", "d", count=4, passive_health=passive)
    for who, what in steps:
        worker = workers[who]
        if what == "fail" and worker.pool.eligible:
            endpoint = worker.pool.eligible[0]
            worker.fail(endpoint.host, 2)
            [taken] = tell(worker, judge) or [True]
            if not taken:
                worker.pool.take_over("returned", tuple(endpoint.address))
        elif what == "ok":
            worker.exchange()
        else:
            for world in (*workers, judge):
                world.now += 1.0 if what == "wait" else 25.0
        judge.pool.refresh()
        out = [one for one in judge.pool.endpoints if one.health.passive.until]
        assert len(out) <= 2


def test_a_drained_endpoint_gets_nothing_new_until_undrained():
    world = World("a", "b")
    assert world.pool.drain("http://a", drained=True)
    assert world.eligible() == "b"
    assert "draining" in repr(world.endpoint("a"))
    assert not world.pool.drain("http://c", drained=True)
    assert world.pool.drain("http://a:80/", drained=False)
    assert world.eligible() == "a b"


def test_draining_outlasts_configurations_also_those_without_the_endpoint():
    world = World("a", "b")
    world.pool.drain("http://a", drained=True)
    whole = world.pool.config
    world.pool.reconfigure(replace(whole, slow_start=5.0))
    assert world.eligible() == "b"
    world.pool.reconfigure(replace(whole, endpoints=whole.endpoints[1:]))
    world.pool.reconfigure(whole)
    assert world.eligible() == "b"


def test_what_the_configuration_drains_cannot_be_undrained():
    world = World("a", "b")
    drains = (replace(world.pool.config.endpoints[0], drain=True), world.pool.config.endpoints[1])
    world.pool.reconfigure(replace(world.pool.config, endpoints=drains))
    world.pool.drain("http://a", drained=False)
    assert world.eligible() == "b"


def test_others_are_told_what_is_drained():
    one, other, later = worlds("a", "b", count=3)
    one.pool.drain("http://a", drained=True)
    body = marshal.loads(marshal.dumps((tuple(one.endpoint("a").address), True)))
    assert other.pool.take_over("drained", *body)
    for kind, known in marshal.loads(marshal.dumps(list(one.pool.known()))):
        later.pool.take_over(kind, *known)
    assert (other.eligible(), later.eligible()) == ("b", "b")
    other.pool.take_over("drained", body[0], False)
    assert other.eligible() == "a b"
