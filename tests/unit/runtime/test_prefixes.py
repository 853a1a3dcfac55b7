from __future__ import annotations

import pytest

from gateway.config.tables.pipeline import RouteConfig
from gateway.core.exchange import Reply
from gateway.routing.rewrite import rewritten
from gateway.runtime.prefixes import other_slash, restored_prefix, to_other_slash
from tests.exchange import exchange

ROUTE = RouteConfig(prefix="/api", strip_prefix="/api")


@pytest.mark.parametrize(
    ("location", "restored"),
    [
        ("/login", "/api/login"),
        ("/login?next=/x#top", "/api/login?next=/x#top"),
        ("/api/login", "/api/login"),
        ("/api", "/api"),
        ("/apis", "/api/apis"),
        ("login", "login"),
        ("?page=2", "?page=2"),
        ("http://edge.test/login", "http://edge.test/api/login"),
        ("//edge.test/login", "//edge.test/api/login"),
        ("https://id.example/login", "https://id.example/login"),
        ("http://[x", "http://[x"),
        ("", ""),
    ],
)
def test_the_prefix_comes_back(location: str, restored: str):
    rewrite = rewritten(ROUTE)
    assert rewrite is not None
    hooks, _ = restored_prefix(ROUTE, rewrite)
    assert hooks.response is not None
    for name in (b"Location", b"content-location"):
        reply = Reply(302, ((name, location.encode()),))
        hooks.response(exchange("GET", "/api/x", {"Host": "edge.test"}, attempts=1), reply)
        assert reply.get(name.lower()) == restored.encode()


def test_what_the_gateway_itself_answered_is_left_alone():
    hooks, _ = restored_prefix(ROUTE, str)  # type: ignore[arg-type]
    assert hooks.response is not None
    reply = Reply(302, ((b"Location", b"/login"),))
    hooks.response(exchange("GET", "/api/x"), reply)
    assert reply.get(b"location") == b"/login"


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, b"/api"),
        ({"trusted": True}, b"/outer/api"),
    ],
)
def test_the_upstream_is_told_once(facts: dict[str, bool], told: bytes):
    rewrite = rewritten(ROUTE)
    assert rewrite is not None
    _, telling = restored_prefix(ROUTE, rewrite)
    asked = exchange("GET", "/api/x?y", {"X-Forwarded-Prefix": "/outer/"}, **facts)
    for _ in range(2):  # As for two attempts.
        assert telling(asked) == "/x?y"
    assert asked.forward_headers == [(b"X-Forwarded-Prefix", told)]


@pytest.mark.parametrize(
    ("route", "other"),
    [
        (RouteConfig(prefix="/slash/"), "/slash"),
        (RouteConfig(path="/a"), "/a/"),
        (RouteConfig(path="/a/{id}/"), "/a/{id}"),
        (RouteConfig(prefix="/slash"), None),
        (RouteConfig(prefix="/"), None),
        (RouteConfig(path="/"), None),
    ],
)
def test_the_other_slash(route: RouteConfig, other: str | None):
    made = other_slash(route)
    assert (made and made.path) == other


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/slash?a=1", b"/slash/?a=1"),
        ("/a/", b"/a"),
        ("/a%20b", b"/a%20b/"),
        ("//evil.example", b"/evil.example/"),
    ],
)
def test_a_redirect_to_the_other_slash(target: str, location: bytes):
    reply = to_other_slash(exchange("GET", target))
    assert (reply.status, reply.get(b"location")) == (308, location)
