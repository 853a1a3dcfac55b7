"""Which version a request gets, and what answers say of it before and after its end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.versions import VersionBy
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.routing.router import Router
from gateway.routing.versions import announced, natural
from tests.exchange import exchange

HEADER = VersionBy("header", "X-V")
MEDIA = VersionBy("media_type")


def day(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def router(*routes: RouteConfig, by: VersionBy) -> Router[str]:
    entries = [(route, route.name or route.version) for route in routes]
    return Router(entries, RoutingConfig(version_by=by))


def two(by: VersionBy) -> Router[str]:
    return router(
        RouteConfig(path="/c/{id}", version="1"),
        RouteConfig(path="/c/{camera}", version="2", methods=("GET",)),
        RouteConfig(prefix="/", name="rest"),
        by=by,
    )


def outcome(routes: Router[str], asked: Exchange) -> str:
    try:
        return routes.match(asked)
    except Failed as failed:
        return failed.failure.name


@pytest.mark.parametrize(
    ("given", "default", "found"),
    [
        ("1", "", "1"),
        ("2", "", "2"),
        ("2", "1", "2"),
        (None, "", "VERSION_REQUIRED"),
        (None, "1", "1"),
        (None, "9", "VERSION_REQUIRED"),
        ("3", "1", "NO_ROUTE"),
        ("a b", "1", "VERSION_REQUIRED"),
        ("", "1", "VERSION_REQUIRED"),
    ],
)
def test_by_header(given: str | None, default: str, found: str):
    routes = two(VersionBy("header", "X-V", default))
    headers = {} if given is None else {"x-v": given}
    assert outcome(routes, exchange("GET", "/c/7", headers)) == found


def test_by_a_header_that_comes_twice():
    asked = exchange("GET", "/c/7", [("X-V", "1"), ("X-V", "2")])
    assert outcome(two(HEADER), asked) == "VERSION_REQUIRED"


def test_each_version_names_its_own_parameters():
    asked = exchange("GET", "/c/7", {"X-V": "2"})
    assert two(HEADER).match(asked) == "2" and asked.params == {"camera": "7"}
    assert two(HEADER).match(asked) == "2"
    asked = exchange("GET", "/c/7", {"X-V": "1"})
    assert two(HEADER).match(asked) == "1" and asked.params == {"id": "7"}


def test_other_paths_know_no_versions():
    assert outcome(two(HEADER), exchange("GET", "/other")) == "rest"


def test_a_method_that_the_version_does_not_take():
    with pytest.raises(Failed) as caught:
        two(HEADER).match(exchange("PUT", "/c/7", {"X-V": "2"}))
    assert caught.value.failure is Failure.METHOD_NOT_ALLOWED
    assert caught.value.headers == ((b"Allow", b"GET, HEAD, OPTIONS"),)
    assert outcome(two(HEADER), exchange("PUT", "/c/7", {"X-V": "1"})) == "1"


def test_a_version_of_several_routes():
    routes = router(
        RouteConfig(path="/c", version="1", methods=("GET",), name="read"),
        RouteConfig(path="/c", version="1", methods=("POST",), name="write"),
        by=HEADER,
    )
    assert outcome(routes, exchange("GET", "/c", {"X-V": "1"})) == "read"
    assert outcome(routes, exchange("POST", "/c", {"X-V": "1"})) == "write"
    assert outcome(routes, exchange("PUT", "/c", {"X-V": "1"})) == "METHOD_NOT_ALLOWED"


def test_a_preflight_names_no_version():
    asked = exchange("OPTIONS", "/c/7", {"Access-Control-Request-Method": "PUT"})
    assert two(HEADER).match(asked) in ("1", "2")
    assert two(VersionBy("header", "X-V", "1")).match(exchange("OPTIONS", "/c/7")) == "1"


@pytest.mark.parametrize(
    ("accept", "found"),
    [
        ("application/json;version=1", "1"),
        ('application/json; Version="2"', "2"),
        ("application/vnd.example.v2+json", "2"),
        ("application/vnd.example-v1+json;q=0.5, application/vnd.example.v2+json;q=0.4", "1"),
        ("application/json;version=9, application/json;version=1;q=0.1", "1"),
        ("application/json;version=1;q=0", "NOT_ACCEPTABLE"),
        ("application/json;version=1;q=x", "NOT_ACCEPTABLE"),
        ("application/json;version=9", "NOT_ACCEPTABLE"),
        ("*/*", "NOT_ACCEPTABLE"),
        ("", "NOT_ACCEPTABLE"),
        (", " * 100 + "a/b;version=1", "NOT_ACCEPTABLE"),
    ],
)
def test_by_media_type(accept: str, found: str):
    assert outcome(two(MEDIA), exchange("GET", "/c/7", {"Accept": accept})) == found


def test_a_default_is_for_those_that_name_none():
    routes = two(VersionBy("media_type", "", "1"))
    assert outcome(routes, exchange("GET", "/c/7")) == "1"
    assert outcome(routes, exchange("GET", "/c/7", {"Accept": "text/html, */*;q=0.1"})) == "1"
    unknown = exchange("GET", "/c/7", {"Accept": "application/json;version=9"})
    assert outcome(routes, unknown) == "NOT_ACCEPTABLE"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_any_accept_is_decided(accept: str):
    asked = exchange("GET", "/c/7", {"Accept": accept})
    assert outcome(two(MEDIA), asked) in ("1", "2", "NOT_ACCEPTABLE")


def test_versions_sort_as_people_do():
    assert sorted(["10", "2", "1.10", "1.9", "beta"], key=natural) == [
        "beta",
        "1.9",
        "1.10",
        "2",
        "10",
    ]


class Time:
    """A clock that is set."""

    def __init__(self, text: str) -> None:
        self.now = day(text)

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now)


def lines(asked: Exchange) -> list[str]:
    return b"".join(asked.reply_blocks or ()).decode().splitlines()


def test_the_life_of_a_version():
    time = Time("2026-01-01")
    route = RouteConfig(
        path="/c",
        version="1",
        deprecated=day("2026-06-01"),
        sunset=day("2026-12-31"),
        successor="/v2/c",
    )
    (hooks,) = announced(route, VersionBy(), time.clock())
    assert hooks.request is not None
    ends = [
        "Deprecation: @1780272000",
        "Sunset: Thu, 31 Dec 2026 00:00:00 GMT",
        'Link: </v2/c>; rel="successor-version"',
    ]
    for now, status in (
        ("2026-05-31T23:59:59", "active"),
        ("2026-06-01", "deprecated"),
        ("2026-12-30T23:59:59", "deprecated"),
    ):
        time.now, asked = day(now), exchange()
        hooks.request(asked)
        assert lines(asked) == ["X-API-Version: 1", f"X-API-Status: {status}", *ends]
    time.now, asked = day("2026-12-31"), exchange()
    with pytest.raises(Failed) as caught:
        hooks.request(asked)
    assert lines(asked) == ["X-API-Version: 1", "X-API-Status: retired", *ends]
    assert caught.value.failure is Failure.GONE
    assert caught.value.facts == {"version": "1", "successor": "/v2/c", "sunset": "2026-12-31"}
    assert "/v2/c" in caught.value.detail


def test_retired_by_hand_and_explained():
    (hooks,) = announced(RouteConfig(path="/c", retired=True), VersionBy(), Clock())
    assert hooks.request is not None
    hooks.request(exchange("OPTIONS", "/c"))  # A preflight passes.
    asked = exchange()
    asked.decisions = []
    assert hooks.request is not None
    with pytest.raises(Failed):
        hooks.request(asked)
    assert lines(asked) == ["X-API-Status: retired"]
    assert [one.why for one in asked.decisions] == ["retired = true"]


def test_there_is_one_account_and_caches_know_what_it_depends_on():
    route = RouteConfig(path="/c", version="1")
    for by, vary in ((HEADER, b"X-V"), (MEDIA, b"Accept"), (VersionBy(), None)):
        (hooks,) = announced(route, by, Clock())
        reply = Reply(200, ((b"X-API-Version", b"7"), (b"sunset", b"x"), (b"X-A", b"1")))
        assert hooks.response is not None
        hooks.response(exchange(), reply)
        names = [name for name, _ in reply.headers if name != b"Vary"]
        assert names == [b"X-A"] and reply.get(b"vary") == vary


@pytest.mark.parametrize("more", [{}, {"successor": "/v2"}])
def test_nothing_is_said_of_other_routes(more: dict[str, Any]):
    assert announced(RouteConfig(path="/c", **more), VersionBy(), Clock()) == ()
