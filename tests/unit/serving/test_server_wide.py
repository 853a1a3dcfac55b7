"""OPTIONS and TRACE that go no further than the gateway."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.tables.pipeline import RouteConfig
from gateway.core.exchange import ALLOWED_METHODS
from gateway.core.failures import Failed, Failure
from gateway.runtime.pipeline import Pipeline
from gateway.runtime.snapshot import Route
from gateway.serving.server_wide import find_route
from tests.exchange import exchange

ROUTE = Route("r", RouteConfig(name="r", prefix="/"), Pipeline("p"), lambda exchange: None)
SNAPSHOT: Any = SimpleNamespace(
    unrouted=Pipeline("unrouted"), router=SimpleNamespace(match=lambda exchange: ROUTE)
)


def test_options_for_the_server_is_answered_here():
    one = exchange("OPTIONS", "*")
    route = find_route(one, SNAPSHOT)
    assert (route.name, route.awaited) == ("*", False)
    assert b"OPTIONS" in route.target(one).get(b"allow")


def test_without_max_forwards_it_goes_on():
    assert find_route(exchange("OPTIONS", "/a"), SNAPSHOT) is ROUTE


def test_max_forwards_counts_down():
    one = exchange("TRACE", "/a", {"Max-Forwards": "2"})
    assert find_route(one, SNAPSHOT) is ROUTE
    assert one.forward_headers == [(b"Max-Forwards", b"1")]


def test_at_0_it_ends_here():
    one = exchange("OPTIONS", "/a", {"Max-Forwards": "0"})
    one.notes[ALLOWED_METHODS] = ("GET",)
    assert find_route(one, SNAPSHOT).target(one).get(b"allow") == b"GET, OPTIONS"
    traced = exchange("TRACE", "/a", {"Max-Forwards": "0", "Cookie": "secret", "X-Key": "1"})
    body = find_route(traced, SNAPSHOT).target(traced).body
    assert (
        body.startswith(b"TRACE /a HTTP/1.1\r\n") and b"X-Key: 1" in body and b"secret" not in body
    )


@pytest.mark.parametrize("value", ["-1", "1.5", "a", ""])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(Failed) as failed:
        find_route(exchange("TRACE", "/a", {"Max-Forwards": value}), SNAPSHOT)
    assert failed.value.failure is Failure.MALFORMED
