"""Methods that have to wait need no Task of the request's: they are driven by hand, as the request
is."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from gateway.core.drive import Drive
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.core.wait import driven
from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.api_keys.redis_keys import RedisKeys
from gateway.store.stores import parse
from tests.idp import Provider
from tests.redis import RedisServer, shared_redis
from tests.unit.middlewares.auth.bearers import NOW, Bearers, asked, bearing

__all__ = ["shared_redis"]

HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Bearers]:
    one = Bearers(tmp_path)
    yield one
    one.close()
    await asyncio.sleep(0.01)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    one = await Provider("ES256").start()
    one.active["good"] = {"active": True, "client_id": "acme"}
    yield one
    await one.stop()


async def by_hand(hook: Any, request: Exchange) -> str:
    """The client after a hook that waits, driven without a Task; its failure's word where it is
    refused."""
    over: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    later = hook(request)
    assert later is not None and driven(later) is later

    def ended(value: Any, error: BaseException | None) -> None:
        over.set_result(error)

    def begin() -> None:
        Drive(later, ended).start()

    asyncio.get_running_loop().call_soon(begin)  # outside of this test's own Task
    async with asyncio.timeout(10):
        error = await over
    if isinstance(error, Failed):
        return error.failure.name
    assert error is None and request.identity is not None
    return request.identity.client


async def test_basic(world: Bearers):
    (world.directory / "users.toml").write_text(f'[[user]]\nname = "bob"\nhash = "{HASH}"\n')
    hook = world.auth(methods=["basic"])
    for password, said in (("secret", "bob"), ("wrong", "UNAUTHENTICATED")):
        given = base64.b64encode(f"bob:{password}".encode()).decode()
        assert await by_hand(hook, asked(f"Basic {given}")) == said


async def test_introspection(world: Bearers, provider: Provider):
    hook = world.auth(
        methods=["introspection"], introspection={"url": f"{provider.issuer}/introspect"}
    )
    assert await by_hand(hook, bearing("good")) == "acme"
    assert await by_hand(hook, bearing("bad")) == "UNAUTHENTICATED"


async def test_key_sets(world: Bearers, provider: Provider):
    hook = world.auth({"issuer": provider.issuer, "jwks": provider.jwks, "cooldown": "10ms"})
    fresh = {"iat": NOW, "exp": NOW + 60}
    assert await by_hand(hook, bearing(provider.token(**fresh))) == "acme"
    provider.rotate("k2")
    assert await by_hand(hook, bearing(provider.token(**fresh))) == "acme"
    assert await by_hand(hook, bearing(provider.token(kid="none", **fresh))) == "UNAUTHENTICATED"


async def test_keys_in_a_store(world: Bearers, shared_redis: RedisServer):
    url = f"{shared_redis.url}/13"
    _, secret = RedisKeys(parse(url)).create(Wish("acme"), NOW)
    hook = world.auth(methods=["api_key"], api_key={"store": url, "deadline": "5s"})
    assert await by_hand(hook, asked(secret, header="x-api-key")) == "acme"
