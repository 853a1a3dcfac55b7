"""What a match costs, however many routes there are."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Exchange
from gateway.routing import router as module
from gateway.routing.router import KNOWN_LENGTH
from tests.unit.routing.test_router import FEW, LOTS, asks, matched, path, prefix, router, steps


@pytest.mark.parametrize(
    "request_",
    [
        asks("/exact/3"),
        asks("/api/v1/service-3/x"),
        asks("/things-3/7"),
        asks("/c/7/x"),
        asks("/nothing", host="h3.example.com"),
        asks("/nothing", host="x.w3.example.com"),
        asks("/nothing", headers={"X-Team": "3"}),
        asks("/nothing", "OPTIONS"),
        asks("/nothing//%2f"),
    ],
    ids=lambda request: f"{request.method} {request.path} {request.host}",
)
def test_a_match_costs_the_same_with_many_routes(request_: Exchange):
    assert matched(FEW, request_) == matched(LOTS, request_)
    assert steps(FEW.match, request_) == steps(LOTS.match, request_) > 10


def test_what_is_remembered_of_paths_is_bounded_and_decides_as_before(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "KNOWN", 3)
    routes = router(
        prefix("/a", methods=("GET",)), path("/t/{id}"), prefix("/h", hosts=("b.test",))
    )
    for number in range(10):
        assert matched(routes, asks(f"/a/{number}")) == "/a"
        assert len(routes._known) <= 3
    for _ in range(2):
        assert matched(routes, asks("/a/9", "POST")) == "METHOD_NOT_ALLOWED"
        asked = asks("/t/7")
        assert (matched(routes, asked), asked.params) == ("/t/{id}", {"id": "7"})
        assert matched(routes, asks("/h", host="b.test")) == "/h"
        assert matched(routes, asks("/h", host="c.test")) == "NO_ROUTE"
    assert matched(routes, asks("/a/" + "x" * KNOWN_LENGTH)) == "/a"
    assert all(len(path) <= KNOWN_LENGTH for path in routes._known)
