"""A policy in a ledger: its keys and terms."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from gateway.limits.algorithms import Taking
from gateway.limits.ledger import TERMS
from gateway.middlewares.rate_limit.shared_limit import SharedLimit, slot_name
from tests.exchange import World
from tests.unit.middlewares.rate_limit.rules_world import RULE, limiter


def test_no_two_limits_have_one_key_in_a_ledger():
    """Names come from the configuration, and may hold what separates them."""
    ledger = SimpleNamespace(name="redis://db", gateways=1, up=True, leased_by_default=False)
    found = set()
    for pipeline, name in (("a", "b/c"), ("a/b", "c"), ("a:b", "c"), ("a", "b:c"), ("a", "}b")):
        for key in ("ip", "client", "header:ip"):
            hook = limiter({**RULE, "name": name, "key": key}, pipeline=pipeline, ledger=ledger)
            [shared] = hook._rules[0].shared.values()
            found |= {
                shared.key(value)
                for value in (
                    "x",
                    "x:y",
                    "{x}",
                    "(x)",
                    ("x",),
                    ("x", ("y", "z")),
                    (("x", "y"), "z"),
                )
            }
    assert len(found) == 5 * 3 * 7
    assert all(key.count(b"{") == key.count(b"}") == 1 for key in found)


def shared_limit(table: dict[str, Any], world: World | None = None) -> SharedLimit:
    ledger = SimpleNamespace(name="redis://db", gateways=1, up=True, leased_by_default=False)
    [shared] = limiter(table, world, ledger=ledger)._rules[0].shared.values()
    return shared


def test_the_terms_of_a_request():
    shared = shared_limit({**RULE, "algorithm": "fixed_window"})
    limit = [b"fixed_window", b"5", repr(5 / 3600).encode(), b"3600.0", b"0"]
    assert list(shared.terms(1)) == [*limit, b"1", b"0", b"", b""]
    assert list(shared.terms(3, 1)) == [*limit, b"3", b"1", b"", b""]
    assert (
        len(shared.terms(1))
        == len(shared.terms(1, slot=b"s"))
        == len(shared.refund_terms(1))
        == TERMS
    )
    assert list(shared.terms(1, slot=b"s"))[-2:] == [b"s", b"60"]


def test_the_terms_of_a_quota_follow_the_calendar():
    world = World(now=100.0)
    shared = shared_limit({"key": "ip", "limit": 5, "algorithm": "quota", "period": "day"}, world)
    assert list(shared.terms(1))[-2:] == [b"86400.0", b"172800.0"]
    world.now += 86_400
    assert list(shared.terms(1))[-2:] == [b"172800.0", b"259200.0"]
    # What is given back belongs to the period in which it was taken.
    assert list(shared.refund_terms(1, Taking(100.0 * 1e6, 3.0)))[-3:] == [
        b"100000000",
        b"86400",
        b"",
    ]


def test_slots_have_names_of_their_own():
    assert len({slot_name() for _ in range(1000)}) == 1000
    # processes that were forked draw the same random part
    assert f"-{os.getpid()}-".encode() in slot_name()
