"""The list of revoked tokens in a real Redis, followed by a running gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import time
from typing import Any

import jwt
import pytest

from gateway.app import Gateway
from gateway.credentials.revocations.redis_revocations import ENTRIES, RedisRevocations
from gateway.credentials.revocations.revoked import Revocation
from gateway.credentials.revocations.store_revocations import StoreRevocations
from gateway.store.redis import feed as redis_feed
from gateway.store.redis.blocking import connected
from gateway.store.stores import parse
from tests.client import Client
from tests.redis import RedisServer, redis, shared_redis
from tests.until import until

__all__ = ["redis", "shared_redis"]

SECRET = "0123456789abcdef" * 2
PIPELINE = """
request = ["auth"]
[auth]
methods = ["jwt"]
revocations = "{url}"
[[auth.jwt]]
issuer = "https://id.example.com"
secret = "0123456789abcdef0123456789abcdef"
[[route]]
prefix = "/"
upstream = "origin"
"""


def token(**more: object) -> str:
    now = int(time())
    return jwt.encode(
        {"iss": "https://id.example.com", "sub": "alice", "iat": now, "exp": now + 600, **more},
        SECRET,
    )


class Revoking:
    def __init__(self, server: RedisServer, gateway: Gateway, client: Client, url: str) -> None:
        self.server, self.gateway, self.client = server, gateway, client
        self.list = RedisRevocations(parse(url))

    async def status(self, token: str) -> int:
        return (await self.client.get("/", f"Authorization: Bearer {token}")).status

    @property
    def kept(self) -> StoreRevocations:
        return next(
            one for one in self.gateway.runtime.registry if isinstance(one, StoreRevocations)
        )

    async def version(self, number: int) -> None:
        await until(lambda: self.kept._feed.version == number)


async def world(start: Any, origin: Any, server: RedisServer, database: str = "/9") -> Revoking:
    gateway = await start(
        PIPELINE.format(url=server.url + database), f'[upstream.origin]\nurl = "{origin.url}"\n'
    )
    return Revoking(server, gateway, await Client.connect(gateway.port), server.url + database)


@pytest.fixture
async def shared(start, origin, shared_redis: RedisServer) -> AsyncIterator[Revoking]:
    with connected(parse(f"{shared_redis.url}/9")) as client:
        client.flushdb()
    RedisRevocations(parse(f"{shared_redis.url}/9")).add(Revocation(jti="before"), time())
    one = await world(start, origin, shared_redis)
    await one.version(1)
    yield one
    one.client.close()


async def test_tokens_are_refused_at_once(shared: Revoking, caplog: pytest.LogCaptureFixture):
    mine, other = token(jti="j1"), token(sub="bob")
    assert [await shared.status(one) for one in (mine, other, token(jti="before"))] == [
        200,
        200,
        401,
    ]
    shared.list.add(Revocation(jti="j1"), time())
    await shared.version(2)
    assert [await shared.status(one) for one in (mine, other)] == [401, 200]
    shared.list.add(Revocation(subject="bob", before=time() + 1), time())
    await shared.version(3)
    assert [await shared.status(one) for one in (other, token())] == [401, 200]
    shared.list.add(Revocation(before=time() + 1), time())
    await shared.version(4)
    assert [await shared.status(one) for one in (token(), token(iat=int(time()) + 5))] == [401, 200]


async def test_what_makes_no_sense_is_left_out(shared: Revoking, caplog: pytest.LogCaptureFixture):
    with connected(parse(f"{shared.server.url}/9")) as client:
        client.hset(ENTRIES, "x", "nonsense")
        client.incr("gateway:{revoked}:version")
        client.publish("gateway:{revoked}:changes:9", "2 nonsense")
    await shared.version(2)
    assert "an entry is left out" in caplog.text
    assert [await shared.status(one) for one in (token(), token(jti="before"))] == [200, 401]


async def test_while_the_store_is_away(
    start, origin, redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog
):
    monkeypatch.setattr(redis_feed, "LATE", 0.2)
    monkeypatch.setattr(redis_feed, "EVERY", 0.05)
    monkeypatch.setattr(redis_feed, "SOON", 0.05)
    redis.kill()
    one = await world(start, origin, redis, "/0")
    reply = await one.client.get("/", f"Authorization: Bearer {token(jti='j1')}")
    assert (reply.status, reply.fields["retry-after"]) == (503, "1")
    redis.start()
    one.list.add(Revocation(jti="j1"), time())
    await one.version(1)
    assert [await one.status(each) for each in (token(jti="j1"), token())] == [401, 200]
    redis.kill()
    await until(lambda: "what is revoked now is not known here" in caplog.text)
    assert [await one.status(each) for each in (token(jti="j1"), token())] == [401, 200]
    redis.start()  # without its data
    one.list.add(Revocation(jti="j2"), time())
    one.list.add(Revocation(jti="j3"), time())
    await one.version(2)
    assert "has lost 1 revocations: they stay in force here" in caplog.text
    assert [await one.status(token(jti=each)) for each in ("j1", "j2", "j3", "j4")] == [
        401,
        401,
        401,
        200,
    ]
    one.client.close()


async def test_a_store_that_is_none(start):
    from gateway.config.toml.problems import ConfigErrors

    with pytest.raises(ConfigErrors) as caught:
        await start(PIPELINE.format(url="redis"), '[upstream.origin]\nurl = "http://127.0.0.1:1"\n')
    assert "auth: " in str(caught.value.problems[0]) and "that is no Redis" in str(
        caught.value.problems[0]
    )
