"""What tests of several gateways share: a Redis, and ways to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry
from gateway.issuer.attempts import AttemptRule
from gateway.store import stores
from gateway.store.redis.client import RedisClient
from tests.redis import RedisServer

T = 1_700_000_000.0


RULE = AttemptRule(free=3, delay=1.0, longest=60.0, forget=600.0)


WIDE = AttemptRule(free=1000, delay=1.0, longest=60.0, forget=600.0)


def reader(url: str) -> RedisClient:
    return RedisClient(stores.parse(url), 1.0, Clock(wall=lambda: T), Telemetry())


@pytest.fixture
async def store(shared_redis: RedisServer) -> AsyncIterator[Callable[[], RedisClient]]:
    """Ways to a database of the test's own, one for each gateway."""
    url = f"{shared_redis.url}/9"
    made: list[RedisClient] = []

    def one() -> RedisClient:
        made.append(reader(url))
        return made[-1]

    await one().command(b"FLUSHDB", key=b"x")
    yield one
    for way in made:
        way.close()
