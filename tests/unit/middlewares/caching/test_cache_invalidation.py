"""Which responses a write takes out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.store.purges import PURGED, Purge
from tests.unit.middlewares.caching.world import ALICE, MINUTE, Cached, answer, not_modified


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
        (
            "Content-Location, relative",
            "POST",
            200,
            {"Content-Location": "other?x=1"},
            {"/thing", "/other?x=1"},
        ),
        (
            "an absolute one",
            "POST",
            200,
            {"Location": "http://API.example.com/other?x=1#f"},
            {"/thing", "/other?x=1"},
        ),
        (
            "with its default port",
            "POST",
            200,
            {"Location": "http://api.example.com:80/other?x=1"},
            {"/thing", "/other?x=1"},
        ),
        (
            "of another host",
            "POST",
            200,
            {"Location": "http://evil.example.com/other?x=1"},
            {"/thing"},
        ),
        (
            "of another port",
            "POST",
            200,
            {"Location": "http://api.example.com:8080/other?x=1"},
            {"/thing"},
        ),
        (
            "of another scheme",
            "POST",
            200,
            {"Location": "https://api.example.com/other?x=1"},
            {"/thing"},
        ),
        ("of none", "POST", 200, {"Location": "http://[broken/other?x=1"}, {"/thing"}),
        (
            "with a port that is none",
            "POST",
            200,
            {"Location": "http://api.example.com:x/other?x=1"},
            {"/thing"},
        ),
    ],
)
def test_invalidation(why: str, method: str, status: int, headers: dict[str, str], gone: set[str]):
    """RFC 9111 section 4.4."""
    world = Cached()
    targets = ("/thing", "/other?x=1", "/thing?x=1")
    for target in targets:
        world.ask(answer(MINUTE), target=target)
    seen = world.ask(answer(headers, b"", status), method=method, route="writes")
    assert seen.cache == "bypass"
    if method != "OPTIONS":
        assert seen.line == "gateway; fwd=method"
    assert {
        target for target in targets if world.ask(answer({}), target=target).cache == "miss"
    } == gone


def test_invalidation_reaches_every_variant_scheme_route_and_identity():
    world = Cached({"private": True})
    variants: list[dict[str, Any]] = [
        {"headers": {"Accept": "a"}},
        {"headers": {"Accept": "b"}},
        {"scheme": "https"},
        {"route": "other"},
        {"identity": ALICE},
    ]
    for more in variants:
        world.ask(answer({**MINUTE, "Vary": "Accept"}), **more)
    assert len(world.memory) == 5
    other = Cached(on=world, name="caching.writes")
    other.ask(answer({}, b"", 204), method="DELETE", route="writes")
    assert [world.explain(**more)[0].outcome for more in variants] == ["miss"] * 5


def test_invalidation_by_a_pipeline_that_never_looks_up():
    world = Cached()
    world.ask(answer(MINUTE))
    exchange = world.exchange("PUT")
    exchange.attempts = 1
    assert world.hooks.response is not None
    world.hooks.response(exchange, answer({}, b"", 204))
    assert world.explain()[0].outcome == "miss"


def test_an_unsafe_request_that_reached_nobody_invalidates_nothing():
    world = Cached()
    world.ask(answer(MINUTE))
    assert world.hooks.response is not None
    world.hooks.response(world.exchange("PUT"), answer({}, b"", 204))
    assert world.ask().cache == "hit"


def test_invalidation_goes_by_the_key_too():
    world = Cached({"key": {"query_ignore": ["trace"]}})
    world.ask(answer(MINUTE), target="/thing?id=1")
    world.ask(answer({}, b"", 204), method="PUT", target="/thing?trace=x&id=1")
    assert world.explain(target="/thing?id=1")[0].outcome == "miss"


def test_an_answer_asked_for_before_a_write_is_not_stored_after_it():
    world = Cached()
    complete = world.begin(world.exchange())
    world.ask(answer({}, b"", 204), method="PUT")
    assert complete(answer(MINUTE, b"old")).line == "gateway; fwd=uri-miss"
    assert world.ask(answer(MINUTE, b"new")).body == b"new"
    assert world.ask().body == b"new"


def test_a_write_invalidates_by_pattern():
    world = Cached()
    for target in ("/api/cameras", "/api/cameras/1?full=1", "/api/camerasX", "/api/counts"):
        world.ask(answer(MINUTE), target=target)
    writes = Cached({"invalidate": ["/api/cameras", "/api/cameras/*"]}, on=world)
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


def test_a_write_invalidates_by_the_paths_own_values():
    world = Cached()
    for target in ("/cameras/5?full", "/cameras/6", "/sites/a%2Fb/cameras", "/{id}"):
        world.ask(answer(MINUTE), target=target)
    paths = ["/cameras/{id}", "/sites/{site}/*", "/{unknown}"]
    writes = Cached({"invalidate": paths}, on=world)
    asked = world.exchange("PUT", "/admin/5")
    asked.params = {"id": "5", "site": "a/b"}
    writes.begin(asked)(answer({}, b"", 204))
    found = {
        target: world.explain(target=target)[0].outcome
        for target in ("/cameras/5?full", "/cameras/6", "/sites/a%2Fb/cameras", "/{id}")
    }
    assert found == {
        "/cameras/5?full": "miss",
        "/cameras/6": "hit",
        "/sites/a%2Fb/cameras": "miss",
        "/{id}": "hit",
    }


def test_answers_are_purged_by_the_tags_that_the_origin_gave_them():
    world = Cached()
    for number, tags in enumerate(("a", "b, a", "b")):
        world.ask(answer({**MINUTE, "Cache-Tag": tags}), target=f"/{number}")
    world.ask(answer({**MINUTE, "Surrogate-Key": "x a"}), target="/3")
    world.memory.purges.add(Purge("tag", "a"))
    targets = ["/0", "/1", "/2", "/3"]
    assert [world.explain(target=one)[0].outcome for one in targets] == [
        "miss",
        "miss",
        "hit",
        "miss",
    ]


def test_tags_of_a_confirmed_answer_are_those_it_has_now():
    world = Cached()
    world.ask(answer({**MINUTE, "ETag": '"1"', "Cache-Tag": "old"}))
    world.wait(61)
    world.ask(not_modified(("ETag", '"1"'), ("Cache-Tag", "new"), *MINUTE.items()))
    world.memory.purges.add(Purge("tag", "old"))
    assert world.explain()[0].outcome == "hit"
    world.memory.purges.add(Purge("tag", "new"))
    assert world.explain()[0].outcome == "miss"


def test_a_soft_purge_has_the_origin_asked_whether_the_answer_still_holds():
    world = Cached()
    world.ask(answer({**MINUTE, "ETag": '"1"'}))
    world.wait(5)
    world.memory.purges.add(Purge("path", "/thing", soft=True))
    assert world.explain()[0].outcome == "revalidate"
    seen = world.ask(not_modified(("ETag", '"1"'), *MINUTE.items()))
    assert seen.cache == "revalidated"
    assert world.ask().cache == "hit"


def test_another_worker_is_told_of_writes():
    told: list[tuple[str, tuple[Any, ...]]] = []
    local = SimpleNamespace(post=lambda kind, *body: told.append((kind, body)))
    world = Cached(local=local)
    world.ask(answer({}, b"", 204), method="PUT")
    assert told == [(PURGED, ([("url", "http://api.example.com/thing", False)],))]
