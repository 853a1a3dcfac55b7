"""Looking at limits counts nothing."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Identity
from gateway.core.failures import Failed, Failure
from tests.exchange import World
from tests.unit.middlewares.rate_limit.rules_world import RULE, admitted, asked, limiter


def test_explain_says_every_rule_and_takes_nothing():
    world = World(now=100.0)
    hook = limiter(
        {
            **RULE,
            "rules": [{**RULE, "limit": 1, "shadow": True}, {**RULE, "name": "c", "limit": 2}],
        },
        world,
    )
    for _ in range(2):
        hook(asked())
    exchange = asked(explained=True)
    with pytest.raises(Failed) as caught:
        hook(exchange)
    assert caught.value.failure is Failure.RATE_LIMITED
    assert exchange.decisions is not None
    assert [one.outcome for one in exchange.decisions] == [
        "admitted",
        "would refuse (shadow)",
        "limited",
    ]
    assert exchange.decisions[0].why == '"a";q=5;w=3600 of ip 192.0.2.1: 2 left after it'
    assert world.telemetry.rate_shadowed.get(("", "a")) == 1


def test_explain_knows_of_bursts_and_of_costs():
    world = World(now=100.0)
    bucket = {
        "name": "b",
        "key": "ip",
        "tokens": 50,
        "refill": 1,
        "burst": 2,
        "costs": {"POST": 60},
    }
    hook = limiter({"rules": [bucket, RULE]}, world)
    assert admitted(hook, asked(), asked()) == 2
    found = []
    for method, explained in (
        ("GET", asked(explained=True)),
        ("POST", asked(method="POST", explained=True)),
    ):
        with pytest.raises(Failed):
            hook(explained)
        assert explained.decisions is not None
        found.append(
            (method, explained.decisions[0].outcome, explained.decisions[0].why.partition(": ")[2])
        )
    assert found == [
        ("GET", "limited", "48 left, the request costs 1, 1.000 s to wait"),
        ("POST", "limited", "48 left, the request costs 50, 2.000 s to wait"),
    ]
    world.now += 1
    assert admitted(hook, asked()) == 1


def test_explain_names_the_address_where_there_is_no_client():
    hook = limiter({**RULE, "key": "client"})
    strangers, known = asked(explained=True), asked(Identity("acme", "api_key"), explained=True)
    for request in (strangers, known):
        hook(request)
    whys = [
        request.decisions[0].why for request in (strangers, known) if request.decisions is not None
    ]
    assert whys == [
        '"a";q=5;w=3600 of ip 192.0.2.1, for want of an identity: 4 left after it',
        '"a";q=5;w=3600 of client acme: 4 left after it',
    ]
