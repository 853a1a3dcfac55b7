"""Which requests a rule applies to, what they cost, and rules that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Identity
from gateway.core.failures import Failed
from gateway.core.hooks import ConfigProblem
from gateway.middlewares import rate_limit
from tests.unit.middlewares.rate_limit.rules_world import RULE, admitted, asked, limiter


@pytest.mark.parametrize(
    ("table", "at", "said"),
    [
        ({"rules": [RULE, RULE]}, ("rules", 1), "two rules are called 'a'"),
        ({"rules": [{"key": "ip"}]}, ("rules", 0), "says no limit"),
        ({"rules": [{"key": "ip", "class": "x"}]}, ("rules", 0, "class"), "there is no class 'x'"),
        (
            {"rules": [{"key": "ip", "limit": 1, "window": 1, "roles": {"r": "x"}}]},
            ("rules", 0, "roles", "r"),
            "no class",
        ),
        ({"algorithm": "quota", "limit": 5}, (), "limit and period need each other"),
        ({"algorithm": "quota", "limit": 5, "window": 5}, ("window",), "window belongs to"),
        ({"limit": 5, "period": "day"}, ("period",), "period belongs to"),
        (
            {"algorithm": "quota", "limit": 5, "period": "day", "time_zone": "X/Y"},
            ("time_zone",),
            "no time zone 'X/Y'",
        ),
        ({"algorithm": "concurrency"}, (), "says no limit"),
        ({"algorithm": "concurrency", "limit": 2, "costs": {"GET": 2}}, ("costs",), "all cost one"),
        (
            {"algorithm": "concurrency", "limit": 2, "cost_header": "X"},
            ("cost_header",),
            "all cost one",
        ),
        ({"algorithm": "concurrency", "limit": 2, "mode": "leased"}, ("mode",), "cannot be leased"),
        (
            {"algorithm": "sliding_log", "limit": 200_000, "window": 1},
            (),
            "100000 requests at most",
        ),
        (
            {
                **RULE,
                "mode": "exact",
                "rules": [{**RULE, "algorithm": "sliding_log", "mode": "leased"}],
            },
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
    exempt = {
        "networks": ["10.0.0.0/8", "2001:db8::/32"],
        "clients": ["probe"],
        "tiers": ["gold"],
        "roles": ["admin"],
    }
    hook = limiter({"key": "global", "limit": 1, "window": "1h", "exempt": exempt})
    free = [
        asked(ip="10.1.2.3"),
        asked(ip="2001:db8::1"),
        asked(Identity("probe", "api_key")),
        asked(Identity("x", "api_key", "gold")),
        asked(Identity("x", "api_key", roles=frozenset({"admin", "user"}))),
    ]
    assert admitted(hook, *free, *free) == 10
    held = [
        asked(),
        asked(Identity("x", "api_key", "silver", roles=frozenset({"user"}))),
        asked(ip="unix:"),
    ]
    assert admitted(hook, *held) == 1


def test_roles_in_the_order_of_the_table_and_tiers_before_them():
    classes = {
        name: {"limit": number, "window": "1h"}
        for name, number in (("n", 1), ("s", 2), ("a", 3), ("t", 4))
    }
    hook = limiter(
        {
            "key": "client",
            "class": "n",
            "roles": {"admin": "a", "staff": "s"},
            "tiers": {"top": "t"},
            "classes": classes,
        }
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


def test_methods_in_lower_case_are_those_that_requests_have():
    """As in routes; no request has any other (admission refuses or corrects it)."""
    hook = limiter({**RULE, "limit": 3, "methods": ["get", "purge"], "costs": {"get": 3}})
    assert (
        admitted(
            hook, *(asked(method=method) for method in ("GET", "HEAD", "POST", "purge", "PURGE"))
        )
        == 3
    )


def test_methods_that_are_limited():
    hook = limiter({"key": "ip", "limit": 1, "window": "1h", "methods": ["POST"]})
    assert admitted(hook, *(asked() for _ in range(3))) == 3
    assert admitted(hook, *(asked(method="POST") for _ in range(3))) == 1


def test_a_request_never_costs_more_than_the_whole_limit():
    hook = limiter({"key": "ip", "limit": 3, "window": "1h", "costs": {"*": 50}})
    assert admitted(hook, asked(), asked()) == 1


@pytest.mark.parametrize("key", ["cookie", "header:", [], ["ip", "x"], 3])
def test_keys_that_are_none(key: Any):
    with pytest.raises(Exception, match="must be"):
        rate_limit.CONFIG().load({"key": key, "limit": 1, "window": 1})


@pytest.mark.parametrize(
    ("costs", "left"), [({"GET": 4}, 6), ({"GET": 4, "HEAD": 1}, 9), ({"*": 3}, 7)]
)
def test_head_costs_what_get_does(costs: dict[str, int], left: int):
    hook = limiter({**RULE, "limit": 10, "costs": costs})
    hook(asked(method="HEAD"))
    assert hook.status(asked())[0]["remaining"] == left
