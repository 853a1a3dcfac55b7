"""WebSockets: every way a tunnel can end."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams
from tests.flow.test_websocket_handshake import REFUSES
from tests.flow.tunnels import LOOPS as LOOPS
from tests.flow.tunnels import MASK, flood, over, reset, stuck, tunnels
from tests.origin import answer
from tests.until import until
from tests.websocket import (
    CLOSE,
    PING,
    close,
    echo,
    frame,
    handshake,
    open_tunnel,
    read_frame,
    speaks,
    switching,
)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Without its two sides a tunnel would not end in the time that a test has."""
    monkeypatch.setattr("gateway.serving.tunnel.CLOSING", 60.0)


async def test_a_reset_by_the_endpoint_reaches_the_client(start, origin_of, connect):
    async def talk(reader, writer):
        await read_frame(reader)
        reset(writer)

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    await client.send(frame(b"?", mask=MASK))
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(client.reader.read(), 20)
    await over(gateway)


async def test_a_reset_by_the_client_reaches_the_endpoint(start, origin_of, connect):
    got = asyncio.get_running_loop().create_future()

    async def talk(reader, writer):
        try:
            await reader.read()
        except ConnectionResetError as error:
            got.set_result(error)
            raise

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    reset(client.writer)
    await asyncio.wait_for(got, 20)
    await over(gateway)


async def test_a_close_frame_before_a_reset_arrives(start, origin_of, connect):
    async def talk(reader, writer):
        writer.write(close(1011))
        await writer.drain()
        await read_frame(reader)  # The client answers; what it says behind that is never read.
        reset(writer)

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    await client.send(close(1011, MASK))
    assert (await read_frame(client.reader)).code == 1011
    assert await asyncio.wait_for(client.reader.read(), 20) == b"", "closed, not reset"
    client.close()
    await over(gateway)


async def test_half_closed_is_half_closed_on_the_other_side(start, origin_of, connect):
    async def talk(reader, writer):
        whole = await reader.read()
        writer.write(frame(whole))

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    await client.send(b"abc")
    client.writer.write_eof()
    assert (await read_frame(client.reader)).payload == b"abc"
    assert await client.at_end()
    await over(gateway)


async def test_an_endpoint_that_closes_without_a_word(start, origin_of, connect):
    async def talk(reader, writer):
        writer.write(b"x" * 300_000)

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    assert await client.reader.readexactly(300_000) == b"x" * 300_000
    assert await client.at_end()
    client.close()
    await over(gateway)


async def test_an_endpoint_that_is_lost_before_the_tunnel_stands(start, echoing, connect):
    gateway = await start(REFUSES, upstreams(echoing))
    client = await connect(gateway)
    await open_tunnel(client, "/loses")
    assert await client.at_end()
    client.close()
    await over(gateway)


async def test_a_client_behind_with_its_answers_gets_the_tunnel_after_them(start, origin_of):
    sent = [0]

    async def respond(origin, head, reader, writer):
        if b"upgrade" in head.lower():
            writer.write(switching(head))
            await flood(writer, sent)
            await echo(reader, writer)
            return False
        writer.write(answer(b"x" * 60_000))
        return True

    origin = await origin_of(respond)
    gateway = await start(PLAIN, upstreams(origin))
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=1000))
    requests = 200
    sending = asyncio.create_task(
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * requests + handshake())
    )
    behind = 4
    for _ in range(requests - behind):
        assert len((await client.read()).body) == 60_000
    await until(lambda: len(origin.heads) == requests + 1)
    assert await stuck(sent) < 30_000_000
    for _ in range(behind):
        assert len((await client.read()).body) == 60_000
    await sending
    assert (await client.head())[0] == 101
    for _ in range(500):
        assert len((await read_frame(client.reader)).payload) == 100_000
    await client.send(frame(b"last", mask=MASK))
    assert (await read_frame(client.reader)).payload == b"last"
    client.close()
    await over(gateway)


async def test_an_endpoint_that_is_gone_before_the_tunnel_stands(start, origin_of, connect):
    async def respond(origin, head, reader, writer):
        writer.write(switching(head) + frame(b"bye"))
        await writer.drain()
        reset(writer)
        return False

    gateway = await start(PLAIN, upstreams(await origin_of(respond)))
    client = await connect(gateway)
    await client.send(handshake())
    try:
        assert (await client.head())[0] in (101, 502)
        await asyncio.wait_for(client.reader.read(), 20)
    except (ConnectionResetError, asyncio.IncompleteReadError):
        pass  # All of it is possible, as it would be without a gateway.
    client.close()
    await over(gateway)


@pytest.fixture
def watched(monkeypatch):
    """Tunnels are looked at more often than once a second."""
    monkeypatch.setattr("gateway.serving.tunnel.SWEEP", 0.05)
    monkeypatch.setattr("gateway.serving.net.listener.SWEEP", 0.05)


async def test_an_idle_tunnel_is_closed_politely(start, tmp_path, origin_of, connect, watched):
    said = asyncio.get_running_loop().create_future()

    async def talk(reader, writer):
        said.set_result(await read_frame(reader))
        writer.write(close(1001))

    pipeline = f'response = ["logging"]\n[logging]\nfile = "../log"\n{PLAIN}'
    gateway = await start(
        pipeline, upstreams(await origin_of(speaks(talk)), more='timeouts = { tunnel = "200ms" }\n')
    )
    client = await connect(gateway)
    await open_tunnel(client)
    got = await read_frame(client.reader)
    assert (got.opcode, got.code, got.masked) == (CLOSE, 1001, False)
    got = await said
    assert (got.opcode, got.code, got.masked) == (CLOSE, 1001, True)
    await client.send(close(1001, MASK))
    assert await client.at_end()
    client.close()
    await over(gateway)
    await until(lambda: (tmp_path / "log").stat().st_size > 0)
    assert json.loads((tmp_path / "log").read_text())["reason"] == "idle_timeout"


async def test_a_tunnel_in_use_is_not_idle(start, echoing, connect, watched):
    gateway = await start(PLAIN, upstreams(echoing, more='timeouts = { tunnel = "1s" }\n'))
    client = await connect(gateway)
    await open_tunnel(client)
    for _ in range(25):
        await client.send(frame(b"", PING, mask=MASK))
        assert (await read_frame(client.reader)).opcode == PING
        await asyncio.sleep(0.05)
    assert len(tunnels(gateway)) == 1


async def test_one_sides_silence_ends_it_in_the_end(
    start, origin_of, connect, watched, monkeypatch
):
    async def talk(reader, writer):
        await reader.read()

    monkeypatch.setattr("gateway.serving.tunnel.CLOSING", 0.2)
    gateway = await start(
        PLAIN, upstreams(await origin_of(speaks(talk)), more='timeouts = { tunnel = "200ms" }\n')
    )
    client = await connect(gateway)
    await open_tunnel(client)
    assert (await read_frame(client.reader)).code == 1001
    assert await client.at_end(), "although it has not answered"
    client.close()
    await over(gateway)


async def test_both_sides_are_told_and_answer(start, origin_of, connect):
    said = asyncio.get_running_loop().create_future()

    async def talk(reader, writer):
        await echo(reader, writer)
        said.set_result(await reader.read())

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    closing = asyncio.create_task(gateway.close())
    got = await read_frame(client.reader)
    assert (got.opcode, got.code) == (CLOSE, 1001)
    await client.send(frame(b"too late", mask=MASK) + close(1001, MASK))
    assert await client.at_end(), "the server closes first (RFC 6455 section 7.1.1)"
    client.close()
    assert await said == b"", "nothing behind the gateway's Close frame"
    await asyncio.wait_for(closing, 20)


@pytest.mark.parametrize("cut", [1, 3, 8, 9, 5000])
async def test_a_frame_that_is_passing_is_completed_first(start, origin_of, connect, cut):
    whole, more = frame(b"x" * 70_000), asyncio.Event()

    async def talk(reader, writer):
        writer.write(frame(b"first") + whole[:cut])
        await more.wait()
        writer.write(whole[cut:] + frame(b"never seen"))
        await echo(reader, writer)

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    assert (await read_frame(client.reader)).payload == b"first"
    assert await client.reader.readexactly(cut) == whole[:cut]
    closing = asyncio.create_task(gateway.close())
    await until(lambda: gateway._draining)
    more.set()
    assert await client.reader.readexactly(len(whole) - cut) == whole[cut:]
    assert (await read_frame(client.reader)).code == 1001
    await client.send(close(1001, MASK))
    assert await client.at_end()
    client.close()
    await asyncio.wait_for(closing, 20)


async def test_a_clients_frame_that_is_passing_is_completed_too(start, origin_of, connect):
    got = []

    async def talk(reader, writer):
        while True:
            got.append(await read_frame(reader))
            if got[-1].opcode == CLOSE:
                writer.write(close(1001))
                return

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    whole = frame(b"y" * 300, mask=MASK)
    await client.send(whole[:7])
    await until(lambda: [one.client.count for one in tunnels(gateway)._live] == [7])
    closing = asyncio.create_task(gateway.close())
    assert (await read_frame(client.reader)).code == 1001
    await client.send(whole[7:] + close(1001, MASK))
    assert await client.at_end()
    client.close()
    await asyncio.wait_for(closing, 20)
    assert [(one.opcode, len(one.payload)) for one in got] == [(2, 300), (CLOSE, 2)]


async def test_two_that_are_closing_already_are_left_to_it(start, origin_of, connect):
    go = asyncio.Event()

    async def talk(reader, writer):
        assert (await read_frame(reader)).code == 3000
        await go.wait()
        writer.write(close(3001))

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    await client.send(close(3000, MASK))
    await until(lambda: [one.client.frames.closed for one in tunnels(gateway)._live] == [True])
    closing = asyncio.create_task(gateway.close())
    await until(lambda: gateway._draining)
    go.set()
    assert (await read_frame(client.reader)).code == 3001
    assert await client.at_end()
    client.close()
    await asyncio.wait_for(closing, 20)


async def test_a_side_that_was_told_and_hangs_up_does_not_end_the_other(start, origin_of, connect):
    async def talk(reader, writer):
        assert (await read_frame(reader)).code == 1001

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    closing = asyncio.create_task(gateway.close())
    assert (await read_frame(client.reader)).code == 1001
    await until(lambda: [one.upstream.lost for one in tunnels(gateway)._live] == [True])
    assert not closing.done()
    await client.send(close(1001, MASK))
    assert await client.at_end()
    client.close()
    await asyncio.wait_for(closing, 20)


async def test_a_client_that_reads_nothing_does_not_hold_the_end_up(start, origin_of):
    sent = [0]

    async def talk(reader, writer):
        await flood(writer, sent)

    gateway = await start(
        PLAIN, upstreams(await origin_of(speaks(talk))), '[server]\nshutdown_timeout = "300ms"\n'
    )
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=1000))
    await open_tunnel(client)
    await stuck(sent)
    await asyncio.wait_for(gateway.close(), 20)
    assert gateway.runtime.snapshot.pools["origin"].tunnels == 0
    client.close()


async def test_a_handshake_under_way_when_it_stops_ends_as_one(start, origin_of, connect):
    asked, go = asyncio.Event(), asyncio.Event()

    async def respond(origin, head, reader, writer):
        asked.set()
        await go.wait()
        return await speaks(echo)(origin, head, reader, writer)

    gateway = await start(PLAIN, upstreams(await origin_of(respond)))
    client = await connect(gateway)
    await client.send(handshake())
    await asked.wait()
    closing = asyncio.create_task(gateway.close())
    await until(lambda: gateway._draining)
    go.set()
    assert (await client.head())[0] == 101
    assert (await read_frame(client.reader)).code == 1001
    await client.send(close(1001, MASK))
    assert await client.at_end()
    client.close()
    await asyncio.wait_for(closing, 20)
