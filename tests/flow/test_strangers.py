"""What one client can cost: slow bodies, slow readers, many connections, many requests. The others
are served meanwhile."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.core.telemetry import background_failures
from tests.certificates import Authority
from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams
from tests.origin import Origin, answer
from tests.until import until

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def refused(gateway, reason: str) -> float:
    return gateway.telemetry.connections_refused.get((reason,))


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 100000\r\n", b"Transfer-Encoding: chunked\r\n"],
    ids=["length", "chunked"],
)
async def test_a_body_that_does_not_get_on_is_answered_408(start, origin, connect, framing):
    gateway = await start(PLAIN, upstreams(origin), '[server]\nbody_timeout = "400ms"\n')
    slow, other = await connect(gateway), await connect(gateway)
    await slow.send(POST + framing + b"\r\n5\r\nhello\r\n")
    dripping = asyncio.create_task(drip(slow))
    reply = await slow.read()
    assert (reply.status, reply.fields["connection"], reply.fields["x-error-code"]) == (
        408,
        "close",
        "VAL_008",
    )
    assert (await other.get("/")).status == 200
    dripping.cancel()
    assert await slow.at_end()
    await asyncio.wait_for(origin.aborted.wait(), 20)
    assert refused(gateway, "body_timeout") == 1


async def drip(client: Client) -> None:
    """A byte now and then, as slowloris does it."""
    while True:
        await asyncio.sleep(0.05)
        try:
            await client.send(b"1")
        except ConnectionError:
            return


async def test_a_body_that_gets_on_may_take_its_time(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), '[server]\nbody_timeout = "1s"\n')
    client = await connect(gateway)
    await client.send(POST + b"Content-Length: 20000\r\n\r\n")
    for _ in range(25):
        await client.send(b"x" * 800)
        await asyncio.sleep(0.05)
    assert (await client.read()).status == 200
    assert (await client.get("/", method="POST", body=b"x")).status == 200


async def test_nobody_is_slow_while_the_upstream_is(start, connect):
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(origin, head, reader, writer):
        asked.set()
        await go.wait()
        writer.write(answer(b"done"))
        await writer.drain()
        return False

    origin = await Origin(slow, read_body=False).start()
    try:
        gateway = await start(PLAIN, upstreams(origin), '[server]\nbody_timeout = "200ms"\n')
        client = await connect(gateway)
        # More than the sockets between hold: the gateway reads no further than the upstream takes.
        client.writer.write(POST + b"Content-Length: 50000000\r\n\r\n" + b"x" * 50_000_000)
        await asked.wait()
        await asyncio.sleep(0.8)
        go.set()
        assert (await client.read()).status == 200
    finally:
        await origin.stop()


@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
async def test_a_client_that_does_not_read_is_closed(start, connect, length):
    size, gone = 2**20, asyncio.Event()

    async def endless(origin, head, reader, writer):
        try:
            writer.write(
                b"HTTP/1.1 200 OK\r\n"
                + (b"Content-Length: 1000000000\r\n\r\n" if length else b"\r\n")
            )
            for _ in range(1000):
                writer.write(b"x" * size)
                await writer.drain()
        except ConnectionError:
            gone.set()
        return False

    origin = await Origin(endless).start()
    try:
        gateway = await start(PLAIN, upstreams(origin), '[server]\nwrite_timeout = "500ms"\n')
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", gateway.port))
        deaf = Client(*await asyncio.open_connection(sock=raw, limit=1024))
        await deaf.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(gone.wait(), 20)
        assert refused(gateway, "write_timeout") == 1
        deaf.close()
    finally:
        await origin.stop()


async def test_over_tls_likewise(start, connect, tmp_path):
    gone = asyncio.Event()

    async def endless(origin, head, reader, writer):
        try:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x" * 2**20)
                await writer.drain()
        except ConnectionError:
            gone.set()
        return False

    authority = Authority(tmp_path)
    authority.issue("edge", "gateway.test")
    origin = await Origin(endless).start()
    try:
        text = (
            '[server]\nwrite_timeout = "500ms"\n[listen]\nport = 0\ntls = { certificate = '
            '"edge.pem", key = "edge.key" }\n'
        )
        gateway = await start(PLAIN, upstreams(origin), text)
        deaf = await connect(gateway, authority.trusting())
        await deaf.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        deaf.writer.transport.pause_reading()
        await asyncio.wait_for(gone.wait(), 20)
        assert refused(gateway, "write_timeout") == 1
        deaf.writer.transport.abort()
    finally:
        await origin.stop()


async def test_a_client_that_reads_slowly_is_not(start, connect):
    origin = await Origin(answer(b"x" * 3_000_000)).start()
    try:
        gateway = await start(PLAIN, upstreams(origin), '[server]\nwrite_timeout = "500ms"\n')
        client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=2**16))
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        _, _, fields = await client.head()
        got = 0
        while got < 3_000_000:
            got += len(await client.reader.read(200_000))
            await asyncio.sleep(0.03)
        assert fields["content-length"] == "3000000"
        assert refused(gateway, "write_timeout") == 0
        client.close()
    finally:
        await origin.stop()


async def test_ordinary_requests_beside_idle_and_slow_clients(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), '[server]\nheader_timeout = "700ms"\n')
    idle = []
    for _ in range(200):
        idle.append(await connect(gateway))
        assert (await idle[-1].get("/")).status == 200
    slow = [await connect(gateway) for _ in range(50)]
    for client in slow:
        await client.send(b"GET / HTTP/1.1\r\nHost:")
    ordinary = await connect(gateway)
    async with asyncio.timeout(20):
        while refused(gateway, "header_timeout") < len(slow):
            assert (await ordinary.get("/")).status == 200
    assert [(await client.read()).status for client in slow] == [408] * len(slow)
    assert [(await client.get("/")).status for client in idle] == [200] * len(idle)


async def test_an_error_in_a_sweep_does_not_end_the_deadlines(start, origin, connect, monkeypatch):
    gateway = await start(PLAIN, upstreams(origin), '[server]\nheader_timeout = "300ms"\n')
    before = background_failures.get(("client_deadlines",))
    monkeypatch.setattr(
        gateway.plane.listeners[0]._deadlines, "sweep", lambda connections, now: 1 / 0
    )
    await until(lambda: background_failures.get(("client_deadlines",)) > before + 1)
    monkeypatch.undo()
    slow = await connect(gateway)
    await slow.send(b"GET / HTTP/1.1\r\nHost:")
    assert (await slow.read()).status == 408


async def test_connections_in_all(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), "[server]\nmax_connections = 2\n")
    first, second = await connect(gateway), await connect(gateway)
    assert (await first.get("/")).status == (await second.get("/")).status == 200
    third = await connect(gateway)
    reply = await third.read()
    assert (reply.status, reply.fields["retry-after"], reply.fields["connection"]) == (
        503,
        "1",
        "close",
    )
    assert reply.fields["x-error-code"] == "SVC_001"
    assert await third.at_end()
    assert (await first.get("/")).status == 200
    first.close()
    await first.writer.wait_closed()

    async def admitted() -> bool:
        return (await (await connect(gateway)).get("/")).status == 200

    await until(admitted)
    assert refused(gateway, "max_connections") >= 1


async def test_connections_of_one_address(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), "[server]\nmax_connections_per_ip = 1\n")
    first = await connect(gateway)
    assert (await first.get("/")).status == 200
    second = await connect(gateway)
    reply = await second.read()
    assert (reply.status, reply.fields["retry-after"], reply.fields["connection"]) == (
        429,
        "1",
        "close",
    )
    assert refused(gateway, "max_connections_per_ip") == 1
    assert await second.at_end()
    first.close()


async def test_trusted_proxies_may_have_many(start, origin, connect):
    text = '[server]\nmax_connections_per_ip = 1\ntrusted_proxies = ["127.0.0.1"]\n'
    gateway = await start(PLAIN, upstreams(origin), text)
    for _ in range(3):
        assert (await (await connect(gateway)).get("/")).status == 200


async def test_the_last_request_of_a_connection_says_so(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), "[server]\nmax_requests_per_connection = 3\n")
    client = await connect(gateway)
    for method, body in (("GET", None), ("POST", b"x")):
        reply = await client.get("/", method=method, body=body)
        assert reply.status == 200 and "connection" not in reply.fields
    assert (await client.get("/")).fields["connection"] == "close"
    assert await client.at_end()
    client = await connect(gateway)
    for method in ("GET", "GET", "POST"):
        reply = await client.get("/", method=method, body=b"x" if method == "POST" else None)
    assert reply.fields["connection"] == "close" and await client.at_end()


async def test_limits_change_with_a_reload(start, origin, connect, tmp_path):
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    assert (await client.get("/")).status == 200
    text = (tmp_path / "gateway.toml").read_text()
    (tmp_path / "gateway.toml").write_text(
        "[server]\nmax_requests_per_connection = 1\nmax_connections = 1\n" + text
    )
    assert (await gateway.reload()).ok
    assert (await (await connect(gateway)).read()).status == 503
    assert (await client.get("/")).fields["connection"] == "close"


async def test_open_connections_are_counted(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin))
    clients = [await connect(gateway) for _ in range(3)]
    for client in clients:
        assert (await client.get("/")).status == 200
    await until(lambda: gateway.telemetry.connections.get(("data",)) == 3)
    for client in clients:
        client.close()
    await until(lambda: not gateway.telemetry.connections.get(("data",)))
