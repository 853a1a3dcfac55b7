"""The gateway's own answers: health, info, limits and me."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from gateway import __version__
from gateway.builtins.answers import builtin, limits_awaited
from gateway.core.exchange import Identity, Reply
from gateway.core.failures import Failed, Failure
from tests.exchange import exchange, fields


def pools(**conditions: str) -> Any:
    return {name: SimpleNamespace(status=lambda said=said: {"status": said}) for name, said in conditions.items()}


def shown(reply: Reply) -> Any:
    assert fields(reply) == {"content-type": "application/json", "cache-control": "no-store"}
    assert isinstance(reply.body, bytes)
    return orjson.loads(reply.body)


@pytest.mark.parametrize(
    ("conditions", "overall", "status"),
    [
        ({}, "healthy", 200),
        ({"a": "healthy", "b": "healthy"}, "healthy", 200),
        ({"a": "healthy", "b": "degraded"}, "degraded", 200),
        ({"a": "degraded", "b": "unhealthy"}, "unhealthy", 503),
    ],
)
def test_health_is_that_of_the_worst(conditions: dict[str, str], overall: str, status: int):
    reply = builtin("health", pools(**conditions))(exchange())
    assert (reply.status, shown(reply)) == (status, {"status": overall, "services": conditions})


@pytest.mark.parametrize(
    ("upstream", "store", "overall", "status"),
    [
        ("healthy", "healthy", "healthy", 200),
        ("healthy", "unhealthy", "degraded", 200),
        ("unhealthy", "unhealthy", "unhealthy", 503),
    ],
)
def test_health_with_a_shared_store(upstream: str, store: str, overall: str, status: int):
    """Without it limits go on as on_store_failure says. Why it is away is for operators alone."""
    shared = SimpleNamespace(status=lambda: {"name": "redis://db", "status": store, "reason": "WRONGPASS"})
    reply = builtin("health", pools(a=upstream), shared)(exchange())
    assert reply.status == status and b"WRONGPASS" not in reply.body and b"redis" not in reply.body
    told = orjson.loads(reply.body)
    assert (told["status"], told["store"]) == (overall, {"status": store})


def test_health_is_of_now():
    made = pools(a="healthy")
    health = builtin("health", made)
    made["a"].status = lambda: {"status": "unhealthy", "endpoints": ["10.0.0.1"]}
    reply = health(exchange())
    assert reply.status == 503 and b"10.0.0.1" not in bytes(reply.body)  # type: ignore[arg-type]


def test_info():
    assert shown(builtin("info", {})(exchange())) == {"name": "gateway", "version": __version__}


async def test_limits():
    def here(exchange: Any) -> list[dict[str, Any]]:
        return [{"policy": "a", "remaining": 1}]

    async def elsewhere(exchange: Any) -> list[dict[str, Any]]:
        return [{"policy": "b", "remaining": 2}]

    asked = exchange()
    asked.route = SimpleNamespace(status=(here,))
    assert shown(builtin("limits", {})(asked)) == {"limits": [{"policy": "a", "remaining": 1}]}
    asked.route = SimpleNamespace(status=(here, elsewhere))
    assert [one["policy"] for one in shown(await limits_awaited(asked))["limits"]] == ["a", "b"]


def test_me():
    identity = Identity("acme", "jwt", "", "alice", frozenset("ba"), frozenset("yx"), claims={"secret": "hidden"})
    assert shown(builtin("me", {})(exchange(identity=identity))) == {
        "client": "acme",
        "method": "jwt",
        "tier": None,
        "roles": ["a", "b"],
        "permissions": ["x", "y"],
    }
    with pytest.raises(Failed) as caught:
        builtin("me", {})(exchange())
    assert caught.value.failure is Failure.UNAUTHENTICATED
