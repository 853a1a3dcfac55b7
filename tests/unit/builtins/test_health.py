from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from gateway import __version__
from gateway.builtins.health import Health
from tests.exchange import exchange, fields


def pools(**conditions: str) -> Any:
    return {
        name: SimpleNamespace(status=lambda said=said: {"status": said})
        for name, said in conditions.items()
    }


def health(conditions: dict[str, str], needed: Any = None, store: Any = None) -> Health:
    return Health(
        pools(**conditions),
        dict.fromkeys(conditions, ()) if needed is None else needed,
        store,
        lambda: 0.0,
    )


@pytest.mark.parametrize(
    ("conditions", "overall"),
    [
        ({}, "healthy"),
        ({"a": "healthy", "b": "healthy"}, "healthy"),
        ({"a": "healthy", "b": "degraded"}, "degraded"),
        ({"a": "degraded", "b": "unhealthy"}, "unhealthy"),
    ],
)
def test_it_is_that_of_the_worst(conditions: dict[str, str], overall: str):
    assert health(conditions).report()["status"] == overall


@pytest.mark.parametrize(
    ("conditions", "needed", "overall", "told"),
    [
        ({"a": "healthy", "b": "unhealthy"}, {"a": ()}, "degraded", "unhealthy"),  # no route uses b
        ({"a": "healthy", "b": "unhealthy"}, {"b": ("a",)}, "degraded", "degraded"),  # a stands in
        ({"a": "degraded", "b": "unhealthy"}, {"a": (), "b": ("a",)}, "degraded", "degraded"),
        ({"a": "unhealthy", "b": "unhealthy"}, {"b": ("a",)}, "unhealthy", "unhealthy"),
        (
            {"a": "unhealthy", "b": "healthy", "c": "unhealthy"},
            {"b": ("c", "a")},
            "degraded",
            "healthy",
        ),
    ],
)
def test_what_is_not_needed_or_has_a_fallback_is_no_outage(
    conditions: dict[str, str], needed: dict[str, tuple[str, ...]], overall: str, told: str
):
    report = health(conditions, needed).report()
    assert (report["status"], report["upstreams"]["b"]["status"]) == (overall, told)


def shared(status: str) -> Any:
    return SimpleNamespace(
        status=lambda: {"name": "redis://db", "status": status, "reason": "WRONGPASS"}
    )


@pytest.mark.parametrize(
    ("upstream", "store", "overall"),
    [
        ("healthy", "healthy", "healthy"),
        ("healthy", "unhealthy", "degraded"),
        ("unhealthy", "unhealthy", "unhealthy"),
    ],
)
def test_the_store_is_in_it(upstream: str, store: str, overall: str):
    """Without it limits go on as on_store_failure says. Why it is away is for operators alone."""
    one = health({"a": upstream}, store=shared(store))
    report = one.report()
    assert (report["status"], report["store"]["reason"]) == (overall, "WRONGPASS")
    reply = one.answer(exchange())
    assert b"WRONGPASS" not in reply.body and b"redis" not in reply.body  # type: ignore[operator]
    assert orjson.loads(reply.body)["store"] == {"status": store}  # type: ignore[arg-type]


def test_the_answer():
    one = pools(a="degraded", b="healthy")
    one["a"].status = lambda: {
        "status": "degraded",
        "endpoints": [
            {"name": "10.0.0.1:80", "check_seconds": 0.25},
            {"name": "10.0.0.2:80", "check_seconds": 0.0125},
            {"name": "10.0.0.3:80", "check_seconds": None},
        ],
    }
    reply = Health(one, {"a": ()}, shared("healthy"), lambda: 1.5).answer(exchange())
    assert (reply.status, fields(reply)) == (
        200,
        {"content-type": "application/json", "cache-control": "no-store"},
    )
    assert isinstance(reply.body, bytes)
    assert orjson.loads(reply.body) == {
        "status": "degraded",
        "version": __version__,
        "timestamp": "1970-01-01T00:00:01Z",
        "services": {"a": {"status": "degraded", "responseTime": 12.5}, "b": {"status": "healthy"}},
        "store": {"status": "healthy"},
    }


def test_it_is_of_now():
    made = pools(a="healthy")
    one = Health(made, {"a": ()}, None, lambda: 0.0)
    assert one.answer(exchange()).status == 200
    made["a"].status = lambda: {"status": "unhealthy"}
    assert one.answer(exchange()).status == 503
