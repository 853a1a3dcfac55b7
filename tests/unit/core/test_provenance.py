"""One account of where a request came from, whichever fields a trusted proxy writes it in."""

from __future__ import annotations

import pytest

from gateway.core.provenance import account
from tests.exchange import exchange

OURS = 'for=10.0.0.1;proto=http;host="edge.test"'


@pytest.mark.parametrize(
    ("fields", "hops", "proto", "host", "forwarded"),
    [
        ({}, "10.0.0.1", "http", "edge.test", OURS),
        (
            {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"},
            "203.0.113.9, 10.0.0.1", "https", "edge.test", f"for=203.0.113.9;proto=https, {OURS}",
        ),
        (
            {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "outer.test"},
            "203.0.113.9, 10.0.0.1", "https", "outer.test", f'for=203.0.113.9;proto=https;host="outer.test", {OURS}',
        ),
        (
            {"Forwarded": "for=203.0.113.9;proto=https;host=outer.test"},
            "203.0.113.9, 10.0.0.1", "https", "outer.test", f'for=203.0.113.9;proto=https;host="outer.test", {OURS}',
        ),
        (
            {"Forwarded": ('for="[2001:db8::7]:4711";proto=https, '
                'for=10.0.0.2'), "X-Forwarded-For": "2001:db8::7, 10.0.0.2"},
            "2001:db8::7, 10.0.0.2, 10.0.0.1", "https", "edge.test",
            f'for="[2001:db8::7]:4711";proto=https, for=10.0.0.2, {OURS}',
        ),
        (
            {"Forwarded": "for=6.6.6.6;proto=https;host=evil.test", "X-Forwarded-For": "203.0.113.9"},
            "203.0.113.9, 10.0.0.1", "http", "edge.test", f"for=203.0.113.9, {OURS}",
        ),
        (
            {"Forwarded": "for=203.0.113.9;proto=http", "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"},
            "203.0.113.9, 10.0.0.1", "https", "edge.test", f"for=203.0.113.9;proto=https, {OURS}",
        ),
        ({"X-Forwarded-For": "203.0.113.9, ,"}, "203.0.113.9, 10.0.0.1", "http", "edge.test", f"for=203.0.113.9, {OURS}"),
        (
            {"X-Forwarded-For": "2001:db8::7"},
            "2001:db8::7, 10.0.0.1", "http", "edge.test", f'for="[2001:db8::7]", {OURS}',
        ),
        ({"X-Forwarded-Proto": 'x"; host=y', "X-Forwarded-Host": "a b"}, "10.0.0.1", "http", "edge.test", OURS),
    ],
)  # fmt: skip
def test_a_trusted_proxys_account(
    fields: dict[str, str], hops: str, proto: str, host: str, forwarded: str
):
    made = account(
        exchange("GET", "/", {"Host": "edge.test", **fields}, peer="10.0.0.1", trusted=True)
    )
    assert (", ".join(made.hops), made.proto, made.host, made.forwarded) == (
        hops,
        proto,
        host,
        forwarded,
    )


def test_what_a_stranger_says_is_not_believed():
    fields = {
        "Host": "edge.test",
        "X-Forwarded-For": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X-Forwarded-Proto": "https",
    }
    made = account(exchange("GET", "/", fields, peer="10.0.0.1"))
    assert made == (("10.0.0.1",), "http", "edge.test", OURS, "http://edge.test")
    assert account(exchange("GET", "/", {"Host": "E" * 300})).origin == f"http://{'e' * 300}"


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 50_000, " " * 100_000, "a" * 100_000, 'for="' * 20_000]
)
def test_long_accounts_are_looked_at_once(text: str):
    """Quadratic patterns would take minutes for this."""
    fields = {"Host": "edge.test", "Forwarded": f"{text}, for=203.0.113.9"}
    made = account(exchange("GET", "/", fields, peer="10.0.0.1", trusted=True))
    assert made.hops[-2:] == ("203.0.113.9", "10.0.0.1")
