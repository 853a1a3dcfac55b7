"""Looking at limits counts nothing."""

from __future__ import annotations

import pytest

from gateway.core.failures import Failed, Failure
from tests.exchange import World
from tests.unit.middlewares.rate_limit.rules_world import RULE, asked, limiter


def test_explain_says_every_rule_and_takes_nothing():
    world = World(now=100.0)
    hook = limiter({**RULE, "rules": [{**RULE, "limit": 1, "shadow": True}, {**RULE, "name": "c", "limit": 2}]}, world)
    for _ in range(2):
        hook(asked())
    exchange = asked(explained=True)
    with pytest.raises(Failed) as caught:
        hook(exchange)
    assert caught.value.failure is Failure.RATE_LIMITED
    assert exchange.decisions is not None
    assert [one.outcome for one in exchange.decisions] == ["admitted", "would be limited (shadow)", "limited"]
    assert exchange.decisions[0].why == '"a";q=5;w=3600 by ip: 2 left after it'
    assert world.telemetry.rate_shadowed.get(("", "a")) == 1
