"""Clients that leave: noticed at once, wherever their request is; and those that only stop sending,
who are waited for."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from tests.certificates import Authority
from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.origin import Origin, fields_of
from tests.until import until

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

PATIENT = '\n[upstream.origin.timeouts]\nread = "300s"\nwrite = "300s"\n'
LOGGED = (
    'request = ["logging"]\nerror = ["logging"]\nresponse = ["logging"]\n[logging]\nfile = "{}"\n'
)
GET = b"GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: gateway.test\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 50000000\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = EVENTS + b"Transfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n"
LENGTH = EVENTS + b"Content-Length: 500000\r\n\r\ndata:"
TO_THE_END = EVENTS + b"\r\ndata:"


@pytest.fixture
def quiet(origin_of):
    """An upstream that says this, and then nothing until its client has left."""

    async def one(said: bytes, *, read_body: bool = True) -> tuple[Origin, asyncio.Event]:
        left = asyncio.Event()

        async def respond(origin, head, reader, writer):
            writer.write(said)
            try:
                await reader.read() if read_body else await writer.wait_closed()
            except ConnectionError:
                pass
            left.set()
            return False

        origin = await origin_of(respond)
        origin.read_body = read_body
        return origin, left

    return one


def upstream(origin: Origin, more: str = "") -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\n{more}{PATIENT}'


async def released(gateway) -> None:
    """Nothing of the request is left."""
    listener, snapshot = gateway.plane.listeners[0], gateway.runtime.snapshot
    await until(lambda: not listener.connections)
    await until(lambda: snapshot.active == 0)
    (pool,) = snapshot.pools.values()
    assert [endpoint.in_flight for endpoint in pool.endpoints] == [0] * len(pool.endpoints)
    assert gateway.telemetry.in_flight.get() == 0


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        pytest.param(GET, b"", id="before the answer"),
        pytest.param(GET + GET, b"", id="with another request behind it"),
        pytest.param(OLD, b"", id="before the answer, HTTP/1.0"),
        pytest.param(GET, CHUNKED, id="within a chunked answer"),
        pytest.param(GET, LENGTH, id="within an answer of known length"),
        pytest.param(GET, TO_THE_END, id="within an answer that ends with its connection"),
        pytest.param(OLD, CHUNKED, id="within an answer to HTTP/1.0"),
    ],
)
async def test_a_client_that_leaves_is_noticed(start, quiet, connect, tmp_path, sent, said):
    origin, left = await quiet(said)
    log = tmp_path / "access.log"
    gateway = await start(LOGGED.format(log) + PLAIN, upstream(origin))
    client = await connect(gateway)
    await client.send(sent)
    await until(lambda: origin.heads)
    if said:
        await asyncio.wait_for(client.reader.readuntil(b"data:"), 10)
    client.close()
    await asyncio.wait_for(left.wait(), 10)
    await released(gateway)
    await until(lambda: log.exists() and '"reason":"client_gone"' in log.read_text())


async def test_over_tls(start, quiet, connect, tmp_path):
    authority = Authority(tmp_path)
    certificate = authority.issue("server", "gateway.test")
    origin, left = await quiet(CHUNKED)
    gateway = await start(
        PLAIN,
        upstream(origin),
        f'[listen]\nport = 0\n[listen.tls]\ncertificate = "{certificate}"\n'
        f'key = "{certificate.with_suffix(".key")}"\n',
    )
    client = await connect(gateway, authority.trusting())
    await client.send(GET)
    await client.reader.readuntil(b"data:")
    client.writer.transport.abort()
    await asyncio.wait_for(left.wait(), 10)
    await released(gateway)


async def test_over_a_unix_socket(start, quiet, tmp_path):
    path = tmp_path / "gateway.sock"
    origin, left = await quiet(CHUNKED)
    gateway = await start(PLAIN, upstream(origin), f'[listen]\naddresses = ["unix:{path}"]')
    client = Client(*await asyncio.open_unix_connection(path))
    await client.send(GET)
    await client.reader.readuntil(b"data:")
    client.close()
    await asyncio.wait_for(left.wait(), 10)
    await released(gateway)


async def test_in_the_queue_of_an_upstream(start, quiet, connect):
    origin, left = await quiet(CHUNKED)
    more = 'queue = { size = 10, timeout = "300s" }\n'
    text = upstream(origin, more).replace(f'url = "{origin.url}"', "endpoints = [{ url = "
                                          f'"{origin.url}", max_connections = 1 }}]')  # fmt: skip
    gateway = await start(PLAIN, text)
    first, second, third = [await connect(gateway) for _ in range(3)]
    await first.send(GET)
    await first.reader.readuntil(b"data:")
    for one in (second, third):
        await one.send(GET)
    (pool,) = gateway.runtime.snapshot.pools.values()
    await until(lambda: pool.status()["waiting"] == 2)
    second.close()
    await until(lambda: pool.status()["waiting"] == 1)
    first.close()
    await asyncio.wait_for(left.wait(), 10)
    await third.reader.readuntil(b"data:")
    third.close()
    await released(gateway)


@pytest.mark.parametrize("said", [b"", CHUNKED, LENGTH], ids=["before", "chunked", "length"])
async def test_while_its_body_is_not_read(start, quiet, connect, said):
    """Its FIN is behind what is not read."""
    origin, _ = await quiet(said, read_body=False)
    gateway = await start(PLAIN, upstream(origin))
    client = await connect(gateway)
    await client.send(UPLOAD)
    await until(lambda: origin.heads)
    if said:
        await asyncio.wait_for(client.reader.readuntil(b"data:"), 10)
    (connection,) = gateway.plane.listeners[0].connections

    async def held() -> bool:
        await client.send(bytes(64 * 1024))
        return bool(connection.holds)

    await until(held)
    client.close()
    await released(gateway)


@pytest.mark.parametrize("said", [CHUNKED, TO_THE_END], ids=["chunked", "to the end"])
async def test_a_client_that_only_stops_sending_gets_the_rest(start, origin_of, connect, said):
    go = asyncio.Event()

    async def respond(origin, head, reader, writer):
        writer.write(said)
        await go.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n" if b"chunked" in said else b"second")
        return b"chunked" in said

    gateway = await start(PLAIN, upstream(await origin_of(respond)))
    client = await connect(gateway)
    await client.send(GET)
    client.writer.write_eof()
    head = await client.reader.readuntil(b"data:\r\n")
    assert fields_of(head)["transfer-encoding"] == "chunked"
    # The first digit of the next chunk's size: to one that has left it would bring a reset.
    assert await asyncio.wait_for(client.reader.readexactly(1), 10) == b"0"
    go.set()
    size, *rest = (await client.reader.read()).split(b"\r\n")
    assert (int(size, 16), rest) == (6, [b"second", b"0", b"", b""])
    await released(gateway)


async def test_peers_that_vanish_are_asked_for_by_the_kernel(start, origin, connect):
    gateway = await start(PLAIN, upstream(origin))
    client = await connect(gateway)
    await client.get("/")
    (connection,) = gateway.plane.listeners[0].connections
    raw = connection.transport.get_extra_info("socket")
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
