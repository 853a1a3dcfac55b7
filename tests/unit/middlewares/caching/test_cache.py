"""The cache's hooks: what they serve, store, ask, freshen, invalidate, count and explain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError
from multidict import CIMultiDict

from gateway import middlewares
from gateway.core.exchange import Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context
from gateway.middlewares import caching
from gateway.middlewares.caching.cache import Cache, same_origin
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.caching.entries import Entries
from tests.unit.middlewares.caching.world import START, Seen, Stream, World, answer, date

ALICE = Identity("alice", "api_key", headers=((b"X-Client-ID", b"alice"),))
BOB = Identity("bob", "api_key", headers=((b"X-Client-ID", b"bob"),))
MINUTE = {"Cache-Control": "max-age=60"}
TAGGED = {"Cache-Control": "max-age=60", "ETag": '"1"'}
DOWN = Failed(Failure.CONNECT_FAILED)


def not_modified(*headers: tuple[str, str]) -> Reply:
    return answer(headers, b"", 304)


# Configuration.


def test_the_catalogue_finds_it():
    kind = middlewares.find("caching")
    assert kind.build is caching.build
    assert kind.config is not None
    assert kind.config().load({}) == CachingConfig()


def test_everything_can_be_set():
    config = caching.CONFIG().load(
        {
            "default_ttl": "1m",
            "max_size": "1MiB",
            "max_entry": "1KiB",
            "stale_if_error": "1h",
            "private": True,
            "request_directives": False,
            "invalidate": ["/a*"],
            "key": {"headers": ["X-Tenant"], "query_ignore": ["utm_*"]},
        }
    )
    assert config == CachingConfig(60, 2**20, 1024, 3600, True, False, ("/a*",), caching.KeyConfig(("X-Tenant",), ("utm_*",)))


@pytest.mark.parametrize(
    ("table", "at"),
    [
        ({"ttl": 5}, "ttl"),
        ({"default_ttl": "soon"}, "default_ttl"),
        ({"max_size": -1}, "max_size"),
        ({"private": 1}, "private"),
        ({"invalidate": ["cameras"]}, "invalidate"),
        ({"invalidate": [""]}, "invalidate"),
        ({"key": {"headers": ["not a name"]}}, "key"),
        ({"key": {"cookies": []}}, "key"),
    ],
)
def test_what_cannot_be_set(table: dict[str, Any], at: str):
    with pytest.raises(ValidationError) as caught:
        caching.CONFIG().load(table)
    assert list(caught.value.normalized_messages()) == [at]


def test_the_wrong_pattern_is_named_by_its_place():
    with pytest.raises(ValidationError) as caught:
        caching.CONFIG().load({"invalidate": ["/fine", "wrong"]})
    assert list(caught.value.normalized_messages()["invalidate"]) == [1]


def test_one_store_for_the_process():
    """Whatever the settings: a reload that changes them keeps what is stored."""
    for table in ({}, {"max_size": 1, "private": True}):
        world = World(table)
        assert [(key, fingerprint) for key, fingerprint, _ in world.kept] == [(("caching",), None)]
        assert isinstance(world.kept[0][2](), Entries)


# Hits.


def test_a_hit_says_so():
    world = World()
    first = world.ask(answer({**MINUTE, "Content-Type": "a/b", "X-A": "1"}, reason=b"Fine"))
    assert first.line == "gateway; fwd=uri-miss; stored"
    assert "Age" not in first.headers
    world.wait(12.7)
    hit = world.ask()
    assert hit.line == "gateway; hit; ttl=48"
    assert hit.headers["Age"] == "12"
    assert hit.headers["Date"] == first.headers["Date"] == date()
    assert hit.headers["Content-Type"] == "a/b"
    assert hit.headers["X-A"] == "1"
    assert (hit.status, hit.body, hit.reply.reason, hit.reply.length) == (200, b"body", b"Fine", 4)
    assert hit.cache == "hit"


def test_age_moves_with_the_clock():
    world = World()
    world.ask(answer({**MINUTE, "Age": "5"}))
    for seconds in (0, 0.5, 0.5, 10, 40.2):
        world.wait(seconds)
        assert world.ask().headers["Age"] == str(5 + int(world.time[0]))
        assert world.ask().line == f"gateway; hit; ttl={60 - 5 - int(world.time[0])}"


def test_the_time_an_answer_took_counts():
    """RFC 9111 section 4.2.3: its age is counted from when it was asked for."""
    world = World()
    complete = world.begin(world.exchange())
    world.wait(7)
    complete(answer({**MINUTE, "Age": "3", "Date": date(7)}))
    assert world.ask().headers["Age"] == "10"


def test_what_a_hit_becomes_does_not_change_what_is_stored():
    world = World()
    world.ask(answer([*MINUTE.items(), ("X-A", "1")]))
    hit = world.ask().reply
    assert hit is not None
    hit.set(b"X-A", b"changed")
    hit.add(b"X-B", b"new")
    hit.remove(b"cache-control")
    again = world.ask()
    assert again.headers["X-A"] == "1"
    assert "X-B" not in again.headers
    assert again.reply is not None
    assert again.reply.get(b"x-a") == b"1"
    assert again.reply.get(b"cache-control") == b"max-age=60"


def test_what_later_hooks_change_is_not_stored():
    world = World()
    first = world.ask(answer(MINUTE)).reply
    assert first is not None
    first.set(b"X-Cors", b"for one origin only")
    first.body = b"compressed"
    hit = world.ask()
    assert "X-Cors" not in hit.headers
    assert hit.body == b"body"


def test_fields_of_one_message_are_not_replayed():
    world = World()
    world.ask(answer({**MINUTE, "Age": "1", "X-Request-ID": "r1", "Cache-Control": "max-age=60", "Cache-Status": "origin; hit"}))
    hit = world.ask()
    assert "X-Request-ID" not in hit.headers
    assert hit.headers.getall("Age") == ["1"]
    assert hit.headers.getall("Cache-Status") == ["origin; hit", "gateway; hit; ttl=59"]


def test_several_lines_of_a_field_stay_several():
    world = World()
    world.ask(answer([("Cache-Control", "max-age=60"), ("Link", "<a>"), ("Link", "<b>")]))
    hit = world.ask()
    assert hit.headers.getall("Link") == ["<a>", "<b>"]
    assert hit.reply is not None
    assert hit.reply.get(b"link") == b"<a>, <b>"


def test_head_is_answered_from_what_get_stored():
    world = World()
    world.ask(answer(MINUTE))
    head = world.ask(method="HEAD")
    assert (head.status, head.body, head.cache) == (200, b"", "hit")
    assert head.reply is not None
    assert head.reply.length == 4


def test_qualified_directives_keep_only_their_fields_back():
    world = World()
    world.ask(answer({"Cache-Control": 'max-age=60, no-cache="X-A", private="x-b"', "X-A": "1", "X-B": "2", "X-C": "3"}))
    hit = world.ask()
    assert "X-A" not in hit.headers
    assert "X-B" not in hit.headers
    assert hit.headers["X-C"] == "3"


# The key.


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("path", {"target": "/other"}),
        ("query", {"target": "/thing?a=1"}),
        ("nothing is normalised", {"target": "/%74hing"}),
        ("host", {"host": "other.example.com"}),
        ("the port clients named, which origins build links with", {"host": "api.example.com:1337"}),
        ("scheme", {"scheme": "https"}),
        ("route", {"route": "beta-things"}),
    ],
)
def test_the_key_is_scheme_host_target_and_route(why: str, change: dict[str, Any]):
    world = World()
    world.ask(answer(MINUTE))
    assert world.ask(answer(MINUTE), **change).line == "gateway; fwd=uri-miss; stored"
    assert world.ask(**change).cache == "hit"
    assert world.ask().cache == "hit"


def test_hosts_are_compared_without_case():
    world = World()
    world.ask(answer(MINUTE), host="API.example.com")
    assert world.ask(host="api.EXAMPLE.com").cache == "hit"


def test_ignored_query_parameters():
    world = World({"key": {"query_ignore": ["utm_*", "fbclid"]}})
    world.ask(answer(MINUTE), target="/thing?utm_source=a&id=1&fbclid=x&utm")
    assert world.ask(target="/thing?id=1&utm").cache == "hit"
    assert world.ask(target="/thing?id=1&utm_x=&utm").cache == "hit"
    assert world.ask(answer(), target="/thing?id=2&utm").cache == "miss"
    assert world.ask(answer(), target="/thing?id=1").cache == "miss"
    seen = world.ask(answer(MINUTE), target="/thing?fbclid=1")
    assert seen.exchange.target == "/thing?fbclid=1"
    assert world.ask(target="/thing").cache == "hit"


def test_header_fields_in_the_key():
    world = World({"key": {"headers": ["X-Tenant", "Accept-Encoding"]}})
    tenant = {"X-Tenant": "a", "Accept-Encoding": "gzip, br"}
    world.ask(answer(MINUTE), headers=tenant)
    assert world.ask(headers={"X-TENANT": "a", "Accept-Encoding": "br,gzip"}).cache == "hit"
    assert world.ask(answer(), headers={**tenant, "X-Tenant": "b"}).line == "gateway; fwd=uri-miss"
    other = World({"key": {"headers": ["X-Other", "Accept-Encoding"]}}, on=world)
    assert other.ask(answer(), headers={**tenant, "X-Other": "a"}).cache == "miss"


def test_a_vary_miss_is_told_from_a_uri_miss():
    world = World()
    varies = {**MINUTE, "Vary": "Accept-Language"}
    world.ask(answer(varies), headers={"Accept-Language": "en"})
    assert world.ask(answer(varies), headers={"Accept-Language": "de"}).line == "gateway; fwd=vary-miss; stored"
    assert world.ask(answer(), target="/thing?x").line == "gateway; fwd=uri-miss"
    assert world.ask(headers={"Accept-Language": "en"}).cache == "hit"
    assert world.ask(headers={"Accept-Language": "de"}).cache == "hit"


def test_all_lines_of_a_field_count_for_vary():
    """The first line alone would let a client plant what the origin chose by the second."""
    world = World()
    varies = {**MINUTE, "Vary": "Accept-Language"}
    world.ask(answer(varies, b"xx"), headers=[("Accept-Language", "en"), ("accept-language", "xx")])
    assert world.ask(answer(varies, b"en"), headers={"Accept-Language": "en"}).body == b"en"
    assert world.ask(headers={"Accept-Language": "en,xx"}).body == b"xx"


def test_long_values_are_normalised_too():
    world = World()
    codings = ", ".join(f"x-{number}" for number in range(60))
    world.ask(answer({**MINUTE, "Vary": "Accept-Encoding"}), headers={"Accept-Encoding": codings})
    assert world.ask(headers={"Accept-Encoding": codings.upper().replace(" ", "")}).cache == "hit"


def test_vary_goes_by_what_other_middlewares_send():
    world = World()

    def ask(tenant: bytes, origin: Reply | None = None) -> Seen:
        exchange = world.exchange(headers={"X-Tenant": "what the client says"})
        exchange.forward_headers = [(b"X-Tenant", tenant)]
        return world.begin(exchange)(origin)

    ask(b"a", answer({**MINUTE, "Vary": "X-Tenant"}, b"for a"))
    assert ask(b"a").body == b"for a"
    assert ask(b"b", answer({**MINUTE, "Vary": "X-Tenant"}, b"for b")).cache == "miss"


def test_when_several_match_the_most_recent_is_served():
    """RFC 9111 section 4.1."""
    world = World()
    world.ask(answer({**MINUTE, "Vary": "Accept"}, b"old"), headers={"Accept": "a"})
    world.wait(1)
    world.ask(answer({**MINUTE, "Vary": "X-B"}, b"new"), headers={"Accept": "b"})
    assert world.ask(headers={"Accept": "a"}).body == b"new"


# Identities.


def test_private_responses_are_kept_for_one_identity_when_told_so():
    world = World({"private": True})
    world.ask(answer({"Cache-Control": "private, max-age=60"}, b"alice's"), identity=ALICE)
    assert world.ask(identity=ALICE).body == b"alice's"
    assert world.ask(answer({}, b"bob's"), identity=BOB).cache == "miss"
    assert world.ask(answer({}, b"anybody's")).cache == "miss"
    assert world.ask(answer({}), identity=replace(ALICE, permissions=frozenset(("cameras:read",)))).cache == "miss"
    assert World(on=world).ask(answer({}), identity=ALICE).cache == "miss"


def test_a_part_for_one_identity_is_a_private_cache():
    """RFC 9111: s-maxage, proxy-revalidate and Authorization matter to shared caches only; no-store to all."""
    world = World({"private": True})
    headers = {"Authorization": "Bearer t"}
    said = 'private, max-age=60, s-maxage=1, private="X-A"'
    world.ask(answer({"Cache-Control": said, "X-A": "1"}), identity=ALICE, headers=headers)
    world.wait(30)
    hit = world.ask(identity=ALICE, headers=headers)
    assert (hit.cache, hit.headers["X-A"]) == ("hit", "1")
    world.wait(40)
    assert world.ask(identity=ALICE, headers={**headers, "Cache-Control": "max-stale"}).cache == "stale"
    world.ask(answer({"Cache-Control": "no-store, max-age=60"}), identity=ALICE, target="/no")
    assert world.ask(answer({}), identity=ALICE, target="/no").cache == "miss"


def test_private_caching_still_shares_what_is_public():
    world = World({"private": True})
    world.ask(answer({"Cache-Control": "public, max-age=60"}), identity=ALICE)
    assert world.ask(identity=BOB).cache == "hit"
    assert world.ask().cache == "hit"


def test_of_an_own_and_a_shared_response_the_more_recent_is_served():
    world = World({"private": True})
    world.ask(answer({"Cache-Control": "private, max-age=60"}, b"own"), identity=ALICE)
    world.wait(1)
    world.ask(answer({"Cache-Control": "public, max-age=60"}, b"shared"), identity=BOB)
    assert world.ask(identity=ALICE).body == b"shared"


def test_default_ttl_does_not_share_what_identities_got():
    world = World({"default_ttl": "60s"})
    world.ask(answer({}), identity=ALICE)
    assert world.ask(answer({}), identity=BOB).cache == "miss"
    mine = World({"default_ttl": "60s", "private": True}, on=world)
    mine.ask(answer({}), identity=ALICE)
    assert mine.ask(identity=ALICE).cache == "hit"
    assert mine.ask(answer({}), identity=BOB).cache == "miss"


# What passes by.


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1"},
        {"If-Match": '"1"'},
        {"If-Unmodified-Since": date()},
        {"Connection": "upgrade", "Upgrade": "WebSocket"},
    ],
)
def test_requests_that_pass_by(headers: dict[str, str]):
    world = World()
    world.ask(answer(MINUTE))
    seen = world.ask(answer(MINUTE, b"other"), headers=headers)
    assert (seen.cache, seen.line, seen.body) == ("bypass", "gateway; fwd=bypass", b"other")
    assert seen.sent is not None
    assert all(seen.sent[name] == value for name, value in headers.items())
    assert world.ask().body == b"body"
    assert world.counted("bypass") == 1


def test_a_request_with_a_body_passes_by():
    """Its body is not in the key."""
    world = World()
    assert world.ask(answer(MINUTE), body=object()).cache == "bypass"
    assert world.ask(answer(MINUTE)).cache == "miss"
    assert world.ask(answer(MINUTE), body=object()).cache == "bypass"


def test_other_upgrades_do_not_pass_by():
    world = World()
    world.ask(answer(MINUTE))
    assert world.ask(headers={"Upgrade": "h2c"}).cache == "hit"


def test_a_206_that_nobody_asked_for_is_not_stored():
    world = World()
    assert world.ask(answer(MINUTE, status=206)).line == "gateway; fwd=uri-miss"
    assert len(world.entries) == 0


def test_what_another_hook_answered_is_not_stored():
    world = World()
    exchange = world.exchange()
    assert world.hooks.request is not None
    assert world.hooks.response is not None
    assert world.hooks.finish is not None
    world.hooks.request(exchange)
    reply = answer(MINUTE)
    world.hooks.response(exchange, reply)
    world.hooks.finish(exchange)
    assert reply.blocks == []
    assert len(world.entries) == 0
    assert exchange.cache == ""
    assert world.telemetry.cache_requests.values == {}


def test_clients_directives_can_be_switched_off():
    world = World({"request_directives": False})
    world.ask(answer(TAGGED), headers={"Cache-Control": "no-store"})
    for headers in ({"Cache-Control": "no-cache"}, {"Pragma": "no-cache"}, {"Cache-Control": "max-age=0, only-if-cached"}):
        assert world.ask(headers=headers).cache == "hit"
    assert world.ask(headers={"If-None-Match": '"1"'}).status == 304


def test_unmarked_requests_with_many_field_names():
    """Names are remembered up to a bound; what matters is found among any."""
    world = World()
    world.ask(answer(MINUTE))
    for batch in range(30):
        assert world.ask(headers=[(f"X-{batch}-{number}", "1") for number in range(50)]).cache == "hit"
    assert world.ask(headers={"X" * 100: "1", "RANGE": "bytes=0-"}, origin=answer()).cache == "bypass"
    assert world.ask(headers=[("cache-control", "max-age=9"), ("CACHE-CONTROL", "no-cache")], origin=answer()).cache == "bypass"


def test_only_if_cached_refuses_what_is_not():
    world = World()
    seen = world.ask(headers={"Cache-Control": "only-if-cached"})
    assert seen.failed is not None
    assert (seen.failed.failure, seen.failed.by, seen.failed.why) == (Failure.NOT_CACHED, "caching", "uri-miss")
    assert seen.failed.headers == ((b"Cache-Status", b"gateway; detail=only-if-cached"),)
    assert seen.sent is None
    assert seen.cache == "miss"


# Conditional requests, validation.


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": '"1"'}, 304),
        ({"If-None-Match": 'W/"1"'}, 304),
        ({"If-None-Match": '"0", "1"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"2"'}, 200),
        ({"If-Modified-Since": date(-10)}, 304),
        ({"If-Modified-Since": date(-11)}, 200),
        ({"If-None-Match": '"2"', "If-Modified-Since": date()}, 200),
    ],
)
def test_conditions_are_answered_from_the_store(headers: dict[str, str], status: int):
    world = World()
    stored = {**TAGGED, "Last-Modified": date(-10), "Content-Type": "a/b", "Vary": "Accept", "Content-Location": "/x"}
    world.ask(answer(stored))
    world.wait(3)
    seen = world.ask(headers=headers)
    assert (seen.status, seen.cache, seen.line) == (status, "hit", "gateway; hit; ttl=57")
    if status == 304:
        assert seen.body == b""
        assert seen.reply is not None
        assert seen.reply.length is None
        assert set(seen.headers) == {"Cache-Control", "ETag", "Vary", "Content-Location", "Date", "Age", "Cache-Status"}


def test_conditions_count_for_successful_answers_only():
    """RFC 9110 section 13.2.1."""
    world = World()
    world.ask(answer(TAGGED, status=404))
    assert world.ask(headers={"If-None-Match": '"1"'}).status == 404


def test_a_miss_passes_the_clients_conditions_on():
    world = World()
    seen = world.ask(not_modified(("ETag", '"1"'), *MINUTE.items()), headers={"If-None-Match": '"1"'})
    assert seen.sent is not None
    assert seen.sent["If-None-Match"] == '"1"'
    assert (seen.status, seen.line) == (304, "gateway; fwd=uri-miss")
    assert len(world.entries) == 0


def test_revalidation_freshens_what_is_stored():
    world = World()
    world.ask(answer({**TAGGED, "Last-Modified": date(-10), "X-A": "1", "X-B": "1", "Content-Type": "a/b"}))
    world.wait(100)
    news = not_modified(
        ("ETag", '"1"'), ("Cache-Control", "max-age=30"), ("X-A", "2"), ("Content-Type", "wrong"), ("Date", date(100))
    )
    seen = world.ask(news)
    assert seen.sent is not None
    assert (seen.sent["If-None-Match"], seen.sent["If-Modified-Since"]) == ('"1"', date(-10))
    assert (seen.status, seen.body, seen.cache) == (200, b"body", "revalidated")
    assert seen.line == "gateway; fwd=stale; fwd-status=304"
    assert (seen.headers["X-A"], seen.headers["X-B"], seen.headers["Content-Type"]) == ("2", "1", "a/b")
    assert "Age" not in seen.headers
    assert seen.reply is not None
    assert seen.reply.length == 4
    world.wait(29)
    hit = world.ask()
    assert (hit.cache, hit.headers["Age"], hit.headers["X-A"], hit.headers["Date"]) == ("hit", "29", "2", date(100))
    assert len(world.entries) == 1
    assert world.counted("revalidated") == 1


def test_a_304_without_date_is_as_young_as_it_is():
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    world.ask(not_modified())
    assert world.ask().headers["Age"] == "0"


def test_a_304_from_another_cache_brings_its_age():
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(not_modified(("Age", "20"), ("Date", date(100))))
    assert seen.headers["Age"] == "20"
    world.wait(5)
    assert world.ask().headers["Age"] == "25"


def test_the_clients_condition_is_judged_after_revalidation():
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    headers = {"If-None-Match": '"0"', "If-Modified-Since": date(50)}
    seen = world.ask(not_modified(), headers=headers)
    assert seen.sent is not None
    assert seen.sent["If-None-Match"] == '"1"'
    assert "If-Modified-Since" not in seen.sent
    assert seen.status == 200
    world.wait(100)
    seen = world.ask(not_modified(("X-New", "1")), headers={"If-None-Match": '"1"'})
    assert (seen.status, seen.body, seen.cache, seen.headers["X-New"]) == (304, b"", "revalidated", "1")
    assert world.ask().body == b"body"


def test_the_clients_condition_is_judged_on_a_new_answer_too():
    """It did not go to the origin: ours did."""
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(answer({**MINUTE, "ETag": '"2"'}, b"new"), headers={"If-None-Match": '"2"'})
    assert (seen.status, seen.body, seen.line) == (304, b"", "gateway; fwd=stale; stored")
    assert world.ask().body == b"new"


async def test_a_new_answer_that_streams_is_passed_on_whole():
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(answer({**MINUTE, "ETag": '"2"'}, Stream(b"new")), headers={"If-None-Match": '"2"'})
    assert seen.status == 200
    assert await seen.read() == b"new"


def test_validation_by_date_drops_the_clients_tags():
    """An origin ignores If-Modified-Since next to If-None-Match (RFC 9110 section 13.1.3)."""
    world = World()
    world.ask(answer({**MINUTE, "Last-Modified": date(-10)}))
    world.wait(100)
    seen = world.ask(not_modified(), headers={"If-None-Match": '"9"'})
    assert seen.sent is not None
    assert "If-None-Match" not in seen.sent
    assert seen.sent["If-Modified-Since"] == date(-10)
    assert seen.status == 200


def test_what_other_hooks_add_and_drop_stays():
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    exchange = world.exchange(headers={"X-API-Key": "k"})
    exchange.forward_headers = [(b"X-A", b"1")]
    exchange.drop_headers = frozenset((b"x-api-key",))
    seen = world.begin(exchange)(not_modified())
    assert seen.sent is not None
    assert (seen.sent["X-A"], seen.sent["If-None-Match"]) == ("1", '"1"')
    assert "X-API-Key" not in seen.sent


def test_what_is_no_validator_is_not_asked_with():
    world = World({"stale_if_error": 60})
    world.ask(answer({**MINUTE, "ETag": "unquoted", "Last-Modified": "yesterday"}))
    world.wait(100)
    seen = world.ask(answer({}, b"new"), headers={"If-None-Match": '"client"'})
    assert seen.sent is not None
    assert seen.sent["If-None-Match"] == '"client"'
    assert "If-Modified-Since" not in seen.sent
    assert seen.cache == "expired"


def test_a_304_that_we_did_not_ask_for_is_the_clients():
    world = World({"stale_if_error": 60})
    world.ask(answer(MINUTE))
    world.wait(70)
    seen = world.ask(not_modified(("ETag", '"1"')), headers={"If-None-Match": '"1"'})
    assert (seen.status, seen.cache) == (304, "expired")


def test_a_304_about_something_else_updates_nothing():
    """RFC 9111 section 4.3.4."""
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(not_modified(("ETag", '"2"'), ("Cache-Control", "max-age=60")))
    assert (seen.status, seen.body, seen.headers["ETag"]) == (200, b"body", '"1"')
    assert len(world.entries) == 0


@pytest.mark.parametrize("said", ["no-store", "private", "max-age=60, no-store"])
def test_a_304_that_forbids_storing_removes(said: str):
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    assert world.ask(not_modified(("Cache-Control", said))).body == b"body"
    assert len(world.entries) == 0


def test_a_304_to_a_request_with_no_store_changes_nothing():
    """RFC 9111 section 5.2.1.5."""
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(not_modified(("X-A", "2")), headers={"Cache-Control": "no-store"})
    assert (seen.status, seen.headers["X-A"]) == (200, "2")
    assert world.ask(not_modified()).cache == "revalidated"


def test_a_304_with_another_vary_moves_the_response():
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    world.ask(not_modified(("Vary", "Accept")), headers={"Accept": "a"})
    assert len(world.entries) == 1
    assert world.ask(headers={"Accept": "a"}).cache == "hit"
    assert world.ask(answer({}), headers={"Accept": "b"}).line == "gateway; fwd=vary-miss"


def test_head_revalidates_and_gets_a_head():
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(not_modified(), method="HEAD")
    assert (seen.status, seen.body, seen.cache) == (200, b"", "revalidated")
    assert seen.reply is not None
    assert seen.reply.length == 4
    assert world.ask().body == b"body"


@pytest.mark.parametrize(
    ("why", "headers", "length", "kept"),
    [
        ("the same tag and length", {**TAGGED, "X-A": "2"}, 4, True),
        ("no length", {**TAGGED, "X-A": "2"}, None, True),
        ("another length", TAGGED, 5, False),
        ("another tag", {**MINUTE, "ETag": '"2"'}, 4, False),
    ],
)
def test_an_answer_to_head_freshens_or_removes(why: str, headers: dict[str, str], length: int | None, kept: bool):
    """RFC 9111 section 4.3.5."""
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(answer({**headers, "Date": date(100)}, b"", length=length), method="HEAD")
    assert seen.line == "gateway; fwd=stale"
    assert len(world.entries) == kept
    if kept:
        assert world.ask().headers["X-A"] == "2"


def test_an_error_to_head_says_nothing_of_get():
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    world.ask(answer({}, b"", 403), method="HEAD")
    assert len(world.entries) == 1


@pytest.mark.parametrize(
    ("status", "kept"), [(200, False), (301, False), (404, False), (410, False), (403, True), (429, True), (500, True)]
)
def test_an_answer_that_is_not_stored_may_show_that_what_is_stored_is_outdated(status: int, kept: bool):
    world = World()
    world.ask(answer(TAGGED))
    world.wait(100)
    assert world.ask(answer({"Cache-Control": "no-store"}, b"", status)).line == "gateway; fwd=stale"
    assert len(world.entries) == kept


# Bodies that stream.


async def test_a_stream_is_stored_once_it_has_passed():
    world = World()
    stream = Stream(b"one ", b"two")
    seen = world.ask(answer(MINUTE, stream, length=7))
    assert seen.line == "gateway; fwd=uri-miss; stored"
    assert seen.reply is not None
    body = seen.reply.body
    assert not isinstance(body, bytes)
    assert await body.read() == b"one "
    assert world.ask(answer({})).cache == "miss"
    assert await body.read() == b"two"
    assert len(world.entries) == 0
    assert await body.read() == b""
    assert await body.read() == b""
    assert world.ask().body == b"one two"
    assert len(world.entries) == 1


@pytest.mark.parametrize(
    ("why", "stream", "length"),
    [
        ("it broke off", Stream(b"one", Failed(Failure.INCOMPLETE_RESPONSE)), None),
        ("it is shorter than it said", Stream(b"one"), 4),
        ("it grew too large", Stream(b"x" * 600, b"x" * 600), None),
    ],
)
async def test_a_stream_is_not_stored(why: str, stream: Stream, length: int | None):
    world = World({"max_entry": 1000})
    seen = world.ask(answer(MINUTE, stream, length=length))
    try:
        assert await seen.read()
    except Failed:
        assert why == "it broke off"
        assert await seen.read() == b""
    assert len(world.entries) == 0


async def test_an_aborted_stream_is_not_stored():
    world = World()
    stream = Stream(b"one", b"two")
    seen = world.ask(answer(MINUTE, stream))
    assert seen.reply is not None
    body = seen.reply.body
    assert not isinstance(body, bytes)
    await body.read()
    body.abort()
    assert stream.aborted == 1
    while await body.read():
        pass
    assert len(world.entries) == 0


async def test_a_stream_known_to_be_too_large_is_left_alone():
    world = World({"max_entry": 1000})
    stream = Stream(b"x" * 2000)
    seen = world.ask(answer(MINUTE, stream, length=2000))
    assert seen.reply is not None
    assert seen.reply.body is stream
    assert seen.line == "gateway; fwd=uri-miss"


def test_the_largest_entry_counts_fields_and_all():
    assert World({"max_entry": "10KiB"}).ask(answer(MINUTE, b"x" * 8000)).line.endswith("stored")
    assert not World({"max_entry": "10KiB"}).ask(answer(MINUTE, b"x" * 9500)).line.endswith("stored")
    assert not World({"max_entry": "10KiB"}).ask(answer({**MINUTE, "X-A": "a" * 9000}, b"x")).line.endswith("stored")


def test_the_store_stays_within_its_size_and_a_smaller_one_applies_at_once():
    world = World({"max_size": "100KiB"})
    for number in range(100):
        world.ask(answer(MINUTE, b"x" * 2000), target=f"/{number}")
    assert 80 * 1024 < world.entries.used <= 100 * 1024
    smaller = World({"max_size": "20KiB"}, on=world)
    assert smaller.ask(target="/99").cache == "hit"
    smaller.ask(answer(MINUTE), target="/new")
    assert world.entries.used <= 20 * 1024


# Errors.


@pytest.mark.parametrize(
    ("why", "stored", "settings", "headers", "wait", "stale"),
    [
        ("the origin allows it", "max-age=60, stale-if-error=30", {}, {}, 89, True),
        ("no longer", "max-age=60, stale-if-error=30", {}, {}, 91, False),
        ("the default allows it", "max-age=60", {"stale_if_error": "30s"}, {}, 89, True),
        ("the origin goes before the default", "max-age=60, stale-if-error=0", {"stale_if_error": "30s"}, {}, 61, False),
        ("nobody allows it", "max-age=60", {}, {}, 61, False),
        ("the client allows it", "max-age=60", {}, {"Cache-Control": "stale-if-error=30"}, 89, True),
        ("the client forbids it", "max-age=60, stale-if-error=30", {}, {"Cache-Control": "stale-if-error=0"}, 61, False),
        ("must-revalidate", "max-age=60, must-revalidate, stale-if-error=30", {}, {}, 61, False),
        ("s-maxage", "s-maxage=60, stale-if-error=30", {}, {}, 61, False),
        ("no-cache", "max-age=60, no-cache, stale-if-error=30", {}, {}, 61, False),
        ("the client insists on news", "max-age=60, stale-if-error=30", {}, {"Cache-Control": "no-cache"}, 1, False),
    ],
)
@pytest.mark.parametrize("error", [503, 500, 502, 504, Failure.CONNECT_FAILED, Failure.CIRCUIT_OPEN, Failure.READ_TIMEOUT])
def test_stale_if_error(
    why: str, stored: str, settings: dict[str, Any], headers: dict[str, str], wait: float, stale: bool, error: Any
):
    """RFC 5861 section 4: for statuses and for failures alike."""
    world = World(settings)
    world.ask(answer({"Cache-Control": stored, "ETag": '"1"'}))
    world.wait(wait)
    seen = world.ask(answer({}, b"down", error) if isinstance(error, int) else Failed(error), headers=headers)
    if stale:
        assert (seen.status, seen.body, seen.cache) == (200, b"body", "stale")
        assert seen.headers["Age"] == str(wait)
        went = f"; fwd-status={error}" if isinstance(error, int) else ""
        assert seen.line == f"gateway; fwd=stale{went}; ttl={60 - wait}; detail=stale-if-error"
        assert world.counted("stale") == 1
    else:
        assert seen.status == (error if isinstance(error, int) else error.status)
        assert seen.cache in ("expired", "bypass")


def test_an_origin_that_was_not_asked_at_all():
    world = World({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    world.wait(61)
    exchange = world.exchange()
    assert world.hooks.request is not None
    assert world.hooks.error is not None
    assert world.hooks.request(exchange) is None
    reply = world.hooks.error(exchange, Failed(Failure.CIRCUIT_OPEN))
    assert isinstance(reply, Reply)
    assert reply.blocks == [b"Age: 61\r\nCache-Status: gateway; hit; ttl=-1; detail=stale-if-error\r\n"]


@pytest.mark.parametrize("failure", [Failure.RATE_LIMITED, Failure.UNAUTHENTICATED, Failure.MALFORMED, Failure.CLIENT_GONE])
def test_refusals_are_no_errors_of_the_origin(failure: Failure):
    world = World({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    world.wait(61)
    assert world.ask(Failed(failure)).reply is None


def test_an_error_with_nothing_stored_stays_one():
    world = World({"stale_if_error": "1h"})
    assert world.ask(DOWN).reply is None
    assert world.ask(answer({}, b"", 503)).status == 503
    assert world.ask(DOWN, method="POST").reply is None


def test_a_request_that_passed_by_gets_its_error():
    world = World({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    assert world.ask(DOWN, headers={"Range": "bytes=0-1"}).reply is None


def test_a_response_invalidated_meanwhile_does_not_stand_in():
    world = World({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    world.wait(61)
    complete = world.begin(world.exchange())
    world.ask(answer({}, b"", 204), method="PUT")
    assert complete(DOWN).reply is None


def test_an_error_that_streams_is_given_up_for_the_stale_response():
    world = World({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    world.wait(61)
    stream = Stream(b"down")
    assert world.ask(answer({}, stream, 503)).body == b"body"
    assert stream.aborted == 1


def test_responses_are_kept_only_for_errors_if_that_is_all_they_are_good_for():
    world = World({"stale_if_error": "1h"})
    world.ask(answer({"Cache-Control": "max-age=0"}))
    assert world.ask(answer({"Cache-Control": "max-age=0"})).cache == "expired"
    assert world.ask(DOWN).cache == "stale"
    assert World().ask(answer({"Cache-Control": "max-age=0"})).line == "gateway; fwd=uri-miss"


# Invalidation.


@pytest.mark.parametrize(
    ("why", "method", "status", "headers", "gone"),
    [
        ("POST", "POST", 201, {}, {"/thing"}),
        ("PUT", "PUT", 204, {}, {"/thing"}),
        ("PATCH", "PATCH", 200, {}, {"/thing"}),
        ("DELETE", "DELETE", 200, {}, {"/thing"}),
        ("a method nobody knows", "FROB", 200, {}, {"/thing"}),
        ("a redirect is no error", "POST", 303, {}, {"/thing"}),
        ("a refusal", "POST", 403, {}, set()),
        ("an error", "POST", 500, {}, set()),
        ("OPTIONS is safe", "OPTIONS", 200, {}, set()),
        ("Location", "POST", 201, {"Location": "/other?x=1"}, {"/thing", "/other?x=1"}),
        ("Content-Location, relative", "POST", 200, {"Content-Location": "other?x=1"}, {"/thing", "/other?x=1"}),
        ("an absolute one", "POST", 200, {"Location": "http://API.example.com/other?x=1#f"}, {"/thing", "/other?x=1"}),
        ("with its default port", "POST", 200, {"Location": "http://api.example.com:80/other?x=1"}, {"/thing", "/other?x=1"}),
        ("of another host", "POST", 200, {"Location": "http://evil.example.com/other?x=1"}, {"/thing"}),
        ("of another port", "POST", 200, {"Location": "http://api.example.com:8080/other?x=1"}, {"/thing"}),
        ("of another scheme", "POST", 200, {"Location": "https://api.example.com/other?x=1"}, {"/thing"}),
        ("of none", "POST", 200, {"Location": "http://[broken/other?x=1"}, {"/thing"}),
        ("with a port that is none", "POST", 200, {"Location": "http://api.example.com:x/other?x=1"}, {"/thing"}),
    ],
)
def test_invalidation(why: str, method: str, status: int, headers: dict[str, str], gone: set[str]):
    """RFC 9111 section 4.4."""
    world = World()
    targets = ("/thing", "/other?x=1", "/thing?x=1")
    for target in targets:
        world.ask(answer(MINUTE), target=target)
    seen = world.ask(answer(headers, b"", status), method=method, route="writes")
    assert seen.cache == "bypass"
    if method != "OPTIONS":
        assert seen.line == "gateway; fwd=method"
    assert {target for target in targets if world.ask(answer({}), target=target).cache == "miss"} == gone


def test_invalidation_reaches_every_variant_scheme_route_and_identity():
    world = World({"private": True})
    variants: list[dict[str, Any]] = [
        {"headers": {"Accept": "a"}},
        {"headers": {"Accept": "b"}},
        {"scheme": "https"},
        {"route": "other"},
        {"identity": ALICE},
    ]
    for more in variants:
        world.ask(answer({**MINUTE, "Vary": "Accept"}), **more)
    assert len(world.entries) == 5
    other = World(on=world, name="caching.writes")
    other.ask(answer({}, b"", 204), method="DELETE", route="writes")
    assert len(world.entries) == 0


def test_invalidation_by_a_pipeline_that_never_looks_up():
    world = World()
    world.ask(answer(MINUTE))
    exchange = world.exchange("PUT")
    exchange.attempts = 1
    assert world.hooks.response is not None
    world.hooks.response(exchange, answer({}, b"", 204))
    assert len(world.entries) == 0


def test_an_unsafe_request_that_reached_nobody_invalidates_nothing():
    world = World()
    world.ask(answer(MINUTE))
    assert world.hooks.response is not None
    world.hooks.response(world.exchange("PUT"), answer({}, b"", 204))
    assert world.ask().cache == "hit"


def test_invalidation_goes_by_the_key_too():
    world = World({"key": {"query_ignore": ["trace"]}})
    world.ask(answer(MINUTE), target="/thing?id=1")
    world.ask(answer({}, b"", 204), method="PUT", target="/thing?trace=x&id=1")
    assert len(world.entries) == 0


def test_an_answer_asked_for_before_a_write_is_not_stored_after_it():
    world = World()
    complete = world.begin(world.exchange())
    world.ask(answer({}, b"", 204), method="PUT")
    assert complete(answer(MINUTE, b"old")).line == "gateway; fwd=uri-miss"
    assert world.ask(answer(MINUTE, b"new")).body == b"new"
    assert world.ask().body == b"new"


def test_a_write_invalidates_by_pattern():
    world = World()
    for target in ("/api/cameras", "/api/cameras/1?full=1", "/api/camerasX", "/api/counts"):
        world.ask(answer(MINUTE), target=target)
    writes = World({"invalidate": ["/api/cameras", "/api/cameras/*"]}, on=world)
    writes.ask(answer({}, b"", 403), method="POST", target="/api/x")
    assert world.ask(target="/api/cameras").cache == "hit"
    complete = world.begin(world.exchange(target="/api/cameras/2"))
    writes.ask(answer({}, b"", 201), method="POST", target="/api/x")
    assert world.ask(answer({}), target="/api/cameras").cache == "miss"
    assert world.ask(answer({}), target="/api/cameras/1?full=1").cache == "miss"
    assert world.ask(target="/api/camerasX").cache == "hit"
    assert world.ask(target="/api/counts").cache == "hit"
    complete(answer(MINUTE, b"old"))
    assert world.ask(answer(MINUTE, b"new"), target="/api/cameras/2").cache == "miss"
    assert world.ask(target="/api/cameras/2").body == b"new"


def test_same_origin():
    assert same_origin("https", "a.example", "/x/y?q", "z") == "https://a.example/x/z"
    assert same_origin("https", "a.example:444", "/", "https://A.example:444") == "https://a.example:444/"
    assert same_origin("https", "a.example", "/", "https://a.example:443/z") == "https://a.example/z"
    assert same_origin("https", "a.example", "/", "//b.example/z") == ""
    assert same_origin("http", "", "/x", "/y") == "http:///y"


# Counting and explaining.


def test_every_request_is_counted_once_by_its_outcome():
    world = World({"stale_if_error": 5})
    world.ask(answer(TAGGED))
    world.ask()
    world.wait(61)
    world.ask(headers={"Cache-Control": "max-stale"})
    world.ask(DOWN)
    world.ask(not_modified())
    world.wait(61)
    world.ask(answer(TAGGED))
    world.ask(answer({}, b"", 204), method="PUT")
    assert world.telemetry.cache_requests.values == {
        ("things", word): count
        for word, count in {"miss": 1, "hit": 1, "stale": 2, "revalidated": 1, "expired": 1, "bypass": 1}.items()
    }


def test_explaining_leaves_no_trace():
    world = World()
    said = [world.explain()[0]]
    world.ask(answer({**TAGGED, "Vary": "Accept"}), headers={"Accept": "a"})
    used, sequence, counted = world.entries.used, world.entries.sequence, dict(world.telemetry.cache_requests.values)
    accept = {"Accept": "a"}
    said.append(world.explain()[0])
    world.wait(10)
    decision, reply = world.explain(headers=accept)
    said.append(decision)
    assert isinstance(reply, Reply)
    assert reply.body == b"body"
    said.append(world.explain(headers={**accept, "Cache-Control": "no-cache"})[0])
    said.append(world.explain(headers={**accept, "Range": "bytes=0-1"})[0])
    world.wait(60)
    said.append(world.explain(headers=accept)[0])
    said.append(world.explain(headers={**accept, "Cache-Control": "max-stale"})[0])
    said.append(world.explain("POST")[0])
    uri = "http://api.example.com/thing"
    assert [(one.hook, one.outcome, one.why) for one in said] == [
        ("caching", "miss", f"nothing is stored for {uri}"),
        ("caching", "miss", f"stored for {uri}, but for other values of accept"),
        ("caching", "hit", f"{uri} is 10 s old, fresh for 50 s more"),
        ("caching", "revalidate", f"{uri} is 10 s old, fresh for 50 s more; the request asks for news"),
        ("caching", "bypass", "for a part, conditional on the origin's state, with a body, or for a tunnel"),
        ("caching", "revalidate", f"{uri} is 70 s old, stale for 10 s; the origin is asked whether it still holds"),
        ("caching", "stale", f"{uri} is 70 s old, stale for 10 s"),
        ("caching", "bypass", "POST is never answered from the cache"),
    ]
    assert (world.entries.used, world.entries.sequence) == (used, sequence)
    assert world.telemetry.cache_requests.values == counted
    assert not world.entries.select(uri, "things", lambda request, names: ("a",), None).hit  # type: ignore[union-attr]


def test_explaining_refuses_as_it_would():
    world = World()
    exchange = world.exchange(headers={"Cache-Control": "only-if-cached"})
    exchange.decisions = []
    assert world.hooks.request is not None
    with pytest.raises(Failed):
        world.hooks.request(exchange)
    assert [decision.outcome for decision in exchange.decisions] == ["miss"]
    assert exchange.cache == ""


def test_two_instances_keep_their_notes_apart():
    world = World()
    other = World(on=world, name="caching.other")
    exchange = world.exchange()
    exchange.attempts = 1
    assert world.hooks.request is not None
    assert other.hooks.response is not None
    world.hooks.request(exchange)
    reply = answer(MINUTE)
    other.hooks.response(exchange, reply)
    assert len(world.entries) == 0


def test_a_telling_repr():
    cache = Cache(CachingConfig(), Context(name="caching"), Entries())
    assert repr(cache) == "<Cache caching on <Entries 0 responses, 0 bytes>>"


# All of it at once.

steps = st.lists(
    st.tuples(
        st.sampled_from(["GET", "GET", "GET", "HEAD", "PUT"]),
        st.sampled_from(["/a", "/b"]),
        st.sampled_from([None, "en", "de"]),
        st.sampled_from([None, "no-cache", "max-age=5", "max-stale=10", "no-store"]),
        st.sampled_from([0, 1, 4, 20]),
    ),
    max_size=30,
)


@given(steps, st.sampled_from(["max-age=10", "max-age=10, must-revalidate", "no-cache", "no-store", "max-age=3"]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_nobody_ever_gets_an_answer_that_was_not_allowed(plan: list[Any], said: str, tagged: bool):
    """An origin whose resource changes with every write and answers by language: what clients get is never another language's,
    never older than a write through the gateway, and stale only for those that ask for it."""
    world = World()
    version = {"/a": 1, "/b": 1}

    def origin(method: str, target: str, language: str | None) -> Any:
        def respond(sent: CIMultiDict[str]) -> Reply:
            if method == "PUT":
                version[target] += 1
                return answer({}, b"", 204)
            tag = f'"{version[target]}-{language}"'
            fields = {"Cache-Control": said, "Vary": "Accept-Language", "Date": date(int(world.time[0]))}
            if tagged:
                fields["ETag"] = tag
                if sent.get("If-None-Match") == tag:
                    return answer(fields, b"", 304)
            body = f"{version[target]} {language} {world.time[0]}".encode()
            return answer(fields, b"" if method == "HEAD" else body, length=len(body))

        return respond

    for method, target, language, asks, wait in plan:
        world.wait(wait)
        headers = {"Accept-Language": language} if language else {}
        if asks:
            headers["Cache-Control"] = asks
        seen = world.ask(origin(method, target, language), method, target, headers)
        if method == "PUT":
            continue
        assert seen.status == 200
        if method == "HEAD":
            assert seen.body == b""
            continue
        got_version, got_language, _ = seen.body.decode().split()
        assert (int(got_version), got_language) == (version[target], str(language))
        age = int(seen.headers.get("Age", 0))
        if seen.cache == "hit":
            assert age < 10
            assert asks != "no-cache"
            assert not (asks == "max-age=5" and age > 5)
        if seen.cache == "stale":
            assert asks == "max-stale=10"
            assert "must-revalidate" not in said
        if said in ("no-store", "no-cache"):
            assert seen.cache in ("miss", "revalidated", "expired")


def test_the_wall_clock_only_dates():
    """Setting it moves no response's age: that is counted by the monotonic one."""
    world = World()
    world.ask(answer(MINUTE))
    world.skew = 10_000
    world.wait(5)
    assert world.ask().headers["Age"] == "5"
    assert world.ask(answer(MINUTE), target="/later").headers["Date"] == date(10_005)
    assert START == 1_800_000_000
