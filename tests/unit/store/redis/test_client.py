"""What rarely happens to a client of Redis, on a server that says what it is told to."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.clock import REAL
from gateway.core.telemetry import Telemetry
from gateway.store.redis import client as client_module
from gateway.store.redis.client import Purpose, RedisClient
from gateway.store.redis.connection import Command, Script
from gateway.store.stores import StoreDown, parse
from tests.redis import StartFake, fake, usual
from tests.until import until

__all__ = ["fake"]

SCRIPT = Script(b"return {1, 2}")
PURPOSE = Purpose(
    "", "it is asked again", "It is not asked", probe=(b"PING",), writes=True, scripts=(SCRIPT,)
)


def made(port: int, scheme: str = "redis", *, path: str = "", deadline: float = 2.0) -> RedisClient:
    return RedisClient(
        parse(f"{scheme}://127.0.0.1:{port}{path}"), deadline, REAL, Telemetry(), PURPOSE
    )


def run(client: RedisClient) -> Command:
    return client.run(SCRIPT, (b"k",), ())


async def down(client: RedisClient) -> None:
    await until(lambda: not client.up)


async def test_the_way_says_how_it_is(fake: StartFake):
    server = await fake(usual())
    client = made(server.port)
    assert "up" in repr(client) and "Link" in repr(client._one)
    assert await run(client) == [1, 2]
    assert "0 waiting" in repr(client._one)
    client.close()
    with pytest.raises(StoreDown, match="closed"):
        await run(client)


async def test_nothing_is_said_to_a_server_that_is_down():
    client = made(1)
    with pytest.raises(StoreDown, match="cannot connect"):
        await run(client)
    assert not client.up and "down" in repr(client)
    with pytest.raises(StoreDown, match="is down"):
        await run(client)
    assert client._one is not None
    client._one.down("again")
    client.close()


async def test_who_waits_for_a_connection_hears_of_a_close():
    never = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    client = made(never.sockets[0].getsockname()[1], deadline=60.0)
    ask = run(client)
    client.close()
    with pytest.raises(StoreDown, match="closed"):
        await ask
    never.close()


@pytest.mark.parametrize(
    ("error", "closes"),
    [
        (b"-READONLY You can't write\r\n", True),
        (b"-OOM no room\r\n", True),
        (b"-ERR no\r\n", False),
    ],
)
async def test_errors_that_mean_another_server(fake: StartFake, error: bytes, closes: bool):
    server = await fake(usual(error))
    client = made(server.port)
    with pytest.raises(StoreDown):
        await run(client)
    assert client.up is not closes
    client.close()


async def test_a_script_that_stays_unknown_is_an_error(fake: StartFake):
    server = await fake(usual(b"-NOSCRIPT gone\r\n"))
    client = made(server.port)
    with pytest.raises(StoreDown, match="NOSCRIPT"):
        await run(client)
    assert [command[0] for command in server.asked if command[0] in (b"EVAL", b"EVALSHA")] == [
        b"EVALSHA",
        b"EVAL",
        b"EVAL",
        b"EVAL",
    ]
    client.close()


async def test_what_is_no_redis(fake: StartFake):
    server = await fake(usual(b"HTTP/1.1 400 Bad Request\r\n"))
    client = made(server.port)
    with pytest.raises(StoreDown):
        await run(client)
    await down(client)
    client.close()


class TestCluster:
    """Answers of a Cluster that are seen only while it changes."""

    @staticmethod
    def slots(port: int) -> bytes:
        return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:%d\r\n" % port

    async def test_asking_is_for_once(self, fake: StartFake):
        other = await fake(usual(b"*2\r\n:7\r\n:8\r\n"))

        def reply(command: list[bytes]) -> bytes:
            if command[0] == b"CLUSTER":
                return self.slots(one.port)
            return usual(b"-ASK 1 127.0.0.1:%d\r\n" % other.port)(command)

        one = await fake(reply)
        client = made(one.port, "redis+cluster")
        assert await run(client) == [7, 8]
        assert [b"ASKING"] in other.asked
        assert client._slots is not None and client._slots[1] == ("127.0.0.1", one.port)
        client.close()

    async def test_moved_without_a_host_is_the_same_host(self, fake: StartFake):
        other = await fake(usual(b"*2\r\n:7\r\n:8\r\n"))
        moved = False

        def reply(command: list[bytes]) -> bytes:
            nonlocal moved
            if command[0] == b"CLUSTER":
                return self.slots(other.port if moved else one.port)
            moved = True
            return usual(b"-MOVED 1 :%d\r\n" % other.port)(command)

        one = await fake(reply)
        client = made(one.port, "redis+cluster")
        assert await run(client) == [7, 8]
        # the map is read again, and who is no longer in it is left
        await until(lambda: ("127.0.0.1", one.port) not in client._links)
        client.close()

    async def test_nobody_is_there(self, caplog: pytest.LogCaptureFixture):
        client = made(1, "redis+cluster")
        with pytest.raises(StoreDown, match="cannot be reached"):
            await run(client)
        assert "no server of the cluster" in caplog.text
        client.close()

    async def test_nobody_says_anything_soon(
        self, fake: StartFake, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(client_module, "FIRST", 0.02)
        server = await fake(lambda command: b"")
        client = made(server.port, "redis+cluster")
        with pytest.raises(StoreDown, match="not found in time"):
            await run(client)
        client.close()
        await asyncio.sleep(0)


async def test_clients_that_only_look_up_stay_up_when_nothing_can_be_written(fake: StartFake):
    server = await fake(lambda command: b"-OOM no room\r\n")
    client = RedisClient(parse(f"redis://127.0.0.1:{server.port}"), 2.0, REAL, Telemetry())
    with pytest.raises(StoreDown, match="OOM"):
        await client.command(b"HSET", b"used", b"k", b"1")
    assert client.up and client.why == ""
    client.close()
