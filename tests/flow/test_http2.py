"""HTTP/2 over real sockets: which connections speak it, what crosses to an endpoint and back, and
how it ends."""

from __future__ import annotations

import asyncio
import struct

import pytest

from gateway.protocols.http2.session import PREFACE, ErrorCode, Limits
from tests.certificates import Authority
from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams
from tests.http2 import Http2Client
from tests.origin import answer, fields_of
from tests.until import until
from tests.websocket import close, echo, frame, speaks, switching

LISTEN = "[listen]\nport = 0\nhttp2 = true\n"
MASK = b"\x01\x02\x03\x04"


@pytest.fixture
async def ask():
    """`await ask(gateway)`: a client's connection."""
    clients: list[Http2Client] = []

    async def one(gateway, *tls, **more) -> Http2Client:
        clients.append(await Http2Client.connect(gateway.port, *tls, **more))
        return clients[-1]

    yield one
    for client in clients:
        client.close()


@pytest.fixture
async def gateway(start, origin):
    return await start(PLAIN, upstreams(origin), LISTEN)


async def test_a_request_crosses_and_its_answer_comes_back(gateway, origin, ask):
    origin.respond = answer(b"hello", Content_Type="text/plain", X_Own="1", Connection="x-own")
    client = await ask(gateway)
    got = await client.get("/a?b", (b"x-one", b"1"), (b"cookie", b"a=1"), (b"cookie", b"b=2"))
    assert (got.status, got.body) == (200, b"hello")
    assert got.fields["content-length"] == "5" and "x-own" not in got.fields
    assert got.fields["via"] == "1.1 gateway"
    (head,) = origin.heads
    assert head.startswith(b"GET /a?b HTTP/1.1\r\nHost: gateway.test\r\n")
    fields = fields_of(head)
    assert (fields["x-one"], fields["cookie"], fields["via"]) == ("1", "a=1; b=2", "2.0 gateway")
    assert fields["x-request-id"] == got.fields["x-request-id"]
    assert "connection" not in fields and "transfer-encoding" not in fields


async def test_http1_is_spoken_beside_it(gateway, ask, connect):
    client = await connect(gateway)
    assert [(await client.get("/")).status for _ in range(3)] == [200] * 3
    assert (await (await ask(gateway)).get()).status == 200
    await until(lambda: not gateway.telemetry.in_flight.get())


async def test_without_the_setting_it_is_refused_as_before(start, origin, connect):
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(PREFACE)
    assert (await client.read()).status in (400, 505)


async def test_alpn_chooses_the_version(start, origin, ask, connect, tmp_path):
    authority = Authority(tmp_path)
    authority.issue("edge", "gateway.test", "127.0.0.1")
    tls = 'tls = { certificate = "edge.pem", key = "edge.key" }\n'
    gateway = await start(PLAIN, upstreams(origin), LISTEN + tls)
    client = await ask(gateway, authority.trusting())
    assert (await client.get()).status == 200
    assert fields_of(origin.heads[0])["x-forwarded-proto"] == "https"
    other = authority.trusting()
    other.set_alpn_protocols(["http/1.1"])
    assert (await (await connect(gateway, other)).get("/")).status == 200
    assert (await (await connect(gateway, authority.trusting())).get("/")).status == 200
    client.session.goaway()
    client.flush()
    await client.until(lambda: client.closed)


@pytest.mark.parametrize("length", [True, False])
async def test_bodies_cross_whole(gateway, origin_of, origin, ask, length):
    client = await ask(gateway)
    body = bytes(range(256)) * 4000
    fields = [(b"content-length", b"%d" % len(body))] if length else []
    got = await client.get("/", *fields, body=body)
    assert got.status == 200 and origin.bodies[0] == body
    assert ("content-length" in fields_of(origin.heads[0])) is length


async def test_trailers_cross_both_ways(start, origin_of, ask):
    async def respond(origin, head, reader, writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
            b"2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n"
        )
        return True

    client = await ask(await start(PLAIN, upstreams(await origin_of(respond)), LISTEN))
    got = await client.get("/", (b"te", b"trailers"))
    assert (got.body, got.trailers) == (b"ok", {"x-sum": "2"})
    assert (await client.get("/")).trailers == {}


async def test_streams_do_not_wait_for_each_other(start, origin_of, ask):
    go = asyncio.Event()

    async def respond(origin, head, reader, writer):
        if b"/slow" in head:
            await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True

    client = await ask(await start(PLAIN, upstreams(await origin_of(respond)), LISTEN))
    slow = client.begin("/slow")
    for _ in range(5):
        assert (await client.get("/quick")).status == 200
    assert not client.answers[slow].done
    go.set()
    assert (await client.answer(slow)).status == 200


async def test_a_slow_client_slows_its_endpoint(start, origin_of, ask):
    """What the client does not take stays with the endpoint, however long its answer is."""
    sent = 0

    async def respond(origin, head, reader, writer):
        nonlocal sent
        if b"/quick" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return True
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while sent < 100_000_000:
            writer.write(bytes(100_000))
            sent += 100_000
            await writer.drain()
        return False

    gateway = await start(PLAIN, upstreams(await origin_of(respond)), LISTEN)
    client = await ask(gateway, limits=Limits(window=10_000, connection_window=10**6), reads=False)
    stream = client.begin("/")
    await client.until(lambda: len(client.answers[stream].body) == 10_000)
    assert (await client.get("/quick")).body == b"ok"  # Others are not held up.
    (connection,) = gateway.plane.listeners[0].connections
    assert connection.streams[stream].unsent <= 256 * 1024
    assert sent < 20_000_000  # The sockets' buffers between them.
    client.reset(stream)
    await until(lambda: not gateway.telemetry.in_flight.get())


async def test_a_slow_endpoint_slows_its_client(start, origin_of, ask):
    go = asyncio.Event()

    async def respond(origin, head, reader, writer):
        await go.wait()
        size = 0
        while size < 5_000_000:
            size += len(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return False

    origin = await origin_of(respond)
    origin.read_body = False
    gateway = await start(PLAIN, upstreams(origin), LISTEN)
    client = await ask(gateway)
    stream = client.begin("/", (b"content-length", b"5000000"), method="POST", end=False)
    for _ in range(50):
        client.send(stream, bytes(100_000))
    client.session.send(stream, b"", end=True)
    await until(lambda: origin.heads)
    assert client.session.queued(stream) > 0
    go.set()
    assert (await client.answer(stream)).status == 200


async def test_an_early_answer_stops_the_rest_of_a_body(start, ask, origin):
    pipeline = 'request = ["validation"]\n[validation]\nmax_body = "1KiB"\n' + PLAIN
    client = await ask(await start(pipeline, upstreams(origin), LISTEN))
    stream = client.begin("/", method="POST", end=False)
    client.send(stream, bytes(300_000))
    got = await client.answer(stream)
    assert (got.status, got.code) == (413, ErrorCode.NO_ERROR)
    assert (await client.get("/")).status == 200


async def test_a_client_that_gives_up_a_stream_is_let_go_of(start, origin_of, ask):
    gone = asyncio.Event()

    async def respond(origin, head, reader, writer):
        await reader.read()
        gone.set()
        return False

    gateway = await start(PLAIN, upstreams(await origin_of(respond)), LISTEN)
    client = await ask(gateway)
    stream = client.begin()
    await until(lambda: gateway.telemetry.in_flight.get())
    client.reset(stream)
    await gone.wait()
    await until(lambda: not gateway.telemetry.in_flight.get())
    assert client.goaway is None


async def test_an_answer_that_breaks_off_is_reset(start, origin_of, ask):
    go = asyncio.Event()

    async def respond(origin, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(100_000))
        await go.wait()
        return False

    client = await ask(await start(PLAIN, upstreams(await origin_of(respond)), LISTEN))
    stream = client.begin()
    await client.until(lambda: client.answers[stream].body)
    go.set()
    assert (await client.answer(stream)).code == ErrorCode.INTERNAL_ERROR
    assert client.goaway is None


# Deadlines and limits for strangers.


async def test_limits_for_strangers_hold(start, origin, ask):
    server = '[server]\nmax_header_size = "1KiB"\nmax_uri = "200B"\nmax_headers = 5\n'
    client = await ask(await start(PLAIN, upstreams(origin), LISTEN + server))
    assert (await client.get("/" + "a" * 300)).status == 414
    assert (await client.get("/", (b"x", b"a" * 1500))).status == 431
    assert (await client.get("/", *[(b"x", b"1")] * 6)).status == 431
    assert (await client.get("/")).status == 200
    assert origin.heads[1:] == []
    client.begin("/", (b"x", b"a" * 5000))
    await client.until(lambda: client.closed)
    assert client.goaway == ErrorCode.ENHANCE_YOUR_CALM


async def test_clients_that_are_slow_are_ended(start, origin, ask):
    server = (
        '[server]\nheader_timeout = "300ms"\nbody_timeout = "300ms"\nwrite_timeout = "300ms"\n'
        'idle_timeout = "300ms"\n'
    )
    origin.respond = answer(bytes(100_000))
    gateway = await start(PLAIN, upstreams(origin), LISTEN + server)
    idle = await ask(gateway)
    await idle.until(lambda: idle.closed)
    assert idle.goaway == ErrorCode.NO_ERROR

    head = await ask(gateway)
    head.transport.write(struct.pack("!xHBBI", 1, 1, 0, 1) + b"\x82")  # HEADERS without an end
    await head.until(lambda: head.closed)
    assert head.goaway == ErrorCode.ENHANCE_YOUR_CALM

    body = await ask(gateway)
    stream = body.begin("/", method="POST", end=False)
    assert (await body.answer(stream)).status == 408

    answers = await ask(gateway, limits=Limits(window=10_000), reads=False)
    stream = answers.begin("/")
    got = await answers.answer(stream)
    assert got.code == ErrorCode.INTERNAL_ERROR and len(got.body) == 10_000
    refused = gateway.telemetry.connections_refused.values
    assert {key[0] for key in refused} >= {"header_timeout", "body_timeout", "write_timeout"}


async def test_a_connection_too_many_is_told(start, origin, ask):
    gateway = await start(PLAIN, upstreams(origin), LISTEN + "[server]\nmax_connections = 1\n")
    client = await ask(gateway)
    other = await ask(gateway)
    await other.until(lambda: other.closed)
    assert (await client.get("/")).status == 200


async def test_what_a_client_was_ended_for_is_counted(gateway, ask):
    client = await ask(gateway)
    ping = struct.pack("!xHBBI", 8, 6, 0, 0) + bytes(8)
    client.transport.write(ping * 5000)
    await client.until(lambda: client.closed)
    ended = gateway.telemetry.http2_ended.values
    assert sum(ended.values()) == 1 and next(iter(ended)) in (("frames",), ("enhance_your_calm",))
    assert (await (await ask(gateway)).get("/")).status == 200


async def test_an_address_that_is_ended_too_often_is_not_let_in(
    start, origin, ask, connect, tmp_path, caplog
):
    """Others are, and it is again when a reload says so. HTTP/1.1 counts as HTTP/2."""
    limits = '[server]\nmax_abuse_per_ip = 1\nabuse_penalty = "1h"\n'
    gateway = await start(PLAIN, upstreams(origin), LISTEN + limits)
    client = await ask(gateway)
    client.transport.write((struct.pack("!xHBBI", 8, 6, 0, 0) + bytes(8)) * 5000)
    await client.until(lambda: client.closed)
    assert await (await connect(gateway)).at_end()
    assert (await ask(gateway)).closed
    assert gateway.telemetry.connections_refused.get(("max_abuse_per_ip",)) == 2
    assert caplog.text.count("connections from 127.0.0.1 are refused for 3600 s") == 1
    assert (await (await ask(gateway, local="127.0.0.2")).get()).status == 200
    text = (tmp_path / "gateway.toml").read_text()
    (tmp_path / "gateway.toml").write_text(text.replace("per_ip = 1", "per_ip = 0"))
    assert (await gateway.reload()).ok
    assert (await (await ask(gateway)).get()).status == 200


# How it ends.


async def test_a_drain_fails_no_stream(start, origin_of, ask):
    go = asyncio.Event()

    async def respond(origin, head, reader, writer):
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True

    gateway = await start(PLAIN, upstreams(await origin_of(respond)), LISTEN)
    client, idle = await ask(gateway), await ask(gateway)
    streams = [client.begin("/") for _ in range(20)]
    await until(lambda: gateway.telemetry.in_flight.get() == 20)
    ending = asyncio.create_task(gateway.close())
    await client.until(lambda: client.goaway is not None)
    await idle.until(lambda: idle.closed)
    assert not client.session.can_request
    go.set()
    answers = [await client.answer(stream) for stream in streams]
    assert [(one.status, one.body, one.code) for one in answers] == [(200, b"ok", 0)] * 20
    await client.until(lambda: client.closed)
    await ending


# WebSockets (RFC 8441).

EXTENDED = LISTEN + "extended_connect = true\n"


def connecting(*fields: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"http"),
        (b":authority", b"gateway.test"),
        (b":path", b"/chat"),
        (b"sec-websocket-version", b"13"),
        *fields,
    ]


@pytest.fixture
async def echoing(origin_of):
    return await origin_of(speaks(echo))


async def test_a_websocket_on_a_stream(start, echoing, ask):
    gateway = await start(PLAIN, upstreams(echoing), EXTENDED)
    client = await ask(gateway)
    assert client.session.peer_connects
    stream = client.send_head(connecting(), end=False)
    answer = client.answers[stream]
    await client.until(lambda: answer.status)
    assert answer.status == 200 and "sec-websocket-accept" not in answer.fields
    for text in (b"one", b"x" * 200_000):
        answer.body = b""
        message = frame(text, mask=MASK)
        client.send(stream, message)
        await client.until(lambda text=text: len(answer.body) >= len(text))
        assert answer.body.endswith(text)
    answer.body = b""
    client.send(stream, close(1000, mask=MASK), end=True)
    assert (await client.answer(stream)).body[:2] == b"\x88\x02"
    await until(lambda: not gateway.telemetry.in_flight.get())
    head = next(head for head in echoing.heads if b"/chat" in head)
    assert head.startswith(b"GET /chat HTTP/1.1\r\n")
    assert fields_of(head)["upgrade"] == "websocket"


async def test_a_tunnels_end_is_its_streams(start, echoing, ask):
    gateway = await start(PLAIN, upstreams(echoing), EXTENDED)
    client = await ask(gateway)
    stream = client.send_head(connecting(), end=False)
    await client.until(lambda: client.answers[stream].status)
    client.reset(stream)
    await until(lambda: not gateway.telemetry.in_flight.get())
    other = client.send_head(connecting(), end=False)
    await client.until(lambda: client.answers[other].status)
    gateway.plane.listeners[0].tunnels.go_away("test")
    await client.until(lambda: client.answers[other].body)
    assert client.answers[other].body[:2] == b"\x88\x02"
    client.send(other, close(1001, mask=MASK), end=True)
    assert (await client.answer(other)).done


@pytest.mark.parametrize("late", [True, False], ids=["before the answer", ""])
@pytest.mark.parametrize("trailers", [True, False], ids=["by trailers", ""])
async def test_the_end_of_its_stream_reaches_the_endpoint(start, origin_of, ask, late, trailers):
    """A tunnel whose endpoint never hears of it would stand until it is idle for too long."""
    go, got = asyncio.Event(), []

    async def respond(origin, head, reader, writer):
        await go.wait()
        writer.write(switching(head))
        got.append(await reader.read())
        return False

    gateway = await start(PLAIN, upstreams(await origin_of(respond)), EXTENDED)
    client = await ask(gateway)
    stream = client.send_head(connecting(), end=False)
    if not late:
        go.set()
        await client.until(lambda: client.answers[stream].status)
    message = frame(b"early", mask=MASK)
    client.send(stream, message, end=not trailers)
    if trailers:
        client.session.trailers(stream, [(b"x-a", b"1")])
        client.flush()
    await asyncio.sleep(0.1)
    go.set()
    answer = await asyncio.wait_for(client.answer(stream), 5)
    assert (answer.status, answer.done, got) == (200, True, [message])
    await until(lambda: not gateway.telemetry.in_flight.get())


async def test_a_handshake_that_is_refused_is_no_tunnel(start, origin, ask):
    client = await ask(await start(PLAIN, upstreams(origin), EXTENDED))
    got = await client.answer(client.send_head(connecting(), end=False))
    assert got.status == 501  # The endpoint answered 200: it knows no WebSocket.
    other = [(k, b"connect-udp" if k == b":protocol" else v) for k, v in connecting()]
    assert (await client.answer(client.send_head(other, end=False))).status == 400


async def test_without_the_setting_there_are_no_tunnels(gateway, ask):
    client = await ask(gateway)
    assert not client.session.peer_connects
    got = await client.answer(client.send_head(connecting(), end=False))
    assert (got.status, got.code) == (0, ErrorCode.PROTOCOL_ERROR)
    plain = [(b":method", b"CONNECT"), (b":authority", b"gateway.test:443")]
    assert (await client.answer(client.send_head(plain))).status == 405
