"""Where clients are sent."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.tables.targets import RedirectTargetConfig
from gateway.core.failures import Failed
from gateway.routing.redirect import redirect
from gateway.routing.router import Router
from tests.exchange import exchange

STRICT = RoutingConfig()


def location(to: str, target: str, status: int = 308, **keys: str) -> tuple[int, str]:
    route = RouteConfig(
        **{"prefix": "/", **keys},  # type: ignore[arg-type]
        hosts=("old.example.com",),
        redirect=RedirectTargetConfig(to, status),
    )
    request = exchange(target=target, host="old.example.com")
    Router([(route, None)], STRICT).match(request)
    reply = redirect(route, STRICT)(request)
    return reply.status, (reply.get(b"location") or b"").decode()


@pytest.mark.parametrize(
    ("to", "target", "expected"),
    [
        ("https://new{path}{?query}", "/a/b?x=1&y=%2F", "https://new/a/b?x=1&y=%2F"),
        ("https://new{path}{?query}", "/a", "https://new/a"),
        ("https://new{path}", "/a?x=1", "https://new/a"),
        ("https://new", "/a?x=1", "https://new/"),
        ("https://new/?from={path}{?query}", "/a b"[:2], "https://new/?from=/a"),
        ("https://new/x?y=1{?query}", "/a?z=2", "https://new/x?y=1&z=2"),
        ("https://{host}{path}", "/a", "https://old.example.com/a"),
        ("{path}", "//evil.example/x", "/evil.example/x"),
        ("https://new{path}", "//evil.example/x", "https://new/evil.example/x"),
    ],
)
def test_location(to: str, target: str, expected: str) -> None:
    assert location(to, target) == (308, expected)


def test_names_of_a_template_and_a_stripped_prefix() -> None:
    assert location("/items/{id}", "/old/a%2F%2Fevil", 301, path="/old/{id}", prefix="") == (
        301,
        "/items/a%2F%2Fevil",
    )
    found = location("https://new{path}", "/old//evil.example", strip_prefix="/old", prefix="/old")
    assert found == (308, "https://new/evil.example")


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30)
)
def test_no_client_chooses_the_host(path: str) -> None:
    for to, host in (("https://new{path}{?query}", "new"), ("{path}{?query}", "")):
        try:
            _, found = location(to, "/" + path)
        except Failed:
            return
        try:
            assert urlsplit(found).netloc == host
        except ValueError:
            raise AssertionError(found) from None
