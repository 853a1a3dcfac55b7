"""Several rules on one request: all or none, the longest wait, shadows, and limits of nothing."""

from __future__ import annotations

import pytest

from gateway.core.failures import Failed, Failure
from tests.exchange import World
from tests.unit.middlewares.rate_limit.rules_world import RULE, admitted, asked, limiter


def test_the_longest_wait_of_all_refusals_is_told():
    rules = [
        {**RULE, "name": "short", "limit": 1, "window": "1m"},
        {**RULE, "name": "long", "limit": 1, "window": "1h"},
    ]
    world = World(now=100.0)
    hook = limiter({"rules": rules}, world)
    hook(asked())
    with pytest.raises(Failed) as caught:
        hook(asked())
    assert dict(caught.value.headers)[b"Retry-After"] == b"3600"
    assert dict(caught.value.headers)[b"RateLimit-Policy"] == b'"short";q=1;w=60, "long";q=1;w=3600'
    assert (
        world.telemetry.rate_limited.get(("", "short"))
        == world.telemetry.rate_limited.get(("", "long"))
        == 1
    )


def test_requests_near_the_end_of_a_limit_are_counted_by_rule():
    world = World(now=100.0)
    rules = [{**RULE, "name": "short", "limit": 5}, {**RULE, "name": "long", "limit": 50}]
    assert admitted(limiter({"rules": rules}, world), *(asked() for _ in range(5))) == 5
    assert world.telemetry.rate_near.values == {("", "short"): 2}


def test_refusals_leave_bursts_alone():
    hook = limiter(
        {
            "rules": [
                {"name": "b", "key": "ip", "tokens": 50, "refill": 0.01, "burst": 3},
                {**RULE, "limit": 1},
            ]
        }
    )
    assert admitted(hook, *(asked() for _ in range(9))) == 1
    left = {one["policy"]: one["remaining"] for one in hook.status(asked())}
    assert left == {"b": 49, "a": 0}
    assert len(hook._rules[0].default.buckets.find("192.0.2.1")[2] or []) <= 1


def test_a_shadow_is_the_reason_in_the_access_log():
    hook = limiter({**RULE, "limit": 1, "shadow": True})
    hook(asked())
    exchange = asked()
    hook(exchange)
    assert (exchange.reason, exchange.reply_blocks) == ("shadow:a", None)


def test_a_rule_s_counts_survive_a_reload_that_changes_it_in_proportion():
    world = World(now=100.0)
    for limit, expected in ((5, 3), (4, 1), (9, 1)):
        hook = limiter({"rules": [{**RULE, "limit": limit, "algorithm": "fixed_window"}]}, world)
        world.reload()
        assert admitted(hook, *(asked() for _ in range(3))) == expected


def test_what_a_rule_looks_like():
    hook = limiter({"rules": [{**RULE, "shadow": True}]})
    assert repr(hook) == '<RuleLimiter rate_limit: [<LimitRule "a";q=5;w=3600 by ip memory>]>'


@pytest.mark.parametrize("algorithm", ["token_bucket", "quota", "concurrency"])
def test_a_rule_that_allows_nothing(algorithm: str):
    more = {"quota": {"period": "day"}, "token_bucket": {"window": "1h"}}.get(algorithm, {})
    rule = {"name": "none", "key": "ip", "algorithm": algorithm, "limit": 0, **more}
    hook = limiter({"rules": [{**RULE, "name": "some"}, rule]})
    with pytest.raises(Failed) as caught:
        hook(asked())
    assert caught.value.failure is (
        Failure.QUOTA_EXCEEDED if algorithm == "quota" else Failure.RATE_LIMITED
    )
    names = [name for name, _ in caught.value.headers]
    assert b"Retry-After" not in names and b"X-RateLimit-Reset" not in names
    some, none = hook.status(asked())
    assert (some["remaining"], none["remaining"], "reset" in none) == (5, 0, False)
    exchange = asked(explained=True)
    with pytest.raises(Failed):
        hook(exchange)
    assert [decision.outcome for decision in exchange.decisions or ()] == ["admitted", "limited"]


def test_a_shadow_that_allows_nothing_refuses_nobody():
    hook = limiter({"rules": [{**RULE, "shadow": True, "limit": 0}]})
    assert admitted(hook, *(asked() for _ in range(3))) == 3


def test_costs_that_are_nothing_are_not_counted_where_nothing_is_allowed():
    hook = limiter({"rules": [{**RULE, "limit": 0, "costs": {"OPTIONS": 0, "POST": 2}}]})
    assert admitted(hook, asked(method="OPTIONS"), asked(), asked(method="POST")) == 1
