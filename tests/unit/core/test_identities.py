"""Identities: the headers for the upstream, and the permissions that roles bring."""

from __future__ import annotations

from gateway.core.identities import identity


def test_headers_say_what_is_known():
    bare = identity("acme", "jwt", {}, claims={})
    assert bare.headers == ((b"X-Client-ID", b"acme"),)
    full = identity(
        "acmé", "jwt", {}, tier="gold", roles=frozenset({"b", "a"}), claims={"sub": "x"}
    )
    assert full.headers == (
        (b"X-Client-ID", "acmé".encode()),
        (b"X-Client-Tier", b"gold"),
        (b"X-Client-Roles", b"a,b"),
    )
    assert full.claims == {"sub": "x"}


def test_roles_bring_permissions():
    granted = {"operator": ("cameras:read", "alarms:read"), "admin": ("*",)}
    made = identity(
        "acme",
        "api_key",
        granted,
        roles=frozenset({"operator", "unknown"}),
        permissions=frozenset({"own"}),
        claims={},
    )
    assert made.permissions == {"own", "cameras:read", "alarms:read"}
    assert identity("acme", "api_key", granted, claims={}).permissions == frozenset()


def test_claims_do_not_make_another_caller():
    assert identity("acme", "jwt", {}, claims={"jti": "1"}) == identity(
        "acme", "jwt", {}, claims={"jti": "2"}
    )
