"""WebSockets through a running gateway: the handshake, the tunnel, and every way it can end.

On both event loops, since the tunnel leans on what their sockets do.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
from collections.abc import Callable

import aiohttp
import pytest
import uvloop
from aiohttp import web

from gateway.app import Gateway
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context, Hooks
from gateway.middlewares.logging import AccessLog
from gateway.runtime.snapshot import Snapshot
from tests.client import Client
from tests.flow.conftest import PLAIN, write
from tests.flow.test_proxy import upstreams
from tests.origin import Origin, answer, fields_of
from tests.websocket import (
    CLOSE,
    KEY,
    PING,
    PONG,
    TEXT,
    close,
    echo,
    frame,
    handshake,
    open_tunnel,
    read_frame,
    speaks,
    switching,
)

MASK = b"\x01\x02\x03\x04"
pytestmark = pytest.mark.parametrize("start", [True], ids=[""], indirect=True)  # Upgrades take the plain way in any case.
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def origin_of():
    """`await origin_of(respond)`: an upstream that answers so."""
    made: list[Origin] = []
    failed: list[BaseException] = []

    async def one(respond) -> Origin:
        async def noticed(*arguments) -> bool:
            try:
                return await respond(*arguments)
            except (AssertionError, TimeoutError) as error:
                failed.append(error)
                raise

        origin = await Origin(respond if isinstance(respond, bytes) else noticed).start()
        made.append(origin)
        return origin

    yield one
    for origin in made:
        await origin.stop()
    assert failed == []


@pytest.fixture
async def echoing(origin_of) -> Origin:
    return await origin_of(speaks(echo))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def over(gateway: Gateway) -> None:
    """Waits until nothing of a tunnel is left anywhere."""
    (pool,) = gateway.runtime.snapshot.pools.values()
    await until(lambda: not gateway.telemetry.in_flight.get() and not gateway.status()["connections"])
    assert (pool.in_flight, pool.tunnels, len(tunnels(gateway))) == (0, 0, 0)
    assert all(connection.deadline == float("inf") for connection in gateway.transport.open), "only idle ones are left"


def tunnels(gateway: Gateway):
    assert gateway._listener is not None
    return gateway._listener.tunnels


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# The handshake.


async def test_a_handshake_crosses_with_all_it_says(start, origin_of, connect):
    origin = await origin_of(speaks(echo, "Sec-WebSocket-Protocol: b", "Sec-WebSocket-Extensions: x; y=1", "X-Own: 1"))
    client = await connect(await start(PLAIN, upstreams(origin)))
    fields = await open_tunnel(
        client, "/chat?room=1", "Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Extensions: x; y=1, z", "Origin: http://o.test"
    )
    sent = fields_of(origin.heads[0])
    assert origin.heads[0].startswith(b"GET /chat?room=1 HTTP/1.1\r\n")
    assert (sent["upgrade"], sent["connection"]) == ("websocket", "Upgrade")
    assert (sent["sec-websocket-key"], sent["sec-websocket-version"]) == (KEY, "13")
    assert (sent["sec-websocket-protocol"], sent["sec-websocket-extensions"]) == ("a, b", "x; y=1, z")
    assert (sent["origin"], sent["x-forwarded-for"]) == ("http://o.test", "127.0.0.1")
    assert (fields["upgrade"], fields["connection"]) == ("websocket", "Upgrade")
    assert fields["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 section 1.3
    assert (fields["sec-websocket-protocol"], fields["sec-websocket-extensions"]) == ("b", "x; y=1")
    assert (fields["x-own"], fields["x-request-id"]) == ("1", sent["x-request-id"])
    assert "content-length" not in fields and "transfer-encoding" not in fields


def without(line: str) -> bytes:
    return handshake().replace(line.encode() + b"\r\n", b"")


@pytest.mark.parametrize(
    ("request_bytes", "why"),
    [
        (handshake().replace(b"GET", b"POST"), "not a GET"),
        (handshake("/", "Content-Length: 2") + b"ab", "with a body"),
        (without(f"Sec-WebSocket-Key: {KEY}"), "no key"),
        (handshake(key="c2hvcnQ="), "a key of 5 bytes"),
        (handshake(key="?" * 22 + "=="), "not base64"),
        (handshake("/", f"Sec-WebSocket-Key: {KEY}"), "two keys"),
        (without("Sec-WebSocket-Version: 13"), "no version"),
        (handshake().replace(b"Version: 13", b"Version: 8"), "another version"),
    ],
)
async def test_an_unsound_handshake_is_a_400(start, echoing, connect, request_bytes, why):
    client = await connect(await start(PLAIN, upstreams(echoing)))
    await client.send(request_bytes)
    reply = await client.read()
    assert (reply.status, reply.fields["x-error-code"]) == (400, "VAL_001"), why
    assert ("sec-websocket-version" in reply.fields) is ("version" in why), "RFC 6455 section 4.4"
    assert await client.at_end(), "whatever follows it was meant for"
    assert echoing.heads == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        handshake().replace(b"keep-alive, Upgrade", b"keep-alive"),
        handshake().replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        handshake().replace(b"Upgrade: websocket", b"Upgrade: tcp"),
        handshake().replace(b"Upgrade: websocket", b"Upgrade: websocket, h2c"),
        handshake().replace(b"Upgrade: websocket", b"Upgrade: websocket\r\nUpgrade: h2c"),
        handshake().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_what_asks_for_no_websocket_is_an_ordinary_request(start, origin, connect, request_bytes):
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(request_bytes)
    assert (await client.read()).status == 200
    sent = fields_of(origin.heads[0])
    assert "upgrade" not in sent and "connection" not in sent


async def test_the_gateways_own_answers_have_nothing_to_upgrade(start, origin, connect):
    client = await connect(await start('[[route]]\npath = "/health"\nbuiltin = "health"\n', upstreams(origin)))
    await client.send(handshake("/health"))
    assert (await client.read()).status == 200
    assert (await client.get("/health")).status == 200


ACCEPT = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "lines",
    [
        ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("Upgrade: websocket", "Connection: Upgrade"),
        ("Upgrade: websocket", "Connection: Upgrade", ACCEPT, ACCEPT),
        ("Upgrade: h2c", "Connection: Upgrade", ACCEPT),
        ("Upgrade: websocket, h2c", "Connection: Upgrade", ACCEPT),
        ("Upgrade: websocket", "Connection: close", ACCEPT),
        ("Upgrade: websocket", ACCEPT),
        ("Connection: Upgrade", ACCEPT),
        (),
    ],
)
async def test_a_101_that_does_not_answer_the_handshake_is_a_502(start, origin, connect, lines):
    origin.respond = "\r\n".join(("HTTP/1.1 101 Switching Protocols", *lines, "", "")).encode()
    retry = 'retry = { attempts = 3, base_delay = "1ms" }\n'
    gateway = await start(PLAIN, upstreams(origin, more=retry))
    client = await connect(gateway)
    await client.send(handshake())
    reply = await client.read()
    assert (reply.status, reply.fields["proxy-status"]) == (502, "gateway; error=http_protocol_error")
    assert len(origin.heads) == 1, "it may have been acted upon"
    client.close()
    await over(gateway)


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "404 Not Found", "426 Upgrade Required", "503 Busy"])
async def test_any_other_answer_is_an_ordinary_one(start, origin, connect, status):
    origin.respond = answer(b"no", status=status, Sec_WebSocket_Version="13")
    client = await connect(await start(PLAIN, upstreams(origin, more='retry = { attempts = 3, base_delay = "1ms" }\n')))
    for _ in range(2):  # The connection is as good as before.
        await client.send(handshake())
        reply = await client.read()
        assert (reply.status, reply.body, reply.fields["sec-websocket-version"]) == (int(status[:3]), b"no", "13")
    assert len(origin.heads) == 2, "whatever it says, the handshake has been delivered"
    assert (await client.get("/")).status == int(status[:3])


async def test_a_refusal_may_be_long(start, origin, connect):
    origin.respond = answer(b"x" * 200_000, status="403 Forbidden")
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(handshake())
    reply = await client.read()
    assert (reply.status, len(reply.body)) == (403, 200_000)


async def test_hooks_refuse_before_any_endpoint_is_asked(start, echoing, connect):
    pipeline = (
        'request = ["auth", "rate_limit"]\n[auth]\nmethods = ["api_key"]\napi_key = { file = "../keys.toml" }\n'
        f'[rate_limit]\nkey = "ip"\nlimit = 1\nwindow = "1h"\n{PLAIN}'
        '[[route]]\nprefix = "/limited"\nupstream = "origin"\nauth = false\n'
    )
    gateway = await start(pipeline, upstreams(echoing), keys__toml="")
    client = await connect(gateway)
    await client.send(handshake())
    reply = await client.read()
    assert (reply.status, reply.fields["x-error-code"]) == (401, "AUTH_001")
    await client.send(handshake("/limited"))
    assert (await client.head())[0] == 101
    second = await connect(gateway)
    await second.send(handshake("/limited"))
    reply = await second.read()
    assert (reply.status, reply.fields["x-error-code"]) == (429, "RATE_001")
    assert len(echoing.heads) == 1


# The tunnel.


async def test_frames_in_the_same_write_as_the_101_arrive(start, origin_of, connect):
    first = frame(b"one", TEXT) + frame(b"two", TEXT)

    async def respond(origin, head, reader, writer):
        writer.write(switching(head) + first)
        await echo(reader, writer)
        return False

    client = await connect(await start(PLAIN, upstreams(await origin_of(respond))))
    await open_tunnel(client)
    assert await client.reader.readexactly(len(first)) == first
    await client.send(frame(b"three", mask=MASK))
    assert (await read_frame(client.reader)).payload == b"three"


@pytest.mark.parametrize("size", [5, 70_000, 1_000_000])
async def test_what_comes_right_behind_the_handshake_arrives(start, echoing, connect, size):
    client = await connect(await start(PLAIN, upstreams(echoing)))
    early = frame(b"x" * size, mask=MASK) + frame(b"?", PING, mask=MASK)
    client.writer.write(handshake() + early)
    assert (await client.head())[0] == 101
    assert (await read_frame(client.reader)).payload == b"x" * size
    assert await read_frame(client.reader) == (128 | PING, b"?", False)


async def test_a_pipelined_request_is_answered_before_the_handshake(start, origin_of, connect):
    async def respond(origin, head, reader, writer):
        if b"upgrade" in head.lower():
            return await speaks(echo)(origin, head, reader, writer)
        writer.write(answer(head.split()[1]))
        return True

    client = await connect(await start(PLAIN, upstreams(await origin_of(respond))))
    await client.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" + handshake("/b") + frame(b"c", mask=MASK))
    assert (await client.read()).body == b"/a"
    assert (await client.head())[0] == 101
    assert (await read_frame(client.reader)).payload == b"c"


@pytest.fixture
async def server():
    """aiohttp's own WebSocket server: echoes messages; "close" and "abort" make it do so."""
    closed: list[int | None] = []

    async def talk(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=("chat",), max_msg_size=0, compress=True)
        await ws.prepare(request)
        async for message in ws:
            if message.data == "close":
                await ws.close(code=4321, message=b"as you wish")
            elif message.type == aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        closed.append(ws.close_code)
        return ws

    application = web.Application()
    application.router.add_get("/", talk)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f'[upstream.origin]\nurl = "http://127.0.0.1:{runner.addresses[0][1]}"\n', closed
    await runner.cleanup()


@pytest.mark.parametrize("compress", [0, 15])
async def test_two_real_implementations_agree_with_each_other(start, server, compress):
    gateway = await start(PLAIN, server[0])
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{gateway.port}/"
        async with session.ws_connect(url, protocols=("x", "chat"), compress=compress, max_msg_size=0) as ws:
            assert (ws.protocol, bool(ws.compress)) == ("chat", bool(compress))
            await ws.send_str("grüezi")
            assert await ws.receive_str() == "grüezi"
            large = bytes(range(256)) * 40_000
            await ws.send_bytes(large)
            assert await ws.receive_bytes() == large
            await ws.ping(b"x")
            await ws.send_str("after a ping")
            assert await ws.receive_str() == "after a ping"
    await over(gateway)


async def test_close_codes_cross_both_ways(start, server):
    gateway = await start(PLAIN, server[0])
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{gateway.port}/") as ws:
            await ws.send_str("close")
            message = await ws.receive()
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4321, "as you wish")
        async with session.ws_connect(f"http://127.0.0.1:{gateway.port}/") as ws:
            await ws.close(code=4444)
    await over(gateway)
    await until(lambda: len(server[1]) == 2)
    assert server[1] == [1000, 4444], "what the client said each time"


async def test_ten_megabytes_of_small_frames_cross(start, echoing, connect):
    client = await connect(await start(PLAIN, upstreams(echoing)))
    await open_tunnel(client)
    number = 2000
    frames = [frame(bytes((place % 256,)) * 5000, mask=MASK) for place in range(number)]

    async def send() -> None:
        for one in frames:
            await client.send(one)

    sending = asyncio.create_task(send())
    for place in range(number):
        assert await read_frame(client.reader) == (130, bytes((place % 256,)) * 5000, False)
    await sending


async def stuck(sent: list[int]) -> int:
    """How much had been sent when nothing moved any more."""
    last = -1
    while sent[0] != last:
        last = sent[0]
        await asyncio.sleep(0.2)
    return last


async def flood(writer: asyncio.StreamWriter, sent: list[int], mask: bytes = b"") -> None:
    one = frame(b"x" * 100_000, mask=mask)
    for _ in range(500):
        writer.write(one)
        await writer.drain()
        sent[0] += 100_000


async def test_a_slow_client_holds_the_endpoint_back_and_loses_nothing(start, origin_of, connect):
    sent = [0]

    async def talk(reader, writer):
        await flood(writer, sent)
        writer.write(close(1000))

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=1000))
    await open_tunnel(client)
    assert await stuck(sent) < 30_000_000
    for _ in range(500):
        assert len((await read_frame(client.reader)).payload) == 100_000
    assert (await read_frame(client.reader)).code == 1000
    client.close()
    await over(gateway)


async def test_a_slow_endpoint_holds_the_client_back_and_loses_nothing(start, origin_of, connect):
    sent, go, got = [0], asyncio.Event(), asyncio.get_running_loop().create_future()

    async def talk(reader, writer):
        await go.wait()
        got.set_result([len((await read_frame(reader)).payload) for _ in range(500)])

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    flooding = asyncio.create_task(flood(client.writer, sent, MASK))
    assert await stuck(sent) < 30_000_000
    go.set()
    assert await got == [100_000] * 500
    await flooding


# Counting.


async def test_a_tunnel_counts_for_as_long_as_it_stands(start, origin_of, connect):
    origins = [await origin_of(speaks(echo)) for _ in range(2)]
    gateway = await start(PLAIN, upstreams(*origins))
    pool = gateway.runtime.snapshot.pools["origin"]
    clients = [await connect(gateway) for _ in range(6)]
    for client in clients:
        await open_tunnel(client)
    assert [endpoint.in_flight for endpoint in pool.endpoints] == [3, 3], "least connections sees them"
    assert (pool.tunnels, gateway.telemetry.in_flight.get(), len(tunnels(gateway))) == (6, 6, 6)
    for client in clients:
        await client.send(close(1000, MASK))
        assert (await read_frame(client.reader)).opcode == CLOSE
        assert await client.at_end()
        client.close()
    await over(gateway)
    assert [endpoint.in_flight for endpoint in pool.endpoints] == [0, 0]
    name = pool.endpoints[0].name
    assert gateway.telemetry.upstream_requests.get(("origin", name, "101")) == 3


async def test_max_connections_counts_tunnels(start, echoing, connect):
    text = f'[upstream.origin]\nendpoints = [{{ url = "{echoing.url}", max_connections = 1 }}]\n'
    gateway = await start(PLAIN, text)
    first, second = await connect(gateway), await connect(gateway)
    await open_tunnel(first)
    assert (await second.get("/")).status == 503
    await first.send(close(1000, MASK))
    await read_frame(first.reader)
    first.close()
    await until(lambda: not gateway.runtime.snapshot.pools["origin"].in_flight)
    await open_tunnel(second)


async def test_a_101_closes_a_half_open_circuit_at_once(start, origin_of, connect):
    well = False

    async def respond(origin, head, reader, writer):
        if not well:
            writer.write(answer(status="503 Busy"))
            return True
        return await speaks(echo)(origin, head, reader, writer)

    more = 'circuit_breaker = { failure_threshold = 1, recovery_timeout = "50ms", half_open_requests = 1 }\n'
    gateway = await start(PLAIN, upstreams(await origin_of(respond), more=more))
    client = await connect(gateway)
    await client.send(handshake())
    assert (await client.read()).status == 503
    well = True
    await asyncio.sleep(0.1)
    await open_tunnel(client)
    breaker = gateway.runtime.snapshot.pools["origin"].breaker
    assert breaker is not None and breaker.state == 0


async def test_the_access_log_has_one_line_when_it_ends(start, tmp_path, origin_of, connect):
    async def talk(reader, writer):
        assert (await read_frame(reader)).payload == b"x" * 100
        writer.write(frame(b"y" * 1000))
        await read_frame(reader)
        writer.write(close(1000))

    pipeline = f'response = ["logging", "compression", "caching", "metrics"]\n[logging]\nfile = "../log"\n{PLAIN}name = "ws"\n'
    gateway = await start(pipeline, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    fields = await open_tunnel(client)
    assert "content-encoding" not in fields
    await client.send(frame(b"x" * 100, mask=MASK))
    await read_frame(client.reader)
    assert gateway.telemetry.requests.get(("ws", "GET", "101")) == 0
    await client.send(close(1000, MASK))
    assert (await read_frame(client.reader)).code == 1000
    client.close()
    await over(gateway)
    assert gateway.telemetry.requests.get(("ws", "GET", "101")) == 1
    await until(lambda: (tmp_path / "log").stat().st_size > 0)
    (line,) = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {name: line[name] for name in ("status", "route", "upstream", "attempts", "reason")} == {
        "status": 101, "route": "ws", "upstream": "origin", "attempts": 1, "reason": None,
    }  # fmt: skip
    assert (line["bytes_in"], line["bytes_out"]) == (106 + 8, 1004 + 4)
    assert line["duration_ms"] > line["upstream_ms"]


# Failures on the way to it.


async def test_only_a_handshake_that_was_never_delivered_goes_elsewhere(start, echoing, connect, unused_tcp_port):
    dead = f'{{ url = "http://127.0.0.1:{unused_tcp_port}", weight = 100 }}'
    retry = 'retry = { attempts = 2, base_delay = "1ms" }\n'
    gateway = await start(PLAIN, f'[upstream.origin]\nendpoints = [{dead}, {{ url = "{echoing.url}" }}]\n{retry}')
    client = await connect(gateway)
    await open_tunnel(client)
    assert gateway.telemetry.retries.get(("origin", "connect")) == 1


async def test_a_delivered_handshake_is_not_repeated(start, origin_of, connect):
    async def respond(origin, head, reader, writer):
        return False

    origin = await origin_of(respond)
    client = await connect(await start(PLAIN, upstreams(origin, more='retry = { attempts = 3, base_delay = "1ms" }\n')))
    await client.send(handshake())
    reply = await client.read()
    assert (reply.status, reply.fields["proxy-status"]) == (502, "gateway; error=connection_terminated")
    assert len(origin.heads) == 1


async def test_a_handshake_takes_a_connection_of_its_own(start, origin_of, connect):
    async def respond(origin, head, reader, writer):
        if b"upgrade" in head.lower():
            return await speaks(echo)(origin, head, reader, writer)
        writer.write(answer())
        return True

    origin = await origin_of(respond)
    gateway = await start(PLAIN, upstreams(origin))
    client, other = await connect(gateway), await connect(gateway)
    assert (await client.get("/")).status == 200
    await open_tunnel(client)
    assert len(gateway.runtime.snapshot.pools["origin"].endpoints[0].idle) == 1
    assert (await other.get("/")).status == 200
    assert origin.connections == 2, "the tunnel's own, and the kept one"


async def test_an_endpoint_that_does_not_answer_is_a_504(start, origin_of, connect):
    async def respond(origin, head, reader, writer):
        await reader.read()
        return False

    text = upstreams(await origin_of(respond), more='timeouts = { read = "150ms" }\n')
    client = await connect(await start(PLAIN, text))
    await client.send(handshake())
    assert (await client.read()).status == 504


async def test_a_client_that_leaves_during_the_handshake(start, origin_of, connect):
    asked = asyncio.Event()

    async def respond(origin, head, reader, writer):
        asked.set()
        assert await reader.read() == b""
        origin.aborted.set()
        return False

    origin = await origin_of(respond)
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    await client.send(handshake())
    await asked.wait()
    client.close()
    await asyncio.wait_for(origin.aborted.wait(), 5)
    await over(gateway)


def refuses(config: object, context: Context) -> Hooks:
    """A middleware whose response hook does not like tunnels."""

    async def response(exchange: Exchange, reply: Reply) -> None:
        if reply.status != 101:
            return
        if exchange.path == "/fails":
            raise Failed(Failure.FORBIDDEN, "no tunnels")
        if exchange.path == "/crashes":
            raise RuntimeError
        if exchange.path == "/changes":
            reply.status = 403
        if exchange.path == "/loses":
            reply._connection._transport.abort()  # type: ignore[attr-defined]
            await asyncio.sleep(0.05)
        if exchange.path == "/waits":
            WAITING[0].set()
            await asyncio.Event().wait()

    return Hooks(response=response)


WAITING: list[asyncio.Event] = []
REFUSES = f'response = ["{__name__}:refuses"]\n{PLAIN}'


@pytest.mark.parametrize(("path", "status"), [("/fails", 403), ("/crashes", 500), ("/changes", 403)])
async def test_a_response_hook_may_still_refuse(start, origin_of, connect, path, status):
    ended = asyncio.Event()

    async def talk(reader, writer):
        assert await reader.read() == b""
        ended.set()

    gateway = await start(REFUSES, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await client.send(handshake(path))
    reply = await client.read()
    assert (reply.status, reply.whole) == (status, True)
    assert "upgrade" not in reply.fields
    await asyncio.wait_for(ended.wait(), 5)
    assert (await client.get("/nothing", "X: y")).status == 502, "the connection goes on"
    client.close()
    await over(gateway)


async def test_a_client_that_leaves_while_a_hook_waits(start, origin_of, connect):
    ended = asyncio.Event()

    async def talk(reader, writer):
        assert await reader.read() == b""
        ended.set()

    WAITING[:] = [asyncio.Event()]
    gateway = await start(REFUSES, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await client.send(handshake("/waits"))
    await asyncio.wait_for(WAITING[0].wait(), 5)
    client.close()
    await asyncio.wait_for(ended.wait(), 5)
    await over(gateway)


# How it ends.


async def test_a_reset_by_the_endpoint_reaches_the_client(start, origin_of, connect):
    async def talk(reader, writer):
        await read_frame(reader)
        reset(writer)

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    await client.send(frame(b"?", mask=MASK))
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(client.reader.read(), 5)
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
    await asyncio.wait_for(got, 5)
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
    assert await asyncio.wait_for(client.reader.read(), 5) == b"", "closed, not reset"
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
    sending = asyncio.create_task(client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * requests + handshake()))
    await until(lambda: len(origin.heads) == requests + 1)
    assert await stuck(sent) < 30_000_000
    for _ in range(requests):
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
        await asyncio.wait_for(client.reader.read(), 5)
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
    gateway = await start(pipeline, upstreams(await origin_of(speaks(talk)), more='timeouts = { tunnel = "200ms" }\n'))
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


async def test_one_sides_silence_ends_it_in_the_end(start, origin_of, connect, watched, monkeypatch):
    async def talk(reader, writer):
        await reader.read()

    monkeypatch.setattr("gateway.serving.tunnel.CLOSING", 0.2)
    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk)), more='timeouts = { tunnel = "200ms" }\n'))
    client = await connect(gateway)
    await open_tunnel(client)
    assert (await read_frame(client.reader)).code == 1001
    assert await client.at_end(), "although it has not answered"
    client.close()
    await over(gateway)


# Outliving what brought it about.


async def test_health_is_no_business_of_a_tunnels(start, origin_of, connect):
    origin = await origin_of(speaks(echo))
    other = await origin_of(answer(b"other"))
    health = 'health = { path = "/health", interval = "100ms", timeout = "1s", unhealthy_threshold = 1 }\n'
    gateway = await start(PLAIN, upstreams(origin, more=health))
    pool = gateway.runtime.snapshot.pools["origin"]
    client = await connect(gateway)
    await open_tunnel(client)
    origin.health = answer(status="500 Ill")
    await until(lambda: not pool.eligible)
    await client.send(frame(b"still here", mask=MASK))
    assert (await read_frame(client.reader)).payload == b"still here"
    (gateway.runtime.path.parent / "upstreams.toml").write_text(upstreams(other))
    assert (await gateway.reload()).ok
    assert [endpoint.name for endpoint in pool.endpoints] == [f"127.0.0.1:{other.port}"]
    await client.send(frame(b"and still", mask=MASK))
    assert (await read_frame(client.reader)).payload == b"and still"
    client.close()
    await until(lambda: not pool.tunnels)


LOGS = 'response = ["logging"]\n[logging]\nfile = "../{file}"\n[[route]]\nname = "{name}"\nprefix = "/"\nupstream = "origin"\n'
WITH_ERRORS = 'error = ["logging"]\n'


@pytest.mark.parametrize(("name", "lines"), [("ws", 1), ("another", 0)])
async def test_a_reload_is_not_held_up_and_has_the_last_word(start, tmp_path, echoing, connect, name, lines):
    gateway = await start(LOGS.format(file="old", name="ws"), upstreams(echoing))
    client = await connect(gateway)
    await open_tunnel(client)
    write(tmp_path, LOGS.format(file="new", name=name), upstreams(echoing))
    assert (await gateway.reload()).ok
    gc.collect()
    assert gateway.status()["snapshots_alive"] == 1
    alive = [one for one in gc.get_objects() if isinstance(one, Snapshot | AccessLog)]
    assert len(alive) == 2, "nothing of the old configuration is kept"
    del alive
    await client.send(close(1000, MASK))
    await read_frame(client.reader)
    client.close()
    await over(gateway)
    if lines:
        await until(lambda: (tmp_path / "new").stat().st_size > 0)
    assert (tmp_path / "old").read_text() == ""
    assert len((tmp_path / "new").read_text().splitlines()) == lines


async def test_what_counts_at_a_time_is_given_back_whatever_was_reloaded(start, tmp_path, echoing, connect):
    def one_at_a_time(message: str) -> str:
        limit = f'[rate_limit]\nkey = "ip"\nalgorithm = "concurrency"\nlimit = 1\nmessage = "{message}"\n'
        return f'request = ["rate_limit"]\n{limit}{PLAIN}'

    gateway = await start(one_at_a_time("one"), upstreams(echoing))
    first, second = await connect(gateway), await connect(gateway)
    for message in ("two", "three"):
        await open_tunnel(first)
        write(tmp_path, one_at_a_time(message), upstreams(echoing))
        assert (await gateway.reload()).ok
        await second.send(handshake())
        reply = await second.read()
        assert reply.status == 429 and message.encode() in reply.body
        first.close()
        await until(lambda: not gateway.runtime.snapshot.pools["origin"].tunnels)
        first = await connect(gateway)
    await open_tunnel(second)


async def test_when_its_route_is_gone_those_who_log_everything_log_it(start, tmp_path, echoing, connect):
    gateway = await start(WITH_ERRORS + LOGS.format(file="old", name="ws"), upstreams(echoing))
    client = await connect(gateway)
    await open_tunnel(client)
    write(tmp_path, WITH_ERRORS + LOGS.format(file="new", name="another"), upstreams(echoing))
    assert (await gateway.reload()).ok
    client.close()
    await over(gateway)
    await until(lambda: (tmp_path / "new").stat().st_size > 0)
    line = json.loads((tmp_path / "new").read_text())
    assert (line["route"], line["status"]) == ("ws", 101)


# The gateway stops.


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
    await asyncio.wait_for(closing, 3)


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
    await asyncio.wait_for(closing, 3)


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
    await asyncio.wait_for(closing, 3)
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
    await asyncio.wait_for(closing, 3)


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
    await asyncio.wait_for(closing, 3)


async def test_a_client_that_reads_nothing_does_not_hold_the_end_up(start, origin_of):
    sent = [0]

    async def talk(reader, writer):
        await flood(writer, sent)

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))), '[server]\nshutdown_timeout = "300ms"\n')
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=1000))
    await open_tunnel(client)
    await stuck(sent)
    await asyncio.wait_for(gateway.close(), 5)
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
    await asyncio.wait_for(closing, 3)


# What the gateway does not look into, compared with no gateway at all. The cases follow the Autobahn test suite's main groups.

SIZES = (0, 125, 126, 127, 128, 65535, 65536)


def chopped(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


CASES: dict[str, list[bytes]] = {
    **{f"1.1 text {size}": [frame(b"*" * size, TEXT, mask=MASK)] for size in SIZES},
    **{f"1.2 binary {size}": [frame(b"\xfe" * size, mask=MASK)] for size in SIZES},
    "1.1.8 text 65536 in chops of 997": chopped(frame(b"*" * 65536, TEXT, mask=MASK), 997),
    "1.2.8 binary 65536 in chops of 997": chopped(frame(b"\xfe" * 65536, mask=MASK), 997),
    "1.3 octet by octet": chopped(frame(b"*" * 300, TEXT, mask=MASK), 1),
    "2.1 ping without payload": [frame(b"", PING, mask=MASK)],
    "2.4 ping of 125": [frame(b"\xfe" * 125, PING, mask=MASK)],
    "2.5 ping of 126": [frame(b"\xfe" * 126, PING, mask=MASK)],
    "2.7 unsolicited pong": [frame(b"?", PONG, mask=MASK)],
    "2.10 ten pings": [b"".join(frame(b"%d" % number, PING, mask=MASK) for number in range(10))],
    **{f"3 reserved bits {bits}": [frame(b"*", TEXT, reserved=bits, mask=MASK)] for bits in range(1, 8)},
    **{f"4 opcode {opcode}": [frame(b"*", opcode, mask=MASK)] for opcode in (3, 7, 11, 15)},
    "5.3 a message in two": [frame(b"a", TEXT, fin=False, mask=MASK) + frame(b"b", 0, mask=MASK)],
    "5.6 with a ping in between": [
        frame(b"a", TEXT, fin=False, mask=MASK),
        frame(b"!", PING, mask=MASK),
        frame(b"b", 0, mask=MASK),
    ],
    "5.9 a continuation of nothing": [frame(b"a", 0, mask=MASK)],
    "6.3 invalid UTF-8": [frame(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80", TEXT, mask=MASK)],
    "9.1 256 KiB in one": [frame(b"*" * 262144, TEXT, mask=MASK)],
    "9.5 1 MiB in chops of 4099": chopped(frame(b"\xfe" * 1048576, mask=MASK), 4099),
    "9.3 1 MiB in frames of 4 KiB": [
        frame(b"\xfe" * 4096, 0 if place else 2, fin=place == 255, mask=MASK) for place in range(256)
    ],
    "10.1 without minimal length": [b"\x82\xfe\x00\x05" + MASK + b"\x00" * 5],
}  # fmt: skip
ENDS = {
    "7.1 close": close(1000, MASK),
    "7.3 close without code": frame(b"", CLOSE, mask=MASK),
    "7.3 close with a reason": frame(b"\x03\xe8" + b"*" * 123, CLOSE, mask=MASK),
    "7.7 close 4999": close(4999, MASK),
    "7.9 close with an invalid code": close(999, MASK),
}


async def seen(port: int, case: list[bytes], end: bytes) -> bytes:
    """Everything a client is sent behind the 101 when it sends this, piece by piece, and then this end."""
    client = await Client.connect(port)
    try:
        await open_tunnel(client)

        async def send() -> None:
            for piece in case:
                await client.send(piece)
                await asyncio.sleep(0)
            await client.send(end)

        sending = asyncio.create_task(send())
        got = await asyncio.wait_for(client.reader.read(), 20)
        await sending
        return got
    finally:
        client.close()


async def test_clients_see_the_same_with_a_gateway_as_without(start, echoing):
    gateway = await start(PLAIN, upstreams(echoing))
    ends = list(ENDS.values())
    for number, (name, case) in enumerate(CASES.items()):
        end = ends[number % len(ends)]
        direct = await seen(echoing.port, case, end)
        assert len(direct) > 2
        assert await seen(gateway.port, case, end) == direct, name
    for name, end in ENDS.items():
        assert await seen(gateway.port, [], end) == await seen(echoing.port, [], end), name
    await over(gateway)
