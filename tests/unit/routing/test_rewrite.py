"""Targets as the upstream gets them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.routing.router import Router, rewritten
from tests.exchange import exchange

STRICT = RoutingConfig()


def sent_on(route: RouteConfig, target: str, routing: RoutingConfig = STRICT) -> str:
    """What the upstream is asked for when a client asks for `target`."""
    request = exchange(target=target)
    Router([(route, None)], routing).match(request)
    rewrite = rewritten(route, routing)
    return request.target if rewrite is None else rewrite(request)


def test_nothing_to_do():
    assert rewritten(RouteConfig(prefix="/api"), STRICT) is None


@pytest.mark.parametrize(
    ("strip", "target", "expected"),
    [
        ("/api/v1", "/api/v1/cameras/7?x=1&y", "/cameras/7?x=1&y"),
        ("/api/v1/", "/api/v1/cameras", "/cameras"),
        ("/api/v1", "/api/v1", "/"),
        ("/api/v1", "/api/v1?x", "/?x"),
        ("/api/v1", "/api/v1/", "/"),
        ("/api/v1", "/api/v1x/cameras", "/api/v1x/cameras"),
        ("/api/v1", "/other?x", "/other?x"),
        ("/api/v1", "/api/v1/a%2fb//c?", "/a%2fb//c?"),
        ("/api/v1", "/%61pi/v%31/a%2fb?x", "/a%2fb?x"),
        ("/api/v1", "/%61pi/v%31", "/"),
        ("/api/v1", "/API/v1/a", "/API/v1/a"),
        ("/api/v1", "/api/v1//evil.example/x", "/evil.example/x"),
        ("/", "/a", "/a"),
        ("/caf\u00e9", "/caf%c3%a9/x", "/x"),
        ("/caf\u00e9", "/caf\u00e9/x", "/x"),
    ],
)
def test_strip_prefix(strip: str, target: str, expected: str):
    assert sent_on(RouteConfig(prefix="/", strip_prefix=strip), target) == expected


def test_strip_prefix_compares_as_the_route_does():
    loose = RoutingConfig(case_sensitive=False)
    assert sent_on(RouteConfig(prefix="/", strip_prefix="/Api"), "/aPI/x", loose) == "/x"
    assert sent_on(RouteConfig(prefix="/", strip_prefix="/Api"), "/aPIs/x", loose) == "/aPIs/x"
    assert (
        sent_on(RouteConfig(prefix="/", strip_prefix="/Api", case_sensitive=False), "/aPI/x")
        == "/x"
    )
    assert (
        sent_on(RouteConfig(prefix="/", strip_prefix="/Api", case_sensitive=True), "/aPI/x", loose)
        == "/aPI/x"
    )


@pytest.mark.parametrize(
    ("rewrite", "target", "expected"),
    [
        ("/v1{path}", "/c/7?x=1", "/v1/c/7?x=1"),
        ("{path}/", "/c/7", "/c/7/"),
        ("/things/{id}", "/c/7?x=1", "/things/7?x=1"),
        ("/things/{id}", "/c/a%2Fb%25%c3%bc", "/things/a%2Fb%25%C3%BC"),
        ("/things/{id}", "/c/a:b@c;d=1", "/things/a:b@c;d=1"),
        ("/{id}/{id}x", "/c/7", "/7/7x"),
        ("/fixed", "/c/7?x=1", "/fixed?x=1"),
        ("/a b/\u00fc%20{id}", "/c/7", "/a%20b/%C3%BC%207"),
        ("/{path}", "/c/7", "/c/7"),
        ("/find?id={id}&kind=camera", "/c/a&b=c%20+", "/find?id=a%26b%3Dc%20%2B&kind=camera"),
        ("/find?id={id}", "/c/7?x=1", "/find?id=7&x=1"),
        ("/find?id={id}", "/c/7?", "/find?id=7"),
        ("/find?at={path}", "/c/a&b=%20", "/find?at=/c/a%26b%3D%20"),
        ("/find?q=a b", "/c/7", "/find?q=a%20b"),
    ],
)
def test_rewrite(rewrite: str, target: str, expected: str):
    assert sent_on(RouteConfig(path="/c/{id}", rewrite=rewrite), target) == expected


def test_the_prefix_goes_before_the_rewrite():
    route = RouteConfig(prefix="/api/v1", strip_prefix="/api/v1", rewrite="/v2{path}")
    assert sent_on(route, "/api/v1/c?x") == "/v2/c?x"
    assert sent_on(route, "/api/v1") == "/v2/"


@settings(max_examples=100)
@given(
    st.sampled_from(["", "/a", "/a/b"]),
    st.sampled_from(["", "/v1{path}", "{path}", "/{path}/x"]),
    st.lists(st.sampled_from(["a", "%61", "b", "", "c%2F"]), max_size=5).map(
        lambda found: "/" + "/".join(found)
    ),
    st.sampled_from(["", "?", "?x=1", "?/a/b?"]),
)
def test_what_is_made_starts_with_one_slash_and_keeps_the_query(
    strip: str, rewrite: str, path: str, query: str
):
    target = sent_on(RouteConfig(prefix="/", strip_prefix=strip, rewrite=rewrite), path + query)
    assert target.startswith("/") and target.endswith(query)
    assert not target.startswith("//") or target == path + query
