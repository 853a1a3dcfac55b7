from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem
from gateway.middlewares import rate_limit
from gateway.middlewares.rate_limit.limiter import Limiter
from tests.exchange import World, exchange


def limiter(table: dict[str, Any], world: World | None = None, **more: Any) -> Limiter:
    hook = (world or World(now=100.0)).build(rate_limit, table, **more).request
    assert isinstance(hook, Limiter)
    return hook


def asked(identity: Identity | None = None, *, ip: str = "192.0.2.1", **facts: Any) -> Exchange:
    return exchange(peer=ip, identity=identity, **facts)


def admitted(hook: Limiter, *exchanges: Exchange) -> int:
    count = 0
    for request in exchanges:
        try:
            hook(request)
            count += 1
        except Failed:
            pass
    return count


RULE = {"name": "a", "key": "ip", "limit": 5, "window": "1h"}


@pytest.mark.parametrize(
    ("table", "at", "said"),
    [
        ({"rules": [RULE, RULE]}, ("rules", 1), "two rules are called 'a'"),
        ({"rules": [{"key": "ip"}]}, ("rules", 0), "says no limit"),
        ({"rules": [{"key": "ip", "class": "x"}]}, ("rules", 0, "class"), "there is no class 'x'"),
        ({"rules": [{"key": "ip", "limit": 1, "window": 1, "roles": {"r": "x"}}]}, ("rules", 0, "roles", "r"), "no class"),
        ({"algorithm": "quota", "limit": 5}, (), "limit and period need each other"),
        ({"algorithm": "quota", "limit": 5, "window": 5}, ("window",), "window belongs to"),
        ({"limit": 5, "period": "day"}, ("period",), "period belongs to"),
        ({"algorithm": "quota", "limit": 5, "period": "day", "time_zone": "X/Y"}, ("time_zone",), "no time zone 'X/Y'"),
        ({"algorithm": "concurrency"}, (), "says no limit"),
        ({"algorithm": "concurrency", "limit": 2, "costs": {"GET": 2}}, ("costs",), "all cost one"),
        ({"algorithm": "concurrency", "limit": 2, "cost_header": "X"}, ("cost_header",), "all cost one"),
        ({"algorithm": "concurrency", "limit": 2, "mode": "leased"}, ("mode",), "cannot be leased"),
        ({"algorithm": "sliding_log", "limit": 200_000, "window": 1}, (), "100000 requests at most"),
        (
            {**RULE, "mode": "exact", "rules": [{**RULE, "algorithm": "sliding_log", "mode": "leased"}]},
            ("rules", 0, "mode"),
            "leased",
        ),
    ],
)
def test_problems(table: dict[str, Any], at: tuple[Any, ...], said: str):
    with pytest.raises(ConfigProblem, match=said) as caught:
        limiter(table)
    assert caught.value.at == at


def test_who_is_exempt():
    exempt = {"networks": ["10.0.0.0/8", "2001:db8::/32"], "clients": ["probe"], "tiers": ["gold"], "roles": ["admin"]}
    hook = limiter({"key": "global", "limit": 1, "window": "1h", "exempt": exempt})
    free = [
        asked(ip="10.1.2.3"),
        asked(ip="2001:db8::1"),
        asked(Identity("probe", "api_key")),
        asked(Identity("x", "api_key", "gold")),
        asked(Identity("x", "api_key", roles=frozenset({"admin", "user"}))),
    ]
    assert admitted(hook, *free, *free) == 10
    held = [asked(), asked(Identity("x", "api_key", "silver", roles=frozenset({"user"}))), asked(ip="unix:")]
    assert admitted(hook, *held) == 1


def test_roles_in_the_order_of_the_table_and_tiers_before_them():
    classes = {name: {"limit": number, "window": "1h"} for name, number in (("n", 1), ("s", 2), ("a", 3), ("t", 4))}
    hook = limiter(
        {"key": "client", "class": "n", "roles": {"admin": "a", "staff": "s"}, "tiers": {"top": "t"}, "classes": classes}
    )
    callers = {
        1: Identity("none", "x"),
        2: Identity("staff", "x", roles=frozenset({"staff"})),
        3: Identity("both", "x", roles=frozenset({"staff", "admin"})),
        4: Identity("tier", "x", "top", roles=frozenset({"admin"})),
    }
    for expected, identity in callers.items():
        assert admitted(hook, *(asked(identity) for _ in range(6))) == expected


def test_a_limit_of_get_covers_head():
    hook = limiter({"key": "ip", "limit": 1, "window": "1h", "methods": ["GET"]})
    hook(asked(method="HEAD"))
    with pytest.raises(Failed):
        hook(asked(method="GET"))


def test_methods_that_are_limited():
    hook = limiter({"key": "ip", "limit": 1, "window": "1h", "methods": ["POST"]})
    assert admitted(hook, *(asked() for _ in range(3))) == 3
    assert admitted(hook, *(asked(method="POST") for _ in range(3))) == 1


def test_a_request_never_costs_more_than_the_whole_limit():
    hook = limiter({"key": "ip", "limit": 3, "window": "1h", "costs": {"*": 50}})
    assert admitted(hook, asked(), asked()) == 1


def test_the_longest_wait_of_all_refusals_is_told():
    rules = [{**RULE, "name": "short", "limit": 1, "window": "1m"}, {**RULE, "name": "long", "limit": 1, "window": "1h"}]
    world = World(now=100.0)
    hook = limiter({"rules": rules}, world)
    hook(asked())
    with pytest.raises(Failed) as caught:
        hook(asked())
    assert dict(caught.value.headers)[b"Retry-After"] == b"3600"
    assert dict(caught.value.headers)[b"RateLimit-Policy"] == b'"short";q=1;w=60, "long";q=1;w=3600'
    assert world.telemetry.rate_limited.get(("", "short")) == world.telemetry.rate_limited.get(("", "long")) == 1


def test_refusals_leave_bursts_alone():
    hook = limiter({"rules": [{"name": "b", "key": "ip", "tokens": 50, "refill": 0.01, "burst": 3}, {**RULE, "limit": 1}]})
    assert admitted(hook, *(asked() for _ in range(9))) == 1
    left = {one["policy"]: one["remaining"] for one in hook.status(asked())}
    assert left == {"b": 49, "a": 0}
    assert len(hook._rules[0].default.buckets.find("192.0.2.1")[2] or []) <= 1


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


@pytest.mark.parametrize("key", ["cookie", "header:", [], ["ip", "x"], 3])
def test_keys_that_are_none(key: Any):
    with pytest.raises(Exception, match="must be"):
        rate_limit.CONFIG().load({"key": key, "limit": 1, "window": 1})


def test_what_a_rule_looks_like():
    assert repr(limiter({"rules": [RULE]})) == '<Limiter rate_limit: [<Rule "a";q=5;w=3600 by ip memory>]>'


@pytest.mark.parametrize("algorithm", ["token_bucket", "quota", "concurrency"])
def test_a_rule_that_allows_nothing(algorithm: str):
    more = {"quota": {"period": "day"}, "token_bucket": {"window": "1h"}}.get(algorithm, {})
    rule = {"name": "none", "key": "ip", "algorithm": algorithm, "limit": 0, **more}
    hook = limiter({"rules": [{**RULE, "name": "some"}, rule]})
    with pytest.raises(Failed) as caught:
        hook(asked())
    assert caught.value.failure is (Failure.QUOTA_EXCEEDED if algorithm == "quota" else Failure.RATE_LIMITED)
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


@pytest.mark.parametrize(("costs", "left"), [({"GET": 4}, 6), ({"GET": 4, "HEAD": 1}, 9), ({"*": 3}, 7)])
def test_head_costs_what_get_does(costs: dict[str, int], left: int):
    hook = limiter({**RULE, "limit": 10, "costs": costs})
    hook(asked(method="HEAD"))
    assert hook.status(asked())[0]["remaining"] == left


def test_no_two_limits_have_one_key_in_a_ledger():
    """Names come from the configuration, and may hold what separates them."""
    ledger = SimpleNamespace(name="redis://db", gateways=1, up=True)
    found = set()
    for pipeline, name in (("a", "b/c"), ("a/b", "c"), ("a:b", "c"), ("a", "b:c"), ("a", "}b")):
        for key in ("ip", "client", "header:ip"):
            hook = limiter({**RULE, "name": name, "key": key}, pipeline=pipeline, ledger=ledger)
            [remote] = hook._rules[0].remotes.values()
            found |= {remote.key(value) for value in ("x", "x:y", "{x}", "(x)", ("x",), ("x", ("y", "z")), (("x", "y"), "z"))}
    assert len(found) == 5 * 3 * 7
    assert all(key.count(b"{") == key.count(b"}") == 1 for key in found)
