"""Which stored response a request is about, and which requests pass by."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.failures import Failure
from tests.unit.middlewares.caching.world import ALICE, BOB, MINUTE, TAGGED, Cached, answer, date


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("path", {"target": "/other"}),
        ("query", {"target": "/thing?a=1"}),
        ("nothing is normalised", {"target": "/%74hing"}),
        ("host", {"host": "other.example.com"}),
        (
            "the port clients named, which origins build links with",
            {"host": "api.example.com:1337"},
        ),
        ("scheme", {"scheme": "https"}),
        ("route", {"route": "beta-things"}),
    ],
)
def test_the_key_is_scheme_host_target_and_route(why: str, change: dict[str, Any]):
    world = Cached()
    world.ask(answer(MINUTE))
    assert world.ask(answer(MINUTE), **change).line == "gateway; fwd=uri-miss; stored"
    assert world.ask(**change).cache == "hit"
    assert world.ask().cache == "hit"


def test_hosts_are_compared_without_case():
    world = Cached()
    world.ask(answer(MINUTE), host="API.example.com")
    assert world.ask(host="api.EXAMPLE.com").cache == "hit"


def test_ignored_query_parameters():
    world = Cached({"key": {"query_ignore": ["utm_*", "fbclid"]}})
    world.ask(answer(MINUTE), target="/thing?utm_source=a&id=1&fbclid=x&utm")
    assert world.ask(target="/thing?id=1&utm").cache == "hit"
    assert world.ask(target="/thing?id=1&utm_x=&utm").cache == "hit"
    assert world.ask(answer(), target="/thing?id=2&utm").cache == "miss"
    assert world.ask(answer(), target="/thing?id=1").cache == "miss"
    seen = world.ask(answer(MINUTE), target="/thing?fbclid=1")
    assert seen.exchange.target == "/thing?fbclid=1"
    assert world.ask(target="/thing").cache == "hit"


def test_private_responses_are_kept_for_one_identity_when_told_so():
    world = Cached({"private": True})
    world.ask(answer({"Cache-Control": "private, max-age=60"}, b"alice's"), identity=ALICE)
    assert world.ask(identity=ALICE).body == b"alice's"
    assert world.ask(answer({}, b"bob's"), identity=BOB).cache == "miss"
    assert world.ask(answer({}, b"anybody's")).cache == "miss"
    assert (
        world.ask(
            answer({}), identity=replace(ALICE, permissions=frozenset(("cameras:read",)))
        ).cache
        == "miss"
    )
    assert Cached(on=world).ask(answer({}), identity=ALICE).cache == "miss"


def test_a_part_for_one_identity_is_a_private_cache():
    """RFC 9111: s-maxage, proxy-revalidate and Authorization matter to shared caches only; no-store
    to all."""
    world = Cached({"private": True})
    headers = {"Authorization": "Bearer t"}
    said = 'private, max-age=60, s-maxage=1, private="X-A"'
    world.ask(answer({"Cache-Control": said, "X-A": "1"}), identity=ALICE, headers=headers)
    world.wait(30)
    hit = world.ask(identity=ALICE, headers=headers)
    assert (hit.cache, hit.headers["X-A"]) == ("hit", "1")
    world.wait(40)
    assert (
        world.ask(identity=ALICE, headers={**headers, "Cache-Control": "max-stale"}).cache
        == "stale"
    )
    world.ask(answer({"Cache-Control": "no-store, max-age=60"}), identity=ALICE, target="/no")
    assert world.ask(answer({}), identity=ALICE, target="/no").cache == "miss"


def test_private_caching_still_shares_what_is_public():
    world = Cached({"private": True})
    world.ask(answer({"Cache-Control": "public, max-age=60"}), identity=ALICE)
    assert world.ask(identity=BOB).cache == "hit"
    assert world.ask().cache == "hit"


def test_of_an_own_and_a_shared_response_the_more_recent_is_served():
    world = Cached({"private": True})
    world.ask(answer({"Cache-Control": "private, max-age=60"}, b"own"), identity=ALICE)
    world.wait(1)
    world.ask(answer({"Cache-Control": "public, max-age=60"}, b"shared"), identity=BOB)
    assert world.ask(identity=ALICE).body == b"shared"


def test_default_ttl_does_not_share_what_identities_got():
    world = Cached({"default_ttl": "60s"})
    world.ask(answer({}), identity=ALICE)
    assert world.ask(answer({}), identity=BOB).cache == "miss"
    mine = Cached({"default_ttl": "60s", "private": True}, on=world)
    mine.ask(answer({}), identity=ALICE)
    assert mine.ask(identity=ALICE).cache == "hit"
    assert mine.ask(answer({}), identity=BOB).cache == "miss"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,3-4"},
        {"Range": "lines=0-1"},
        {"If-Match": '"1"'},
        {"If-Unmodified-Since": date()},
        {"Connection": "upgrade", "Upgrade": "WebSocket"},
    ],
)
def test_requests_that_pass_by(headers: dict[str, str]):
    world = Cached()
    world.ask(answer(MINUTE))
    seen = world.ask(answer(MINUTE, b"other"), headers=headers)
    assert (seen.cache, seen.line, seen.body) == ("bypass", "gateway; fwd=bypass", b"other")
    assert seen.sent is not None
    assert all(seen.sent[name] == value for name, value in headers.items())
    assert world.ask().body == b"body"
    assert world.counted("bypass") == 1


def test_a_request_with_a_body_passes_by():
    """Its body is not in the key."""
    world = Cached()
    assert world.ask(answer(MINUTE), body=object()).cache == "bypass"
    assert world.ask(answer(MINUTE)).cache == "miss"
    assert world.ask(answer(MINUTE), body=object()).cache == "bypass"


def test_other_upgrades_do_not_pass_by():
    world = Cached()
    world.ask(answer(MINUTE))
    assert world.ask(headers={"Upgrade": "h2c"}).cache == "hit"


def test_a_206_that_nobody_asked_for_is_not_stored():
    world = Cached()
    assert world.ask(answer(MINUTE, status=206)).line == "gateway; fwd=uri-miss; detail=status"
    assert len(world.memory) == 0


def test_what_another_hook_answered_is_not_stored():
    world = Cached()
    exchange = world.exchange()
    assert world.hooks.request is not None
    assert world.hooks.response is not None
    assert world.hooks.release is not None
    world.hooks.request(exchange)
    reply = answer(MINUTE)
    world.hooks.response(exchange, reply)
    world.hooks.release(exchange)
    assert reply.blocks == []
    assert len(world.memory) == 0
    assert exchange.cache == ""
    assert world.telemetry.cache_requests.values == {}


def test_clients_directives_can_be_switched_off():
    world = Cached({"request_directives": False})
    world.ask(answer(TAGGED), headers={"Cache-Control": "no-store"})
    for headers in (
        {"Cache-Control": "no-cache"},
        {"Pragma": "no-cache"},
        {"Cache-Control": "max-age=0, only-if-cached"},
    ):
        assert world.ask(headers=headers).cache == "hit"
    assert world.ask(headers={"If-None-Match": '"1"'}).status == 304


def test_unmarked_requests_with_many_field_names():
    """Names are remembered up to a bound; what matters is found among any."""
    world = Cached()
    world.ask(answer(MINUTE))
    for batch in range(30):
        assert (
            world.ask(headers=[(f"X-{batch}-{number}", "1") for number in range(50)]).cache == "hit"
        )
    assert (
        world.ask(headers={"X" * 100: "1", "RANGE": "lines=0-"}, origin=answer()).cache == "bypass"
    )
    assert (
        world.ask(
            headers=[("cache-control", "max-age=9"), ("CACHE-CONTROL", "no-cache")], origin=answer()
        ).cache
        == "bypass"
    )


def test_only_if_cached_refuses_what_is_not():
    world = Cached()
    seen = world.ask(headers={"Cache-Control": "only-if-cached"})
    assert seen.failed is not None
    assert (seen.failed.failure, seen.failed.by, seen.failed.why) == (
        Failure.NOT_CACHED,
        "caching",
        "only-if-cached, and uri-miss",
    )
    assert seen.failed.headers == ((b"Cache-Status", b"gateway; detail=only-if-cached"),)
    assert seen.sent is None
    assert seen.cache == "miss"


PROXY = {"peer": "10.0.0.1", "trusted": True}


@pytest.mark.parametrize(
    "told",
    [
        {"X-Forwarded-Host": "evil.example"},
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Port": "1337"},
        {"X-Forwarded-Prefix": "/evil"},
        {"X-Forwarded-Ssl": "on"},
        {"X-Forwarded-User": "alice"},
        {"Forwarded": "for=192.0.2.1;host=evil.example"},
        {"Forwarded": "for=192.0.2.1;proto=https"},
    ],
)
def test_what_a_trusted_proxy_says_and_the_origin_hears_is_part_of_the_key(told: dict[str, str]):
    world = Cached()
    world.ask(answer(MINUTE, b"poisoned"), headers=told, **PROXY)
    assert world.ask(answer(MINUTE, b"good"), **PROXY).body == b"good"
    assert world.ask(**PROXY).body == b"good"
    assert world.ask(headers=told, **PROXY).body == b"poisoned"
    assert (
        world.ask(headers={"X-Forwarded-For": "192.0.2.9", "X-Real-IP": "192.0.2.9"}, **PROXY).body
        == b"good"
    )


def test_what_strangers_say_is_not_part_of_the_key():
    world = Cached()
    world.ask(answer(MINUTE))
    assert (
        world.ask(headers={"X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "1"}).cache
        == "hit"
    )


def test_the_host_that_a_proxy_was_asked_for_is_the_one_that_is_invalidated():
    world = Cached()
    outer = {"X-Forwarded-Host": "outer.example", "X-Forwarded-Proto": "https"}
    world.ask(answer(MINUTE), headers=outer, **PROXY)
    world.ask(answer(status=204), "POST", headers=outer, **PROXY)
    assert world.ask(answer(MINUTE), headers=outer, **PROXY).cache == "miss"


def test_an_ignored_parameter_smuggles_none_behind_a_semicolon():
    world = Cached({"key": {"query_ignore": ["utm_*"]}})
    world.ask(answer(MINUTE, b"evil"), target="/thing?utm_a=1;cb=evil")
    assert world.ask(answer(MINUTE, b"good"), target="/thing?utm_a=1").body == b"good"
    assert world.ask(target="/thing?utm_b=2").body == b"good"


def test_a_client_certificate_counts_as_authorization_does():
    world = Cached()
    world.ask(answer(MINUTE), tls_subject="CN=alice")
    assert world.ask(answer(MINUTE), tls_subject="CN=bob").cache == "miss"
    world.ask(answer({"Cache-Control": "public, max-age=60"}), tls_subject="CN=alice")
    assert world.ask(tls_subject="CN=bob").cache == "hit"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"account": "of another issuer, or another tenant of it"}, False),
        ({"roles": frozenset(("admin",))}, False),
        ({"method": "api_key"}, False),
        ({"claims": {"exp": 2, "iat": 1, "jti": "x"}}, True),
        ({"headers": ((b"X-Client-Token", b"another of the same caller"),)}, True),
    ],
)
def test_a_private_answer_is_for_the_whole_identity(other: dict[str, Any], same: bool):
    world = Cached({"private": True})
    alice = replace(ALICE, method="jwt", account="alice of one issuer")
    world.ask(answer({"Cache-Control": "private, max-age=60"}), identity=alice)
    assert (world.ask(answer({}), identity=replace(alice, **other)).cache == "hit") is same


def test_a_request_that_the_origin_takes_for_another_passes_by():
    """Such fields are dropped on the way, unless the route's `pass_headers` hook has put them
    there."""
    world = Cached()
    override = {"X-HTTP-Method-Override": "DELETE"}
    world.ask(answer(MINUTE))
    assert world.ask(headers=override).cache == "hit"
    passed = [(b"X-HTTP-Method-Override", b"DELETE")]
    assert world.ask(answer(MINUTE), headers=override, forward_headers=passed).cache == "bypass"


def operators_hook(exchange: Any, reply: Any) -> None:
    """May do anything."""


@pytest.mark.parametrize(
    ("hook", "status"),
    [
        (operators_hook, 200),
        (wraps(operators_hook)(lambda exchange, reply: None), 200),
        (SimpleNamespace(__module__="gateway.middlewares.cors"), 206),
    ],
    ids=["an operator's", "wrapped", "ours"],
)
def test_parts_are_sent_where_no_hook_may_change_bodies(hook: Any, status: int):
    world = Cached()
    world.ask(answer(MINUTE, b"0123456789"))
    asked = world.exchange(headers={"Range": "bytes=0-1"})
    asked.route.pipeline = SimpleNamespace(response=((hook, False),))
    assert world.begin(asked)(None).status == status
