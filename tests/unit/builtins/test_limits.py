"""Every limit of the caller."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson

from gateway.builtins.limits import Entry, limits, quotas, with_headers
from gateway.core.exchange import Exchange, Identity
from tests.exchange import exchange


def entry(name: str, **more: Any) -> Entry:
    return {"policy": name, "remaining": 1, **more}


def by_route(request: Exchange) -> list[Entry]:
    return [entry(f"of {request.route.name}")]


async def waited_for(request: Exchange) -> list[Entry]:
    return [entry("b", period="day", limit=10, reset=99)]


def a(request: Exchange) -> list[Entry]:
    return [entry("a")]


async def asked(status: tuple[Any, ...], others: list[Any], client: str = "") -> dict[str, Any]:
    request = exchange(route="limits")
    request.route.status = status
    request.identity = Identity(client, "api_key") if client else None
    reply = await limits(lambda: others)(request)
    assert isinstance(reply.body, bytes) and request.route.name == "limits"
    found: dict[str, Any] = orjson.loads(reply.body)
    return found


async def test_its_own_and_those_of_other_routes():
    others = [
        SimpleNamespace(name="same", status=(a, waited_for)),
        SimpleNamespace(name="none", status=()),
        SimpleNamespace(name="x", status=(by_route,)),
        SimpleNamespace(name="y", status=(by_route,)),
        SimpleNamespace(name="z", status=(waited_for,)),
    ]
    found = await asked((a, waited_for), others, "acme")
    assert found["client"] == "acme"
    assert [one["policy"] for one in found["limits"]] == ["a", "b"]
    assert found["quotas"] == {"daily": {"used": 9, "limit": 10, "reset": 99}}
    assert [(one["routes"], one["limits"][0]["policy"]) for one in found["routes"]] == [
        (["x", "y"], "of x"),
        (["z"], "b"),
    ]


async def test_a_stranger_without_limits():
    assert await asked((), []) == {"limits": []}


def test_the_tighter_quota_is_told():
    found = quotas(
        [
            entry("a", period="day", limit=10),
            {"policy": "b", "period": "day", "limit": 100, "remaining": 0, "reset": 7},
            {"policy": "c", "period": "hour", "limit": 5, "remaining": 5},
        ]
    )
    assert found == {
        "daily": {"used": 100, "limit": 100, "reset": 7},
        "hourly": {"used": 0, "limit": 5},
    }


def test_which_header_tells_of_which_limit():
    entries = [
        {"policy": "a", "limit": 100, "remaining": 50},
        {"policy": "b", "limit": 10, "remaining": 2},
        {"policy": "c", "limit": 10, "remaining": 0, "shadow": True},
    ]
    assert [one["headers"] for one in with_headers(entries)] == [
        ["RateLimit-Policy"],
        [
            "RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining",
            "X-RateLimit-Reset",
        ],
        [],
    ]  # fmt: skip
    assert with_headers([]) == []
