"""What rarely happens to a Redis store, on a server that says what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import hiredis
import pytest

from gateway.core.clock import REAL
from gateway.core.telemetry import Telemetry
from gateway.store.redis import server as redis_way
from gateway.store.redis import store as redis_store
from gateway.store.redis import topology as redis_places
from gateway.store.redis.link import Ask, Pipe
from gateway.store.redis.store import RedisStore
from gateway.store.redis.topology import slots_of
from gateway.store.stores import StoreDown, parse

OK = b"+OK\r\n"
Reply = Callable[[list[bytes]], bytes | None]


class Fake:
    """A server: `reply` gives the bytes for a command, None closes the connection."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[list[bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    self.asked.append(command)
                    answer = self.reply(command)
                    if answer is None:
                        return
                    writer.write(answer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def fake() -> AsyncIterator[Callable[[Reply], Any]]:
    servers: list[asyncio.Server] = []

    async def start(reply: Reply) -> Fake:
        one = Fake(reply)
        servers.append(await asyncio.start_server(one.serve, "127.0.0.1", 0))
        one.port = servers[-1].sockets[0].getsockname()[1]
        return one

    yield start
    for server in servers:
        server.close()


def usual(take: bytes = b"*2\r\n:1\r\n:2\r\n") -> Reply:
    """What a healthy server says, and to the limits' script `take`."""

    def reply(command: list[bytes]) -> bytes:
        if command[0] == b"EVAL" and b"gateway:alive" in command:
            return b":1\r\n"
        return take if command[0] in (b"EVALSHA", b"EVAL") else OK

    return reply


def made(port: int, scheme: str = "redis", **more: Any) -> RedisStore:
    return RedisStore(parse(f"{scheme}://127.0.0.1:{port}{more.get('path', '')}"), more.get("deadline", 2.0), REAL, Telemetry())


async def down(store: RedisStore) -> None:
    async with asyncio.timeout(5):
        while store.up:
            await asyncio.sleep(0.005)


async def test_the_way_says_how_it_is(fake: Any):
    server = await fake(usual())
    store = made(server.port)
    assert "up" in repr(store) and "Link" in repr(store._one)
    assert await store.ask(b"take", (b"k",), ()) == [1, 2]
    assert "0 waiting" in repr(store._one)
    store.close()
    with pytest.raises(StoreDown, match="closed"):
        await store.ask(b"take", (b"k",), ())


async def test_nothing_is_said_to_a_server_that_is_down():
    store = made(1)
    with pytest.raises(StoreDown, match="cannot connect"):
        await store.ask(b"take", (b"k",), ())
    assert not store.up and "down" in repr(store)
    with pytest.raises(StoreDown, match="is down"):
        await store.ask(b"take", (b"k",), ())
    store.hold(b"slot", b"k", ())
    store.let_go(b"slot", b"k", ())  # nobody to tell; the slot runs out by itself
    assert store._one is not None
    store._one.down("again")
    store.close()


async def test_who_waits_for_a_connection_hears_of_a_close():
    never = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    store = made(never.sockets[0].getsockname()[1], deadline=60.0)
    ask = store.ask(b"take", (b"k",), ())
    store.close()
    with pytest.raises(StoreDown, match="closed"):
        await ask
    never.close()


@pytest.mark.parametrize(("error", "closes"), [(b"-READONLY You can't write\r\n", True), (b"-OOM no room\r\n", False)])
async def test_errors_that_mean_another_server(fake: Any, error: bytes, closes: bool):
    server = await fake(usual(error))
    store = made(server.port)
    with pytest.raises(StoreDown):
        await store.ask(b"take", (b"k",), ())
    assert store.up is not closes
    store.close()


async def test_a_script_that_stays_unknown_is_an_error(fake: Any):
    server = await fake(usual(b"-NOSCRIPT gone\r\n"))
    store = made(server.port)
    with pytest.raises(StoreDown, match="NOSCRIPT"):
        await store.ask(b"take", (b"k",), ())
    assert [command[0] for command in server.asked if b"take" in command] == [b"EVALSHA", b"EVAL", b"EVAL", b"EVAL"]
    store.close()


async def test_what_is_no_redis(fake: Any):
    server = await fake(usual(b"HTTP/1.1 400 Bad Request\r\n"))
    store = made(server.port)
    with pytest.raises(StoreDown):
        await store.ask(b"take", (b"k",), ())
    await down(store)
    store.close()


async def test_a_server_that_closes_while_it_is_greeted(fake: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redis_way, "AGAIN", (0.01, 0.02))
    server = await fake(lambda command: None)
    store = made(server.port)
    with pytest.raises(StoreDown):
        await store.ask(b"take", (b"k",), ())
    await down(store)
    server.reply = usual()
    async with asyncio.timeout(5):
        while not store.up:
            await asyncio.sleep(0.01)
    assert await store.ask(b"take", (b"k",), ()) == [1, 2]
    store.close()


async def test_a_beat_that_is_not_heard_changes_nothing(fake: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redis_store, "BEAT", 0.04)
    beats = 0

    def reply(command: list[bytes]) -> bytes:
        nonlocal beats
        if b"gateway:alive" in command:
            beats += 1
            return b"-BUSY a script runs\r\n" if beats == 2 else b":3\r\n"
        return usual()(command)

    server = await fake(reply)
    store = made(server.port)
    store.hold(b"slot", b"held", (b"x",))
    await store.ask(b"take", (b"k",), ())
    async with asyncio.timeout(5):
        while beats < 12:
            await asyncio.sleep(0.01)
    assert store.gateways == 3 and store.up
    assert [command for command in server.asked if b"held" in command]  # slots are renewed every tenth time
    store.close()


class TestCluster:
    """Answers of a Cluster that are seen only while it changes."""

    @staticmethod
    def slots(port: int) -> bytes:
        return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$0\r\n\r\n:%d\r\n" % port

    async def test_asking_is_for_once(self, fake: Any):
        other = await fake(usual(b"*2\r\n:7\r\n:8\r\n"))

        def reply(command: list[bytes]) -> bytes:
            if command[0] == b"CLUSTER":
                return self.slots(one.port)
            return usual(b"-ASK 1 127.0.0.1:%d\r\n" % other.port)(command)

        one = await fake(reply)
        store = made(one.port, "redis+cluster")
        assert await store.ask(b"take", (b"k",), ()) == [7, 8]
        assert [b"ASKING"] in other.asked
        assert store._slots is not None and store._slots[1] == ("127.0.0.1", one.port)
        store.close()

    async def test_moved_without_a_host_is_the_same_host(self, fake: Any):
        other = await fake(usual(b"*2\r\n:7\r\n:8\r\n"))
        moved = False

        def reply(command: list[bytes]) -> bytes:
            nonlocal moved
            if command[0] == b"CLUSTER":
                return self.slots(other.port if moved else one.port)
            moved = True
            return usual(b"-MOVED 1 :%d\r\n" % other.port)(command)

        one = await fake(reply)
        store = made(one.port, "redis+cluster")
        assert await store.ask(b"take", (b"k",), ()) == [7, 8]
        async with asyncio.timeout(5):  # the map is read again, and who is no longer in it is left
            while ("127.0.0.1", one.port) in store._links:
                await asyncio.sleep(0.01)
        store.close()

    async def test_nobody_is_there(self, caplog: pytest.LogCaptureFixture):
        store = made(1, "redis+cluster")
        with pytest.raises(StoreDown, match="cannot be reached"):
            await store.ask(b"take", (b"k",), ())
        assert "no server of the cluster" in caplog.text
        store.close()

    async def test_nobody_says_anything_soon(self, fake: Any, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(redis_store, "FIRST", 0.02)
        server = await fake(lambda command: b"")
        store = made(server.port, "redis+cluster")
        with pytest.raises(StoreDown, match="not found in time"):
            await store.ask(b"take", (b"k",), ())
        store.close()
        await asyncio.sleep(0)

    async def test_a_map_as_lists(self, fake: Any, monkeypatch: pytest.MonkeyPatch):
        server = await fake(lambda command: OK)
        answer = [[0, 16383, [b"10.0.0.1", 7000, b"id"]]]
        monkeypatch.setattr(redis_places.Redis, "execute_command", lambda *_: answered(answer))
        found = await slots_of(parse(f"redis+cluster://127.0.0.1:{server.port}"), [("127.0.0.1", server.port)])
        assert found == [("10.0.0.1", 7000)] * 16384


async def answered(value: Any) -> Any:
    return value


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


class TestPipe:
    def made(self, deadline: float = 5.0) -> tuple[Pipe, Wire, list[Any]]:
        heard: list[Any] = []
        pipe = Pipe(
            deadline,
            lambda ask, answer: (heard.append(answer), ask.set_result(answer))[0],
            lambda: heard.append("late"),
            lambda pipe: heard.append("lost"),
        )
        return pipe, Wire(), heard

    async def test_what_is_sent_before_there_is_a_connection_goes_out_with_it(self):
        pipe, wire, _ = self.made()
        ask = Ask((b"PING",), b"")
        pipe.send(ask)
        await asyncio.sleep(0)
        assert repr(pipe) == "<Pipe 1 waiting>"
        pipe.connection_made(wire)
        assert wire.written == b"*1\r\n$4\r\nPING\r\n"
        pipe.data_received(b"+PO")
        pipe.data_received(b"NG\r\n")
        assert await ask == b"PONG"

    async def test_a_closed_one_takes_nothing(self):
        pipe, wire, _ = self.made()
        pipe.close()
        pipe.close()
        assert repr(pipe) == "<Pipe 0 waiting closed>"
        pipe.connection_made(wire)
        assert wire.aborted
        ask = Ask((b"PING",), b"")
        pipe.send(ask)
        with pytest.raises(StoreDown, match="closed"):
            await ask
        pipe.connection_lost(None)

    async def test_late_ones_fail_and_their_answers_are_dropped(self):
        pipe, wire, heard = self.made(0.001)
        pipe.connection_made(wire)
        first, second = Ask((b"A",), b""), Ask((b"B",), b"")
        pipe.send(first)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(StoreDown, match="within 1 ms"):
            await first
        pipe.send(second)
        pipe.data_received(b"+late\r\n+soon\r\n")
        assert await second == b"soon" and heard == ["late", b"soon"]
        await asyncio.sleep(0.01)
        assert heard == ["late", b"soon"]

    async def test_a_batch_that_is_answered_within_the_grace(self):
        pipe, wire, heard = self.made()
        pipe.connection_made(wire)
        ask = Ask((b"A",), b"")
        pipe.send(ask)
        await asyncio.sleep(0)
        pipe._due(1)
        pipe.data_received(b"+x\r\n")
        pipe._give_up(1)
        assert heard == [b"x"]
        pipe.send(Ask((b"B",), b""))
        pipe.close()
        await asyncio.sleep(0)  # the flush finds it closed

    async def test_nonsense_ends_it(self):
        pipe, wire, heard = self.made()
        pipe.connection_made(wire)
        ask = Ask((b"A",), b"")
        pipe.send(ask)
        pipe.data_received(b"nonsense\r\n")
        with pytest.raises(StoreDown):
            await ask
        assert wire.aborted and heard == ["lost"]
