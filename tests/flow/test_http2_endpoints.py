"""Endpoints over HTTP/2, asked by clients of HTTP/1.1: messages, shared connections, flow control,
resets and GOAWAY."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import h2.errors
import h2.settings
import pytest
import uvloop

from gateway.upstream.connections.http2 import connection, socket
from tests.certificates import Authority
from tests.flow.conftest import PLAIN, write
from tests.flow.tunnels import MASK
from tests.http2_origin import Http2Origin, Request, Respond, ok
from tests.origin import Origin
from tests.until import until
from tests.websocket import frame, open_tunnel, read_frame

LOOPS = {"uvloop": uvloop.new_event_loop}
"""What the gateway runs on; its transports differ from asyncio's in what they do once closed."""
Make = Callable[..., Awaitable[Http2Origin]]
CODES = h2.errors.ErrorCodes


def upstreams(origin: Http2Origin | Origin, more: str = "", protocol: str = "h2c") -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\nprotocol = "{protocol}"\n{more}\n'


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """`await make(respond, settings=...)`: an HTTP/2 origin."""
    made: list[Http2Origin] = []

    async def one(
        respond: Respond = ok, tls: ssl.SSLContext | None = None, **facts: object
    ) -> Http2Origin:
        made.append(await Http2Origin(respond, **facts).start(tls))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for origin in made:
        await origin.stop()


async def test_a_request_in_the_words_of_http2(start, connect, make):
    origin = await make()
    client = await connect(await start(PLAIN, upstreams(origin, "preserve_host = false")))
    lines = "Connection: X-Hop, TE\r\nTE: trailers\r\nX-Hop: 1\r\nX-Own: Mixed\r\nCookie: a=b\r\n"
    await client.send(f"GET /path?q=1 HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    message = await client.read()
    assert (message.status, message.body) == (200, b"ok")
    assert "via" in message.fields and "2.0" in message.fields["via"]
    (request,) = origin.requests
    fields = request.fields
    assert request.pairs[:4] == [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", f"127.0.0.1:{origin.port}"),
        (":path", "/path?q=1"),
    ]
    assert fields["x-own"] == "Mixed" and fields["cookie"] == "a=b" and fields["te"] == "trailers"
    assert fields["x-forwarded-for"] == "127.0.0.1" and fields["x-request-id"]
    assert not {"host", "connection", "x-hop", "transfer-encoding"} & fields.keys()


@pytest.mark.modes
async def test_bodies_both_ways(start, connect, make):
    async def echo(request: Request) -> None:
        body = await request.body()
        await request.answer(body, fields=[("x-length", request.fields.get("content-length", ""))])

    origin = await make(echo)
    client = await connect(await start(PLAIN, upstreams(origin)))
    whole = b"a" * 1000
    long = bytes(range(256)) * 4096
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + whole)
    message = await client.read()
    assert message.body == whole and message.fields["x-length"] == "1000"
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(long)}\r\n\r\n".encode()
    sending = asyncio.ensure_future(client.send(head + long))
    message = await client.read()
    await sending
    assert message.body == long
    await client.send(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    )
    message = await client.read()
    assert message.body == b"hello world" and message.fields["x-length"] == ""
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert (await client.read()).body == b""
    assert len(origin.connections) == 1


async def test_answers_without_a_body_and_without_a_length(start, connect, make):
    async def respond(request: Request) -> None:
        path = request.fields[":path"]
        if path == "/stream":
            request.head()
            await request.data(b"one")
            await request.data(b"two", end=True)
        elif path == "/204":
            request.head(204, end=True)
        elif path == "/304":
            request.head(304, [("etag", '"a"'), ("content-length", "7")], end=True)
        else:
            request.head(200, [("content-length", "7")], end=True)

    client = await connect(await start(PLAIN, upstreams(await make(respond))))
    message = await client.get("/stream")
    assert message.body == b"onetwo" and message.whole
    assert (await client.get("/204")).status == 204
    assert (await client.get("/304")).fields["etag"] == '"a"'
    await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.read("HEAD")).fields["content-length"] == "7"
    assert (await client.get("/204")).status == 204


async def test_interim_answers_and_trailers(start, connect, make):
    async def respond(request: Request) -> None:
        request.head(103, [("link", "</style.css>")])
        request.head(200)
        await request.data(b"body")
        request.finish([("x-checksum", "1"), ("x-more", "2")])

    client = await connect(await start(PLAIN, upstreams(await make(respond))))
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: TE\r\nTE: trailers\r\n\r\n")
    status, _, fields = await client.head()
    assert (status, fields["link"]) == (103, "</style.css>")
    status, _, fields = await client.head()
    assert status == 200 and fields["transfer-encoding"] == "chunked"
    rest = await client.reader.readuntil(b"\r\n\r\n")
    assert rest.startswith(b"4\r\nbody\r\n0\r\n") and b"x-checksum: 1\r\n" in rest


async def test_requests_share_a_connection_as_far_as_the_endpoint_lets_them(start, connect, make):
    most = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 3}
    go = asyncio.Event()

    async def respond(request: Request) -> None:
        await go.wait()
        await request.answer()

    origin = await make(respond, settings=most)
    gateway = await start(PLAIN, upstreams(origin))
    clients = [await connect(gateway) for _ in range(8)]
    waiting = [asyncio.ensure_future(client.get("/")) for client in clients]
    await until(lambda: len(origin.requests) == 8)
    assert len(origin.connections) == 3
    assert all(len(one.requests) <= 3 for one in origin.connections)
    (endpoint,) = gateway.runtime.snapshot.pools["origin"].endpoints
    assert endpoint.in_flight == 8
    go.set()
    assert [(await one).status for one in waiting] == [200] * 8
    assert endpoint.in_flight == 0
    assert (await clients[0].get("/")).status == 200
    assert len(origin.connections) == 3


async def test_an_endpoint_that_takes_no_requests_at_all(start, connect, make):
    most = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 0}
    client = await connect(await start(PLAIN, upstreams(await make(settings=most))))
    assert (await client.get("/")).status == 502


async def test_an_early_answer_ends_the_request(start, connect, make):
    async def respond(request: Request) -> None:
        await request.chunk()
        await request.answer(b"too large", 413)
        request.break_off(CODES.NO_ERROR)

    origin = await make(respond)
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 9000)
    message = await client.read()
    assert (message.status, message.body) == (413, b"too large")


async def test_a_slow_client_slows_its_endpoint_and_no_other_request(start, connect, make):
    """The endpoint is stopped by its stream's window; what it could send stays far below what it
    has to."""
    size, sent = 64 * 2**20, 0

    async def respond(request: Request) -> None:
        nonlocal sent
        if request.fields[":path"] != "/large":
            await request.answer()
            return
        request.head(200, [("content-length", str(size))])
        part = bytes(2**16)
        while sent < size:
            await request.data(part)
            sent += len(part)
        request.finish()

    origin = await make(respond)
    gateway = await start(PLAIN, upstreams(origin))
    slow, other = await connect(gateway), await connect(gateway)
    await slow.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    await slow.head()
    before = -1
    while sent != before:
        before = sent
        for _ in range(10):
            assert (await other.get("/")).body == b"ok"
    assert 0 < sent < size // 2
    assert len(origin.connections) == 1
    slow.close()
    await until(lambda: origin.requests[0].reset == CODES.CANCEL)


async def test_an_endpoint_that_does_not_read_stops_the_client(start, connect, make):
    go = asyncio.Event()

    async def respond(request: Request) -> None:
        if request.fields[":method"] == "POST":
            await go.wait()
        size = len(await request.body())
        await request.answer(str(size).encode())

    origin = await make(respond)
    gateway = await start(PLAIN, upstreams(origin), "[server]\nmax_body = 200000000\n")
    client, other = await connect(gateway), await connect(gateway)
    size = 64 * 2**20
    await client.send(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < size:
            await client.send(bytes(2**16))
            sent += 2**16

    sending = asyncio.ensure_future(send())
    await until(lambda: origin.requests and origin.requests[0]._chunks)
    for _ in range(20):
        assert (await other.get("/")).body == b"0"
    assert sum(len(data) for data, _ in origin.requests[0]._chunks) <= 65535
    assert sent < size // 2
    go.set()
    assert (await client.read()).body == str(size).encode()
    await sending


async def test_the_windows_that_a_long_body_is_given_are_no_flood(
    start, connect, make, monkeypatch
):
    async def respond(request: Request) -> None:
        await request.answer(str(len(await request.body())).encode())

    monkeypatch.setattr(connection, "IDLE_FRAMES", 50)
    size = 8 * 2**20
    client = await connect(await start(PLAIN, upstreams(await make(respond))))
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    sending = asyncio.ensure_future(client.send(head + bytes(size)))
    assert (await client.read()).body == str(size).encode()
    await sending


async def test_a_client_that_leaves_is_a_reset_and_the_connection_stays(start, connect, make):
    async def respond(request: Request) -> None:
        if request.fields[":path"] == "/":
            await request.answer()
        elif request.fields[":path"] == "/begun":
            request.head()
            await request.data(b"part")
            await request.broken_off()

    origin = await make(respond)
    gateway = await start(PLAIN, upstreams(origin))
    for path in ("/silent", "/begun"):
        client = await connect(gateway)
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await until(lambda: origin.requests and origin.requests[-1].fields[":path"] == path)  # noqa: B023
        if path == "/begun":
            await client.head()
        client.close()
        assert await asyncio.wait_for(origin.requests[-1].broken_off(), 10) == CODES.CANCEL
    assert (await (await connect(gateway)).get("/")).status == 200
    assert len(origin.connections) == 1


async def test_clients_that_leave_again_and_again_cost_others_no_connection(
    start, connect, make, monkeypatch
):
    async def respond(request: Request) -> None:
        if request.fields[":path"] == "/wait":
            await go.wait()
        if request.fields[":path"] != "/never":
            await ok(request)

    monkeypatch.setattr(socket, "RESETS", (2, 0))
    go = asyncio.Event()
    origin = await make(respond)
    gateway = await start(PLAIN, upstreams(origin))
    other = await connect(gateway)
    await other.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: len(origin.requests) == 1)
    for number in range(3):
        client = await connect(gateway)
        await client.send(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(origin.requests) == number + 2)  # noqa: B023
        client.close()
        await origin.requests[-1].broken_off()
    assert len(origin.connections) == 1
    assert (await (await connect(gateway)).get("/")).status == 200
    assert len(origin.connections) == 2 and not origin.connections[0].lost.is_set()
    go.set()
    assert (await other.read()).status == 200
    await origin.connections[0].lost.wait()


@pytest.mark.modes
@pytest.mark.parametrize("way", ["refused", "goaway"])
async def test_what_was_not_acted_upon_goes_out_again(start, connect, make, way):
    """A POST too, without any retries configured, on a new connection."""
    refused = False

    async def respond(request: Request) -> None:
        nonlocal refused
        body = await request.body()
        if body == b"again" and not refused:
            refused = True
            if way == "refused":
                request.break_off(CODES.REFUSED_STREAM)
            else:
                request.connection.h2.close_connection(last_stream_id=request.number - 2)
                request.connection.flush()
            return
        await request.answer(body)

    origin = await make(respond)
    client = await connect(await start(PLAIN, upstreams(origin)))
    for body in (b"first", b"again"):
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n" + body)
        message = await client.read()
        assert (message.status, message.body) == (200, body)
    assert len(origin.connections) == 2 and len(origin.requests) == 3


async def test_one_that_refuses_everything_is_not_asked_for_ever(start, connect, make):
    async def respond(request: Request) -> None:
        request.break_off(CODES.REFUSED_STREAM)

    origin = await make(respond)
    client = await connect(await start(PLAIN, upstreams(origin)))
    assert (await client.get("/")).status == 502
    assert len(origin.requests) == 1
    assert (await client.get("/")).status == 502
    assert len(origin.requests) == 3


@pytest.mark.parametrize("kept", [False, True])
async def test_a_body_that_has_been_begun_does_not_go_out_again_without_its_start(
    start, connect, make, kept
):
    """An endpoint may refuse a stream whose body it has read from (RFC 9113 section 8.7)."""

    async def respond(request: Request) -> None:
        if request.fields[":method"] == "POST" and len(bodies) == 0:
            bodies.append(await request.chunk())
            request.break_off(CODES.REFUSED_STREAM)
        else:
            bodies.append(await request.body())
            await request.answer()

    bodies: list[bytes] = []
    origin = await make(respond)
    retries = 'retry = { attempts = 3, on = ["connect"], base_delay = 0.01 }'
    client = await connect(await start(PLAIN, upstreams(origin, retries)))
    if kept:
        assert (await client.get("/")).status == 200
        bodies.clear()
    await client.send(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    )
    assert (await client.head())[0] == 502
    assert bodies == [b"first"]


async def test_goaway_lets_what_goes_on_end(start, connect, make):
    go = asyncio.Event()

    async def respond(request: Request) -> None:
        if request.fields[":path"] == "/slow":
            request.head()
            await go.wait()
            await request.data(b"whole", end=True)
        else:
            await request.answer()

    origin = await make(respond)
    gateway = await start(PLAIN, upstreams(origin))
    slow, other = await connect(gateway), await connect(gateway)
    await slow.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    await slow.head()
    machine = origin.connections[0].h2
    # The first of two: no stream has been refused (RFC 9113 section 6.8).
    origin.connections[0].transport.write(
        b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x00"
    )
    assert machine.open_inbound_streams == 1
    while len(origin.connections) == 1:
        assert (await other.get("/")).status == 200
    go.set()
    assert await slow.reader.readuntil(b"0\r\n\r\n") == b"5\r\nwhole\r\n0\r\n\r\n"
    await asyncio.wait_for(origin.connections[0].lost.wait(), 10)
    assert not origin.connections[1].lost.is_set()


async def test_resets_are_failures(start, connect, make):
    go = asyncio.Event()

    async def respond(request: Request) -> None:
        if request.fields[":path"] == "/within":
            request.head()
            await request.data(b"part")
            await go.wait()
        request.break_off(CODES.INTERNAL_ERROR)

    origin = await make(respond)
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    message = await client.get("/")
    assert message.status == 502
    assert "connection_terminated" in message.fields["proxy-status"]
    await client.send(b"GET /within HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.head())[0] == 200
    go.set()
    assert await client.reader.read() == b"4\r\npart\r\n"
    assert len(origin.connections) == 1


async def test_a_connection_that_is_lost(start, connect, make):
    go = asyncio.Event()

    async def respond(request: Request) -> None:
        if request.fields[":path"] == "/within":
            request.head()
            await request.data(b"part")
            await go.wait()
        if request.fields[":path"] != "/":
            request.connection.transport.abort()
        else:
            await request.answer()

    origin = await make(respond)
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    assert (await client.get("/lost")).status == 502
    # A GET on a kept connection goes out again, and once only.
    assert (await client.get("/")).status == 200
    assert (await client.get("/lost")).status == 502
    assert [one.fields[":path"] for one in origin.requests] == ["/lost", "/", "/lost", "/lost"]
    await client.send(b"GET /within HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.head())[0] == 200
    go.set()
    assert await client.reader.read() == b"4\r\npart\r\n"


async def test_timeouts(start, connect, make):
    async def respond(request: Request) -> None:
        if request.fields[":path"] == "/":
            await request.answer()

    origin = await make(respond)
    gateway = await start(PLAIN, upstreams(origin, 'timeouts = { read = "1s" }'))
    client, other = await connect(gateway), await connect(gateway)
    assert (await client.get("/slow")).status == 504
    assert origin.requests[0].reset == CODES.CANCEL
    assert (await other.get("/")).status == 200
    await until(lambda: sum(one.pings for one in origin.connections) == 1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def serving(authority: Authority, *protocols: str) -> ssl.SSLContext:
    certificate = authority.issue("origin", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    if protocols:
        context.set_alpn_protocols([*protocols])
    return context


TLS = 'tls = { ca = "ca.pem" }'


@pytest.mark.parametrize("protocol", ["h2", "auto"])
async def test_http2_over_tls(start, connect, make, authority, protocol):
    origin = await make(tls=serving(authority, "h2"))
    client = await connect(await start(PLAIN, upstreams(origin, TLS, protocol)))
    for _ in range(2):
        assert (await client.get("/")).body == b"ok"
    assert len(origin.connections) == 1
    assert origin.requests[0].fields[":scheme"] == "https"


@pytest.mark.parametrize("protocols", [("http/1.1",), ()])
@pytest.mark.parametrize(("protocol", "status"), [("auto", 200), ("h2", 502)])
async def test_an_endpoint_that_knows_http1_only(
    start, connect, authority, protocol, status, protocols
):
    origin = await Origin().start(tls=serving(authority, *protocols))
    try:
        gateway = await start(PLAIN, upstreams(origin, TLS, protocol))
        clients = [await connect(gateway) for _ in range(5)]
        for _ in range(2):
            messages = await asyncio.gather(*(client.get("/") for client in clients))
            assert [message.status for message in messages] == [status] * 5
        assert len(origin.heads) == (10 if status == 200 else 0)
    finally:
        await origin.stop()


async def test_clear_text_that_is_no_http2(start, connect):
    origin = await Origin(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        message = await client.get("/")
        assert message.status == 502 and "connection_refused" in message.fields["proxy-status"]
    finally:
        await origin.stop()


async def test_a_unix_socket(start, connect, tmp_path):
    origin = await Http2Origin().start(path=tmp_path / "app.sock")
    try:
        table = f'[upstream.origin]\nurl = "unix:{tmp_path}/app.sock"\nprotocol = "h2c"\n'
        client = await connect(await start(PLAIN, table))
        for _ in range(2):
            assert (await client.get("/")).body == b"ok"
        assert len(origin.connections) == 1
        assert origin.requests[0].fields[":scheme"] == "http"
    finally:
        await origin.stop()


async def test_a_websocket_uses_http1_whatever_the_protocol_is(start, connect, echoing):
    client = await connect(await start(PLAIN, upstreams(echoing)))
    await open_tunnel(client)
    await client.send(frame(b"hello", mask=MASK))
    assert (await read_frame(client.reader)).payload == b"hello"


async def test_a_reload_that_changes_the_protocol(start, connect, make, tmp_path):
    """What goes on ends as it began; what comes then is asked anew."""
    go = asyncio.Event()

    async def respond(request: Request) -> None:
        if request.fields[":path"] == "/slow":
            request.head()
            await go.wait()
        await request.answer() if request.fields[":path"] != "/slow" else request.finish()

    origin, other = await make(respond), await Origin().start()
    try:
        gateway = await start(PLAIN, upstreams(origin))
        slow, client = await connect(gateway), await connect(gateway)
        assert (await client.get("/")).body == b"ok"
        await slow.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await slow.head()
        write(tmp_path, PLAIN, upstreams(origin, protocol="http1"))
        assert (await gateway.reload()).ok
        # It speaks HTTP/2 alone.
        assert (await client.get("/")).status == 502
        write(tmp_path, PLAIN, upstreams(origin))
        assert (await gateway.reload()).ok
        assert (await client.get("/")).body == b"ok"
        go.set()
        assert await slow.reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        await asyncio.wait_for(origin.connections[0].lost.wait(), 10)
        write(tmp_path, PLAIN, upstreams(other, protocol="http1"))
        assert (await gateway.reload()).ok
        assert (await client.get("/")).body == b"ok"
        await asyncio.wait_for(origin.connections[-1].lost.wait(), 10)
    finally:
        await other.stop()


async def test_health_checks_by_http2(start, make):
    async def respond(request: Request) -> None:
        if request.fields[":path"] == "/health":
            await request.answer(b"up", 200 if well else 500)

    well = True
    origin = await make(respond)
    health = 'health = { interval = "50ms", timeout = "50s", unhealthy_threshold = 1 }'
    gateway = await start(PLAIN, upstreams(origin, health.replace("50s", "30s")))
    pool = gateway.runtime.snapshot.pools["origin"]
    await until(lambda: pool.endpoints[0].health.status == "healthy")
    well = False
    await until(lambda: pool.endpoints[0].health.status == "unhealthy")
    assert "500" in pool.endpoints[0].health.error
    assert origin.requests[0].fields["user-agent"] == "gateway-health"
    await until(lambda: origin.connections[0].lost.is_set())
