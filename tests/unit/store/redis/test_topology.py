"""Where a store's servers are: by its URL, by Sentinels, by a Cluster's map."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import RedisError

from gateway.store.redis import topology
from gateway.store.redis.topology import server_of, slots_of
from gateway.store.stores import parse
from tests.redis import OK, StartFake, fake

__all__ = ["fake"]


async def answered(value: Any) -> Any:
    return value


async def test_one_server_is_where_its_url_says():
    assert await server_of(parse("redis://db:7000/2")) == ("db", 7000)


async def test_no_sentinel_knows():
    with pytest.raises(RedisError):
        await server_of(parse("redis+sentinel://127.0.0.1:1/limits"))


async def test_no_server_of_a_cluster_can_be_reached():
    assert await slots_of(parse("redis+cluster://127.0.0.1:1"), [("127.0.0.1", 1)]) is None


@pytest.mark.parametrize(
    "answer",
    [
        [[0, 16383, [b"10.0.0.1", 7000, b"id"]]],
        {(0, 16383): {"primary": ("10.0.0.1", 7000), "replicas": []}},
    ],
)
async def test_a_map_as_redis_and_as_its_client_give_it(
    fake: StartFake, monkeypatch: pytest.MonkeyPatch, answer: Any
):
    server = await fake(lambda command: OK)
    monkeypatch.setattr(topology.Redis, "execute_command", lambda *_: answered(answer))
    found = await slots_of(
        parse("redis+cluster://one:1"), [("127.0.0.1", 1), ("127.0.0.1", server.port)]
    )
    assert found == [("10.0.0.1", 7000)] * 16384


async def test_a_server_without_a_name_is_the_one_that_was_asked(fake: StartFake):
    server = await fake(lambda command: b"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$0\r\n\r\n:7001\r\n")
    found = await slots_of(parse("redis+cluster://one:1"), [("127.0.0.1", server.port)])
    assert (
        found is not None
        and found[1] == ("127.0.0.1", 7001)
        and found[2] == ("127.0.0.1", server.port)
    )
