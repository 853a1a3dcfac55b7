"""The cache's hooks together: hits, counting, explaining, and what no client may ever get."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.core.exchange import Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Context
from gateway.middlewares.caching.cache import Cache
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.caching.storage.memory import Memory
from gateway.store.purges import Purges
from tests.unit.middlewares.caching.world import (
    DOWN,
    MINUTE,
    START,
    TAGGED,
    Cached,
    answer,
    date,
    not_modified,
)


def test_a_hit_says_so():
    world = Cached()
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
    world = Cached()
    world.ask(answer({**MINUTE, "Age": "5"}))
    for seconds in (0, 0.5, 0.5, 10, 40.2):
        world.wait(seconds)
        assert world.ask().headers["Age"] == str(5 + int(world.elapsed))
        assert world.ask().line == f"gateway; hit; ttl={60 - 5 - int(world.elapsed)}"


def test_the_time_an_answer_took_counts():
    """RFC 9111 section 4.2.3: its age is counted from when it was asked for."""
    world = Cached()
    complete = world.begin(world.exchange())
    world.wait(7)
    complete(answer({**MINUTE, "Age": "3", "Date": date(7)}))
    assert world.ask().headers["Age"] == "10"


def test_what_a_hit_becomes_does_not_change_what_is_stored():
    world = Cached()
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
    world = Cached()
    first = world.ask(answer(MINUTE)).reply
    assert first is not None
    first.set(b"X-Cors", b"for one origin only")
    first.body = b"compressed"
    hit = world.ask()
    assert "X-Cors" not in hit.headers
    assert hit.body == b"body"


def test_fields_of_one_message_are_not_replayed():
    world = Cached()
    world.ask(
        answer(
            {
                **MINUTE,
                "Age": "1",
                "X-Request-ID": "r1",
                "Cache-Control": "max-age=60",
                "Cache-Status": "origin; hit",
            }
        )
    )
    hit = world.ask()
    assert "X-Request-ID" not in hit.headers
    assert hit.headers.getall("Age") == ["1"]
    assert hit.headers.getall("Cache-Status") == ["origin; hit", "gateway; hit; ttl=59"]


def test_several_lines_of_a_field_stay_several():
    world = Cached()
    world.ask(answer([("Cache-Control", "max-age=60"), ("Link", "<a>"), ("Link", "<b>")]))
    hit = world.ask()
    assert hit.headers.getall("Link") == ["<a>", "<b>"]
    assert hit.reply is not None
    assert hit.reply.get(b"link") == b"<a>, <b>"


def test_head_is_answered_from_what_get_stored():
    world = Cached()
    world.ask(answer(MINUTE))
    head = world.ask(method="HEAD")
    assert (head.status, head.body, head.cache) == (200, b"", "hit")
    assert head.reply is not None
    assert head.reply.length == 4


def test_qualified_directives_keep_only_their_fields_back():
    world = Cached()
    world.ask(
        answer(
            {
                "Cache-Control": 'max-age=60, no-cache="X-A", private="x-b"',
                "X-A": "1",
                "X-B": "2",
                "X-C": "3",
            }
        )
    )
    hit = world.ask()
    assert "X-A" not in hit.headers
    assert "X-B" not in hit.headers
    assert hit.headers["X-C"] == "3"


def test_every_request_is_counted_once_by_its_outcome():
    world = Cached({"stale_if_error": 5})
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
        for word, count in {
            "miss": 1,
            "hit": 1,
            "stale": 2,
            "revalidated": 1,
            "expired": 1,
            "bypass": 1,
        }.items()
    }


def test_explaining_leaves_no_trace():
    world = Cached()
    said = [world.explain()[0]]
    world.ask(answer({**TAGGED, "Vary": "Accept"}), headers={"Accept": "a"})
    used, sequence, counted = (
        world.memory.used,
        world.memory.purges.version,
        dict(world.telemetry.cache_requests.values),
    )
    accept = {"Accept": "a"}
    said.append(world.explain()[0])
    world.wait(10)
    decision, reply = world.explain(headers=accept)
    said.append(decision)
    assert isinstance(reply, Reply)
    assert reply.body == b"body"
    said.append(world.explain(headers={**accept, "Cache-Control": "no-cache"})[0])
    said.append(world.explain(headers={**accept, "Range": "bytes=0-1,3-4"})[0])
    world.wait(60)
    said.append(world.explain(headers=accept)[0])
    said.append(world.explain(headers={**accept, "Cache-Control": "max-stale"})[0])
    said.append(world.explain("POST")[0])
    uri = "http://api.example.com/thing"
    assert [(one.hook, one.outcome, one.why) for one in said] == [
        ("caching", "miss", f"nothing is stored for {uri}"),
        ("caching", "miss", f"stored for {uri}, but for other values of accept"),
        ("caching", "hit", f"{uri} is 10 s old, fresh for 50 s more"),
        (
            "caching",
            "revalidate",
            f"{uri} is 10 s old, fresh for 50 s more; the request asks for news",
        ),
        (
            "caching",
            "bypass",
            "for several parts, conditional on the origin's state, with a body, or for a tunnel",
        ),
        (
            "caching",
            "revalidate",
            f"{uri} is 70 s old, stale for 10 s; the origin is asked whether it still holds",
        ),
        ("caching", "stale", f"{uri} is 70 s old, stale for 10 s"),
        ("caching", "bypass", "POST is never answered from the cache"),
    ]
    assert (world.memory.used, world.memory.purges.version) == (used, sequence)
    assert world.telemetry.cache_requests.values == counted
    slot = world.memory.select(uri, "things", lambda request, names: ("a",), None)
    assert slot is not None
    assert slot.place.hits == 0


def test_explaining_refuses_as_it_would():
    world = Cached()
    exchange = world.exchange(headers={"Cache-Control": "only-if-cached"})
    exchange.decisions = []
    assert world.hooks.request is not None
    with pytest.raises(Failed):
        world.hooks.request(exchange)
    assert [decision.outcome for decision in exchange.decisions] == ["miss"]
    assert exchange.cache == ""


def test_two_instances_keep_their_notes_apart():
    world = Cached()
    other = Cached(on=world, name="caching.other")
    exchange = world.exchange()
    exchange.attempts = 1
    assert world.hooks.request is not None
    assert other.hooks.response is not None
    world.hooks.request(exchange)
    reply = answer(MINUTE)
    other.hooks.response(exchange, reply)
    assert len(world.memory) == 0


def test_a_telling_repr():
    cache = Cache(CachingConfig(), Context(name="caching"), Memory(Purges()), None, None)
    assert repr(cache) == "<Cache caching on <Memory 0 responses, 0 bytes>>"


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


@given(
    steps,
    st.sampled_from(
        ["max-age=10", "max-age=10, must-revalidate", "no-cache", "no-store", "max-age=3"]
    ),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_nobody_ever_gets_an_answer_that_was_not_allowed(plan: list[Any], said: str, tagged: bool):
    """An origin whose resource changes with every write and answers by language: what clients get
    is never another language's, never older than a write through the gateway, and stale only for
    those that ask for it."""
    world = Cached()
    version = {"/a": 1, "/b": 1}

    def origin(method: str, target: str, language: str | None) -> Any:
        def respond(sent: CIMultiDict[str]) -> Reply:
            if method == "PUT":
                version[target] += 1
                return answer({}, b"", 204)
            tag = f'"{version[target]}-{language}"'
            fields = {
                "Cache-Control": said,
                "Vary": "Accept-Language",
                "Date": date(int(world.elapsed)),
            }
            if tagged:
                fields["ETag"] = tag
                if sent.get("If-None-Match") == tag:
                    return answer(fields, b"", 304)
            body = f"{version[target]} {language} {world.elapsed}".encode()
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
    world = Cached()
    world.ask(answer(MINUTE))
    world.world.epoch += 10_000
    world.wait(5)
    assert world.ask().headers["Age"] == "5"
    assert world.ask(answer(MINUTE), target="/later").headers["Date"] == date(10_005)
    assert START == 1_800_000_000


def test_a_strong_tag_that_compression_weakened_is_confirmed_by_its_304():
    """`response = ["compression", "caching"]`: what is stored is coded, and the origin says its
    own, strong tag again."""
    world = Cached()
    world.ask(
        answer(
            {"Cache-Control": "max-age=1", "ETag": 'W/"1"', "Content-Encoding": "gzip"}, b"coded"
        )
    )
    world.wait(2)
    seen = world.ask(not_modified(("ETag", '"1"'), ("Cache-Control", "max-age=60")))
    assert (seen.cache, seen.body, seen.headers["ETag"]) == ("revalidated", b"coded", 'W/"1"')
    again = world.ask()
    assert (again.cache, again.body, again.headers["ETag"]) == ("hit", b"coded", 'W/"1"')


def test_the_answers_of_another_upstream_are_not_served():
    """A reload that sends a route elsewhere gives it another `source`."""
    world = Cached()
    world.ask(answer(MINUTE, b"old"))
    asked = world.exchange()
    asked.route.source = "things elsewhere"
    assert world.begin(asked)(answer(MINUTE, b"new")).body == b"new"


def test_pipelines_have_a_size_each():
    small = Cached({"max_size": "4KiB"})
    large = Cached(on=small, pipeline="large")
    large.ask(answer(MINUTE, b"kept"), target="/kept")
    for number in range(20):
        small.ask(answer(MINUTE, b"x" * 500), target=f"/{number}")
    assert large.ask(target="/kept").body == b"kept"
