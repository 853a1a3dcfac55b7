"""Which responses a write takes out."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.middlewares.caching.cache import same_origin
from tests.unit.middlewares.caching.world import ALICE, MINUTE, Cached, answer


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


def test_same_origin():
    assert same_origin("https://a.example", "/x/y?q", "z") == "https://a.example/x/z"
    assert (
        same_origin("https://a.example:444", "/", "https://A.example:444")
        == "https://a.example:444/"
    )
    assert same_origin("https://a.example", "/", "https://a.example:443/z") == "https://a.example/z"
    assert same_origin("https://a.example", "/", "//b.example/z") == ""
    assert same_origin("http://", "/x", "/y") == "http:///y"
