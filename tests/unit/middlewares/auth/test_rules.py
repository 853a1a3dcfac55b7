from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.failures import Failure
from tests.unit.middlewares.auth.bearers import (
    ISSUER,
    SECRET,
    Bearers,
    asked,
    bearing,
    refused,
    token,
)


def at(address: str, exchange: Exchange) -> Exchange:
    exchange.client_ip = address
    return exchange


@pytest.mark.parametrize(
    ("table", "address", "why"),
    [
        ({"allow": ["10.0.0.0/8"]}, "10.1.2.3", ""),
        ({"allow": ["10.0.0.0/8"]}, "11.1.2.3", "allow: 11.1.2.3 is not in 10.0.0.0/8"),
        ({"deny": ["10.0.0.0/8"]}, "11.1.2.3", ""),
        ({"deny": ["10.0.0.0/8", "::1"]}, "::1", "deny: ::1 is in 10.0.0.0/8, ::1/128"),
        (
            {"allow": ["10.0.0.0/8"], "deny": ["10.9.0.0/16"]},
            "10.9.1.1",
            "deny: 10.9.1.1 is in 10.9.0.0/16",
        ),
        ({"allow": ["10.0.0.0/8"], "deny": ["10.9.0.0/16"]}, "10.8.1.1", ""),
        ({"allow": ["10.0.0.0/8"]}, "", "allow:  is not in"),
    ],
)
def test_networks_come_before_credentials(table: dict[str, Any], address: str, why: str):
    world = Bearers()
    hook = world.auth(**table)
    if not why:
        hook(at(address, bearing(token())))
        return
    for exchange in (bearing(token()), bearing("nonsense"), asked()):
        failed = refused(hook, at(address, exchange))
        assert (
            failed.failure is Failure.FORBIDDEN
            and why in failed.why
            and failed.detail == "You may not do this."
        )
    assert world.counted() == {("none", "network"): 3}


def test_tiers():
    hook = Bearers().auth(tiers=["gold", "silver"])
    hook(bearing(token(tier="gold")))
    assert (
        refused(hook, bearing(token(tier="lead"))).why
        == "tiers: client acme is of tier lead, not gold or silver"
    )
    assert (
        refused(hook, bearing(token())).why
        == "tiers: client acme is of tier none, not gold or silver"
    )


@pytest.mark.parametrize(
    ("owner", "said", "params", "why"),
    [
        ({"id": "sub"}, {}, {"id": "acme"}, ""),
        ({"id": "client"}, {}, {"id": "acme"}, ""),
        ({"id": "sub"}, {}, {"id": "bert"}, "the path's id is not the sub of client acme"),
        ({"id": "sub"}, {}, {"id": "ACME"}, "is not the sub"),
        ({"id": "sub"}, {}, {}, "the path's id is not there"),
        ({"id": "user.id"}, {"user": {"id": 42}}, {"id": "42"}, ""),
        ({"id": "user.id"}, {"user": {"id": True}}, {"id": "True"}, "is not the user.id"),
        ({"id": "uid"}, {}, {"id": "None"}, "is not the uid"),
        ({"id": "uid"}, {"uid": ["a"]}, {"id": "['a']"}, "is not the uid"),
        ({"org": "org", "id": "sub"}, {"org": "x"}, {"id": "acme", "org": "x"}, ""),
        (
            {"org": "org", "id": "sub"},
            {"org": "x"},
            {"id": "acme", "org": "y"},
            "the path's org is not the org",
        ),
    ],
)
def test_ownership(owner: dict[str, str], said: dict[str, Any], params: dict[str, str], why: str):
    hook = Bearers().auth(owner=owner)
    exchange = bearing(token(**said), explained=True)
    exchange.params = params
    if not why:
        hook(exchange)
        return
    failed = refused(hook, exchange)
    assert (
        failed.failure is Failure.FORBIDDEN
        and failed.why.startswith("owner: ")
        and why in failed.why
    )
    assert exchange.decisions is not None and exchange.decisions[-1].why == failed.why
    assert "acme" not in failed.detail


@pytest.mark.parametrize("claim", ["sub", "client", "uid"])
def test_another_issuers_caller_of_the_same_name_owns_nothing(claim: str):
    other = {"issuer": "https://other.example", "secret": SECRET, "claims": {"prefix": "partners:"}}
    hook = Bearers().auth({"secret": SECRET}, other, owner={"id": claim})
    for issuer, id, owns in (
        (ISSUER, "acme", True),
        (other["issuer"], "acme", False),
        (other["issuer"], "partners:acme", True),
    ):
        exchange = bearing(token(iss=issuer, uid="acme"))
        exchange.params = {"id": id}
        if owns:
            hook(exchange)
        else:
            refused(hook, exchange)


def test_whoever_may_see_all_owns_nothing():
    hook = Bearers().auth(owner={"id": "sub"}, owner_except=["users:any"])
    exchange = bearing(token(scope="users:*"))
    exchange.params = {"id": "bert"}
    hook(exchange)
    exchange = bearing(token(scope="users:read"))
    exchange.params = {"id": "bert"}
    refused(hook, exchange)


def test_rules_on_callers_need_one():
    assert refused(Bearers().auth(optional=True, tiers=["gold"]), asked()).why == "no credentials"
