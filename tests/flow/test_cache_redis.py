"""Answers in a real Redis, shared by gateways: found, purged, put together; and a Redis that is
gone, frozen or full costs a miss and nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.commands.running import client
from gateway.middlewares.caching.storage.memory import Memory
from gateway.middlewares.caching.storage.remote import PIECE, Remote
from gateway.store.redis.blocking import connected
from gateway.store.stores import parse
from tests.client import Client
from tests.flow.conftest import Start
from tests.origin import Origin, fields_of
from tests.redis import RedisServer, redis
from tests.until import until

__all__ = ["redis"]

PIPELINE = """request = ["caching"]
response = ["caching"]
error = ["error_handler"]
[caching]
store = "redis"
[[route]]
prefix = "/"
upstream = "origin"
"""


class Answering(Origin):
    """Answers with the number of the request, `size` bytes in all."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.size = 10
        self.more = ""

    async def _answer(
        self, _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        body = (b"%09d " % len(self.heads)) * (self.size // 10)
        language = fields_of(head).get("accept-language", "")
        writer.write(
            f"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nCache-Tag: t\r\n{self.more}"
            f"X-Language: {language}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        return True


class Shared:
    """Two gateways with one Redis and one origin."""

    def __init__(self, server: RedisServer, origin: Answering, *gateways: Gateway) -> None:
        self.server = server
        self.origin = origin
        self.gateways = gateways
        self.clients: list[Client] = []

    async def connect(self) -> None:
        self.clients = [await Client.connect(one.port) for one in self.gateways]
        for one in self.gateways:
            await until(
                lambda one=one: self.remote(one).up and self.remote(one).feed._feed.subscribed
            )

    @staticmethod
    def remote(gateway: Gateway) -> Remote:
        return next(one for one in gateway.runtime.registry if isinstance(one, Remote))

    @staticmethod
    def memory(gateway: Gateway) -> Memory:
        return next(one for one in gateway.runtime.registry if isinstance(one, Memory))

    async def written(self) -> None:
        """Wait until the first gateway has written what it stores."""
        await until(lambda: self.remote(self.gateways[0])._unwritten == 0)

    async def both(self, target: str = "/x", *lines: str) -> tuple[int, set[bytes]]:
        """Ask one gateway, then the other: how often the origin was asked, and the bodies."""
        before = len(self.origin.heads)
        bodies = set()
        for one in self.clients:
            answer = await one.get(target, *lines)
            assert (answer.status, answer.whole) == (200, True)
            bodies.add(answer.body)
            await self.written()
        return len(self.origin.heads) - before, bodies


async def world(start: Start, server: RedisServer) -> Shared:
    origin = Answering()
    await origin.start()
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    gateways = [
        await start(PIPELINE, upstreams, f'[store]\nurl = "{server.url}/7"\ndeadline = "100ms"\n')
        for _ in range(2)
    ]
    shared = Shared(server, origin, *gateways)
    await shared.connect()
    return shared


@pytest.fixture
async def shared(start: Start, redis: RedisServer) -> AsyncIterator[Shared]:
    one = await world(start, redis)
    yield one
    for connection in one.clients:
        connection.close()
    await one.origin.stop()


async def test_what_one_gateway_has_fetched_another_has(shared: Shared):
    asked, bodies = await shared.both()
    assert (asked, len(bodies)) == (1, 1)
    assert (await shared.clients[1].get("/x")).fields["cache-status"].startswith("gateway; hit")


async def test_each_variant_is_found(shared: Shared):
    shared.origin.more = "Vary: Accept-Language\r\n"
    for language in ("en", "de"):
        assert (await shared.both("/x", f"Accept-Language: {language}"))[0] == 1
    for one in shared.clients:
        found = await one.get("/x", "Accept-Language: en")
        assert found.fields["x-language"] == "en"


async def test_a_large_answer_comes_in_pieces_or_not_at_all(shared: Shared):
    shared.origin.size = 5 * PIECE
    asked, bodies = await shared.both()
    assert (asked, len(bodies)) == (1, 1)
    shared.origin.size = 5 * PIECE + 10
    await shared.clients[0].get("/y")
    await shared.written()
    with connected(parse(f"{shared.server.url}/7")) as store:
        store.unlink(*[key for key in store.scan_iter("gateway:*") if key.endswith(b":1")])
    before = len(shared.origin.heads)
    assert len((await shared.clients[1].get("/y")).body) > 4 * PIECE
    assert len(shared.origin.heads) == before + 1


@pytest.mark.parametrize(
    "body",
    [{"tag": "t"}, {"url": "/x"}, {"prefix": "/"}, {"all": True}, {"tag": "t", "soft": True}],
)
async def test_a_purge_is_heard_by_all_gateways(shared: Shared, body: dict[str, Any]):
    assert (await shared.both())[0] == 1
    one, other = shared.gateways
    status, _ = await asyncio.to_thread(
        client.call, "POST", f"http://127.0.0.1:{one.admin_port}/admin/purge", body=body
    )
    assert status == 200
    purges = shared.memory(one).purges
    await until(lambda: shared.memory(other).purges.version >= purges.version > 10**12)
    assert (await shared.both())[0] == 1


async def test_a_write_through_one_gateway_is_heard_by_the_other(shared: Shared):
    assert (await shared.both())[0] == 1
    await shared.clients[0].get("/x", method="PUT", body=b"{}")
    purges = shared.memory(shared.gateways[1]).purges
    await until(lambda: purges.version > 10**12)
    await until(lambda: shared.memory(shared.gateways[0]).purges.version == purges.version)
    assert (await shared.both())[0] == 1


async def test_a_gateway_that_starts_later_knows_what_was_purged(
    start: Start, shared: Shared, tmp_path: Any
):
    assert (await shared.both())[0] == 1
    status, _ = await asyncio.to_thread(
        client.call,
        "POST",
        f"http://127.0.0.1:{shared.gateways[0].admin_port}/admin/purge",
        body={"tag": "t"},
    )
    assert status == 200
    upstreams = f'[upstream.origin]\nurl = "{shared.origin.url}"\n'
    late = await start(PIPELINE, upstreams, f'[store]\nurl = "{shared.server.url}/7"\n')
    await until(lambda: shared.remote(late).up)
    connection = await Client.connect(late.port)
    before = len(shared.origin.heads)
    assert (await connection.get("/x")).status == 200
    assert len(shared.origin.heads) == before + 1
    connection.close()


@pytest.mark.parametrize("how", ["kill", "freeze", "fill"])
async def test_a_store_that_is_of_no_use_is_a_miss(shared: Shared, how: str):
    assert (await shared.both())[0] == 1
    if how == "kill":
        shared.server.kill()
    elif how == "freeze":
        shared.server.freeze()
    else:
        assert shared.server.command("CONFIG", "SET", "maxmemory", "1").startswith("+OK")
    for number in range(20):
        for one in shared.clients:
            answer = await one.get(f"/{number}")
            assert (answer.status, answer.whole) == (200, True)
            assert (await one.get(f"/{number}")).body == answer.body
    if how == "kill":
        status, said = await asyncio.to_thread(
            client.call,
            "POST",
            f"http://127.0.0.1:{shared.gateways[0].admin_port}/admin/purge",
            body={"all": True},
        )
        assert status == 503
        assert said["detail"].startswith("Purged here, but other gateways are not told")
    elif how == "freeze":
        shared.server.thaw()


async def test_a_private_answer_is_not_shared_with_others(shared: Shared):
    shared.origin.more = "Cache-Control: private\r\n"
    assert (await shared.both())[0] == 2
