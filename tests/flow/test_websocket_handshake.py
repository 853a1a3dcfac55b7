"""WebSockets: the handshake, and failures on the way to it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context, Hooks
from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams
from tests.flow.tunnels import LOOPS as LOOPS
from tests.flow.tunnels import over
from tests.origin import answer, fields_of
from tests.websocket import (
    KEY,
    echo,
    handshake,
    open_tunnel,
    speaks,
)


async def test_a_handshake_crosses_with_all_it_says(start, origin_of, connect):
    origin = await origin_of(
        speaks(echo, "Sec-WebSocket-Protocol: b", "Sec-WebSocket-Extensions: x; y=1", "X-Own: 1")
    )
    client = await connect(await start(PLAIN, upstreams(origin)))
    fields = await open_tunnel(
        client,
        "/chat?room=1",
        "Sec-WebSocket-Protocol: a, b",
        "Sec-WebSocket-Extensions: x; y=1, z",
        "Origin: http://o.test",
    )
    sent = fields_of(origin.heads[0])
    assert origin.heads[0].startswith(b"GET /chat?room=1 HTTP/1.1\r\n")
    assert (sent["upgrade"], sent["connection"]) == ("websocket", "Upgrade")
    assert (sent["sec-websocket-key"], sent["sec-websocket-version"]) == (KEY, "13")
    assert (sent["sec-websocket-protocol"], sent["sec-websocket-extensions"]) == (
        "a, b",
        "x; y=1, z",
    )
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
async def test_what_asks_for_no_websocket_is_an_ordinary_request(
    start, origin, connect, request_bytes
):
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(request_bytes)
    assert (await client.read()).status == 200
    sent = fields_of(origin.heads[0])
    assert "upgrade" not in sent and "connection" not in sent


async def test_the_gateways_own_answers_have_nothing_to_upgrade(start, origin, connect):
    client = await connect(
        await start('[[route]]\npath = "/health"\nbuiltin = "health"\n', upstreams(origin))
    )
    await client.send(handshake("/health"))
    assert (await client.read()).status == 200
    assert (await client.get("/health")).status == 200


ACCEPT = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "lines",
    [
        (
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ),
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
    assert (reply.status, reply.fields["proxy-status"]) == (
        502,
        'gateway; error=http_protocol_error; details="SVC_004"',
    )
    assert len(origin.heads) == 1, "it may have been acted upon"
    client.close()
    await over(gateway)


@pytest.mark.parametrize(
    "status", ["200 OK", "401 Unauthorized", "404 Not Found", "426 Upgrade Required", "503 Busy"]
)
async def test_any_other_answer_is_an_ordinary_one(start, origin, connect, status):
    origin.respond = answer(b"no", status=status, Sec_WebSocket_Version="13")
    client = await connect(
        await start(PLAIN, upstreams(origin, more='retry = { attempts = 3, base_delay = "1ms" }\n'))
    )
    for _ in range(2):  # The connection is as good as before.
        await client.send(handshake())
        reply = await client.read()
        assert (reply.status, reply.body, reply.fields["sec-websocket-version"]) == (
            int(status[:3]),
            b"no",
            "13",
        )
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
        'request = ["auth", "rate_limit"]\n[auth]\nmethods = ["api_key"]\napi_key = { file = '
        '"../keys.toml" }\n'
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


async def test_only_a_handshake_that_was_never_delivered_goes_elsewhere(
    start, echoing, connect, unused_tcp_port
):
    dead = f'{{ url = "http://127.0.0.1:{unused_tcp_port}", weight = 100 }}'
    retry = 'retry = { attempts = 2, base_delay = "1ms" }\n'
    gateway = await start(
        PLAIN, f'[upstream.origin]\nendpoints = [{dead}, {{ url = "{echoing.url}" }}]\n{retry}'
    )
    client = await connect(gateway)
    await open_tunnel(client)
    assert gateway.telemetry.retries.get(("origin", "connect")) == 1


async def test_a_delivered_handshake_is_not_repeated(start, origin_of, connect):
    async def respond(origin, head, reader, writer):
        return False

    origin = await origin_of(respond)
    client = await connect(
        await start(PLAIN, upstreams(origin, more='retry = { attempts = 3, base_delay = "1ms" }\n'))
    )
    await client.send(handshake())
    reply = await client.read()
    assert (reply.status, reply.fields["proxy-status"]) == (
        502,
        'gateway; error=connection_terminated; details="SVC_004"',
    )
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
    await asyncio.wait_for(origin.aborted.wait(), 20)
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


@pytest.mark.parametrize(
    ("path", "status"), [("/fails", 403), ("/crashes", 500), ("/changes", 403)]
)
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
    await asyncio.wait_for(ended.wait(), 20)
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
    await asyncio.wait_for(WAITING[0].wait(), 20)
    client.close()
    await asyncio.wait_for(ended.wait(), 20)
    await over(gateway)
