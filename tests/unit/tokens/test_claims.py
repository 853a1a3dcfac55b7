"""What a token's claims have to be, and whom they make the caller."""

from __future__ import annotations

import math
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.core.failures import Failure
from gateway.core.refusals import Refused
from gateway.tokens.claims import (
    ClaimsConfig,
    RulesConfig,
    Texts,
    check,
    check_answer,
    found,
    identity,
)
from gateway.tokens.jose import Token

NOW = 1_700_000_000
GOOD = {"sub": "alice", "exp": NOW + 60}


def token(type: str = "", **claims: Any) -> Token:
    return Token(
        "HS256",
        None,
        type,
        {name: value for name, value in {**GOOD, **claims}.items() if value is not None},
        b"",
        b"",
    )


@pytest.mark.parametrize(
    ("claims", "rules", "until"),
    [
        ({}, {}, NOW + 90),
        ({}, {"leeway": 0.0}, NOW + 60),
        ({"exp": NOW - 29}, {}, NOW + 1),
        ({"nbf": NOW + 30, "iat": NOW + 30}, {}, NOW + 90),
        ({"iat": NOW - 100}, {"max_age": 110.0}, NOW + 40),
        ({"iat": NOW - 100}, {"max_age": 1000.0}, NOW + 90),
        ({"aud": "edge"}, {"audience": ("edge", "other")}, NOW + 90),
        ({"aud": ["x", "edge"]}, {"audience": ("edge",)}, NOW + 90),
        ({"type": "JWT"}, {}, NOW + 90),
        ({"type": "application/at+jwt"}, {"type": "at+JWT"}, NOW + 90),
        ({"jti": "1"}, {"required": ("jti",)}, NOW + 90),
    ],
)
def test_how_long_a_token_holds(claims: dict[str, Any], rules: dict[str, Any], until: float):
    assert check(token(**claims), RulesConfig(**rules), NOW) == until


@pytest.mark.parametrize(
    ("claims", "rules", "failure", "why"),
    [
        ({"exp": None}, {}, Failure.UNAUTHENTICATED, "exp is missing"),
        ({"exp": NOW - 30}, {}, Failure.EXPIRED, "expired 2023-11-14 22:12:50 UTC"),
        ({"exp": str(NOW + 60)}, {}, Failure.UNAUTHENTICATED, "exp is not a time"),
        ({"exp": True}, {}, Failure.UNAUTHENTICATED, "exp is not a time"),
        ({"exp": -1}, {}, Failure.UNAUTHENTICATED, "exp is not a time"),
        ({"exp": 1e12}, {}, Failure.UNAUTHENTICATED, "exp is not a time"),
        ({"nbf": NOW + 31}, {}, Failure.UNAUTHENTICATED, "nbf is in the future"),
        ({"iat": NOW + 31}, {}, Failure.UNAUTHENTICATED, "iat is in the future"),
        ({"iat": 9e11}, {}, Failure.UNAUTHENTICATED, "after the year 9999"),
        ({}, {"max_age": 10.0}, Failure.UNAUTHENTICATED, "iat is missing"),
        ({"iat": NOW - 40}, {"max_age": 10.0}, Failure.EXPIRED, "longer ago than max_age"),
        ({}, {"audience": ("edge",)}, Failure.UNAUTHENTICATED, "aud is missing"),
        ({"aud": "x"}, {}, Failure.UNAUTHENTICATED, "not for an audience configured here"),
        (
            {"aud": "x"},
            {"audience": ("edge", "other")},
            Failure.UNAUTHENTICATED,
            "not for edge or other",
        ),
        (
            {"aud": [1]},
            {"audience": ("edge",)},
            Failure.UNAUTHENTICATED,
            "neither a string nor an array",
        ),
        ({"type": "logout+jwt"}, {}, Failure.UNAUTHENTICATED, "typ is 'logout\\+jwt'"),
        ({"type": "JWT"}, {"type": "at+jwt"}, Failure.UNAUTHENTICATED, "typ is 'JWT'"),
        ({}, {"required": ("jti",)}, Failure.UNAUTHENTICATED, "the claim jti is missing"),
    ],
)
def test_what_is_refused(claims: dict[str, Any], rules: dict[str, Any], failure: Failure, why: str):
    with pytest.raises(Refused, match=why) as caught:
        check(token(**claims), RulesConfig(**rules), NOW)
    assert caught.value.failure is failure


def test_whom_the_claims_make_the_caller():
    claims = {
        "azp": 7,
        "sub": "alice",
        "tier": "gold",
        "realm": {"roles": ["op", "admin"]},
        "scope": "a:read  b:read",
    }
    config = ClaimsConfig(client="azp", roles="realm.roles")
    made = identity(claims, config, {"op": ("c:read",)}, "jwt")
    assert (made.client, made.user, made.tier, made.method) == ("7", "alice", "gold", "jwt")
    assert made.roles == {"op", "admin"} and made.permissions == {"a:read", "b:read", "c:read"}
    assert made.claims is claims


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({}, "names the client, is missing"),
        ({"sub": ""}, "names the client, is missing"),
        ({"sub": True}, "is not text that fits a header"),
        ({"sub": "a\r\nX-Client-ID: root"}, "is not text that fits a header"),
        ({"sub": "a" * 257}, "is not text that fits a header"),
        ({"sub": "\ud800"}, "is not text that fits a header"),
        ({"sub": " a"}, "is not text that fits a header"),
        ({"sub": "a", "tier": ["gold"]}, "the tier, is not text"),
        ({"sub": "a", "roles": ["a,b"]}, "has a comma"),
        ({"sub": "a", "roles": {"a": 1}}, "neither an array of words"),
        ({"sub": "a", "scope": ["x\n"]}, "neither an array of words"),
    ],
)
def test_callers_that_cannot_be_told_to_upstreams(claims: dict[str, Any], why: str):
    with pytest.raises(Refused, match=why):
        identity(claims, ClaimsConfig(), {}, "jwt")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", 1), ("b.c", 2), ("d.e", 3), ("b.c.x", None), ("x", None), ("b.x", None)],
)
def test_names_with_dots_lead_into_objects_unless_a_claim_is_called_that(name: str, expected: Any):
    assert found({"a": 1, "b": {"c": 2}, "d.e": 3, "d": {"e": 4}}, name) == expected


def test_what_an_introspection_server_says():
    assert check_answer({"active": True}, (), NOW) == math.inf
    assert check_answer({"active": True, "exp": NOW + 5, "aud": "edge"}, ("edge",), NOW) == NOW + 5
    for answer, audience, result in (
        ({"active": False}, (), "invalid"),
        ({"active": True, "exp": NOW}, (), "expired"),
        ({"active": True, "exp": "soon"}, (), "invalid"),
        ({"active": True}, ("edge",), "invalid"),
        ({"active": True, "aud": "x"}, ("edge",), "invalid"),
    ):
        with pytest.raises(Refused) as caught:
            check_answer(answer, audience, NOW)
        assert caught.value.result == result


def test_one_string_or_several():
    assert Texts().deserialize("a") == ("a",)
    assert Texts().deserialize(["a", "b"]) == ("a", "b")
    for wrong in (1, [1], {"a": 1}):
        with pytest.raises(ValidationError):
            Texts().deserialize(wrong)
