"""What a route's target tables accept."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.tables.load import load
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.targets import Shares


def faults(**keys: Any) -> list[tuple[Any, str]]:
    return [(fault.path, fault.message) for fault in load(RouteConfig, keys).faults]


def test_shares_and_single_upstreams() -> None:
    assert load(RouteConfig, {"upstream": "one"}).value.upstreams == ("one",)
    route = load(RouteConfig, {"upstream": {"one": 95, "two": 5}}).value
    assert route.upstream == Shares({"one": 95, "two": 5})
    assert (route.upstreams, route.target) == (("one", "two"), "one 95, two 5")


@pytest.mark.parametrize(
    ("keys", "at", "message"),
    [
        ({"upstream": {"one": -1}}, ("upstream", "one"), "must be from 0 to 1000000"),
        ({"upstream": {"one": "5"}}, ("upstream", "one"), "must be a whole number, not '5'"),
        ({"upstream": {"one": 0}}, ("upstream",), "no upstream has a share"),
        ({"upstream": {}}, ("upstream",), "no upstream has a share"),
        ({"upstream": 5}, ("upstream",), "must be a string, not 5"),
        (
            {"redirect": {"to": "/x", "status": 200}},
            ("redirect", "status"),
            "must be 301, 302, 303, 307 or 308",
        ),
        (
            {"respond": {"json": {}, "text": "x"}},
            ("respond", "text"),
            "stands beside json; an answer has one of them",
        ),
        ({"respond": {"status": 204, "text": "x"}}, ("respond", "status"), "a 204 has no body"),
        (
            {"respond": {"headers": {"Content-Length": "3"}}},
            ("respond", "headers"),
            "the gateway itself writes Content-Length",
        ),
    ],
)
def test_refusals(keys: dict[str, Any], at: tuple[str, ...], message: str) -> None:
    assert faults(**keys) == [(at, message)]


@pytest.mark.parametrize(
    ("keys", "target"),
    [
        ({"builtin": "health"}, "builtin:health"),
        ({"redirect": {"to": "/x"}}, "redirect:/x"),
        ({"respond": {"status": 410}}, "respond:410"),
    ],
)
def test_targets_for_operators(keys: dict[str, Any], target: str) -> None:
    assert load(RouteConfig, keys).value.target == target
