"""A request's way through a running gateway and back, byte by byte at both ends."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.origin import Origin, answer, fields_of


def upstreams(*origins: Origin, more: str = "") -> str:
    endpoints = ", ".join(f'{{ url = "{origin.url}" }}' for origin in origins)
    return f"[upstream.origin]\nendpoints = [{endpoints}]\n{more}"


async def test_a_request_crosses_and_its_answer_comes_back(start, origin, connect):
    origin.respond = answer(
        b"hello",
        Content_Type="text/plain",
        X_Own="1",
        Connection="x-own, keep-alive",
        Keep_Alive="timeout=5",
    )
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    reply = await client.get("/a%20b?q=%2F", "X-Mine: ü", "Accept: */*")
    assert (reply.status, reply.body) == (200, b"hello")
    assert "x-own" not in reply.fields and "keep-alive" not in reply.fields
    assert reply.fields["via"] == "1.1 gateway"
    assert reply.fields["x-request-id"]
    assert "date" in reply.fields
    head = origin.heads[0]
    assert head.startswith(b"GET /a%20b?q=%2F HTTP/1.1\r\nHost: gateway.test\r\n")
    assert "X-Mine: ü".encode() in head
    fields = fields_of(head)
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-proto"] == "http"
    assert fields["x-forwarded-host"] == "gateway.test"
    assert fields["x-request-id"] == reply.fields["x-request-id"]
    assert fields["via"] == "1.1 gateway"


async def test_what_only_the_gateway_may_say_is_stripped(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    await client.get(
        "/",
        "X-Client-ID: admin",
        "x_client_id: admin",
        "X-Forwarded-For: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "Proxy: http://evil",
        "Connection: X-Secret, keep-alive",
        "X-Secret: 1",
        "TE: trailers",
        "Upgrade: h2c",
        "X-Request-ID: mine-1",
    )
    text = origin.heads[0].decode().lower()
    for gone in (
        "x-client-id",
        "x_client_id",
        "6.6.6.6",
        "proxy:",
        "x-secret",
        "te:",
        "upgrade",
        "connection",
    ):
        assert gone not in text
    assert fields_of(origin.heads[0])["x-request-id"] == "mine-1"


@pytest.mark.parametrize("bad", ["a b", "x" * 200, "<script>"])
async def test_an_unsound_request_id_is_replaced(start, origin, connect, bad):
    client = await connect(await start(PLAIN, upstreams(origin)))
    reply = await client.get("/", f"X-Request-ID: {bad}")
    assert reply.fields["x-request-id"] != bad
    assert fields_of(origin.heads[0])["x-request-id"] == reply.fields["x-request-id"]


async def test_connections_are_kept_on_both_sides(start, origin, connect):
    client = await connect(await start(PLAIN, upstreams(origin)))
    for _ in range(5):
        assert (await client.get("/")).status == 200
    assert origin.connections == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_small_body_goes_with_its_head(start, origin, connect, method):
    client = await connect(await start(PLAIN, upstreams(origin)))
    reply = await client.get("/", method=method, body=b"x" * 100)
    assert reply.status == 200
    assert origin.bodies == [b"x" * 100]
    assert fields_of(origin.heads[0])["content-length"] == "100"


async def test_a_chunked_body_is_framed_anew(start, origin, connect):
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n"
    )
    await client.send(b"4\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n")
    assert (await client.read()).status == 200
    assert origin.bodies == [b"abcdefg"]
    assert "content-length" not in fields_of(origin.heads[0])


async def test_large_bodies_pass_both_ways_unchanged(start, connect):
    sent = bytes(range(256)) * 8192

    async def echo(origin, head, reader, writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(origin.bodies[-1])
            + origin.bodies[-1]
        )
        await writer.drain()
        return True

    origin = await Origin(echo).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        reply = await client.get("/", method="POST", body=sent)
        assert hashlib.sha256(reply.body).digest() == hashlib.sha256(sent).digest()
    finally:
        await origin.stop()


async def test_expect_100_continue_is_answered_when_the_body_is_wanted(start, origin, connect):
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    assert (await client.head())[0] == 100
    await client.send(b"abc")
    assert (await client.read()).status == 200
    assert origin.bodies == [b"abc"]
    assert "expect" not in fields_of(origin.heads[0])


async def test_head_and_304_have_no_body_but_keep_the_connection(start, connect):
    async def respond(origin, head, reader, writer):
        if head.startswith(b"HEAD"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        else:
            writer.write(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 5000\r\n\r\n')
        return True

    origin = await Origin(respond).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        reply = await client.get("/", method="HEAD")
        assert (reply.status, reply.fields["content-length"]) == (200, "5000")
        assert (await client.get("/")).status == 304
        assert (await client.get("/", method="HEAD")).status == 200
        assert origin.connections == 1
    finally:
        await origin.stop()


async def test_a_chunked_answer_streams_as_it_comes(start, connect):
    step = asyncio.Event()

    async def events(origin, head, reader, writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: "
            b"chunked\r\n\r\n"
        )
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await step.wait()
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")
        return True

    origin = await Origin(events).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        status, _, fields = await client.head()
        assert (status, fields["transfer-encoding"]) == (200, "chunked")
        assert await client.reader.readexactly(14) == b"9\r\ndata: 1\n\n\r\n"
        step.set()
        assert await client.reader.readexactly(19) == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"
        assert (await client.get("/x")).status == 200
    finally:
        await origin.stop()


async def test_an_answer_that_breaks_off_does_not_look_whole(start, connect):
    async def broken(origin, head, reader, writer):
        if b"chunked" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 1000)
        return False

    origin = await Origin(broken).start()
    try:
        gateway = await start(PLAIN, upstreams(origin))
        for path in ("/chunked", "/length"):
            client = await connect(gateway)
            assert not (await client.get(path)).whole
    finally:
        await origin.stop()


async def test_a_small_answer_that_breaks_off_is_a_502(start, connect):
    async def broken(origin, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        return False

    origin = await Origin(broken).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        reply = await client.get("/")
        assert reply.status == 502
        assert reply.fields["x-error-code"] == "SVC_004"
        assert (
            reply.fields["proxy-status"]
            == 'gateway; error=http_response_incomplete; details="SVC_004"'
        )
        assert (await client.get("/")).status == 502
    finally:
        await origin.stop()


@pytest.mark.parametrize(
    "wrong",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n",
    ],
)
async def test_an_answer_that_is_not_http_is_a_502(start, origin, connect, wrong):
    origin.respond = wrong
    client = await connect(await start(PLAIN, upstreams(origin)))
    reply = await client.get("/")
    assert (reply.status, reply.fields["proxy-status"]) == (
        502,
        'gateway; error=http_protocol_error; details="SVC_004"',
    )


async def test_bytes_after_an_answer_are_never_taken_for_the_next(start, origin, connect):
    origin.respond = answer(b"one") + answer(b"two")
    client = await connect(await start(PLAIN, upstreams(origin)))
    assert [(await client.get("/")).body for _ in range(3)] == [b"one"] * 3
    assert origin.connections == 3


async def test_interim_answers_are_skipped(start, origin, connect):
    origin.respond = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        + answer(b"final")
    )
    client = await connect(await start(PLAIN, upstreams(origin)))
    reply = await client.get("/")
    assert (reply.status, reply.body) == (200, b"final")
    assert "link" not in reply.fields


async def test_an_answer_without_length_ends_with_its_connection(start, connect):
    async def respond(origin, head, reader, writer):
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        return False

    origin = await Origin(respond).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        assert (await client.get("/")).body == b"until the end"
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        reply = await client.read()
        assert (reply.body, reply.fields["connection"]) == (b"until the end", "close")
        assert await client.at_end()
    finally:
        await origin.stop()


async def test_a_client_that_leaves_frees_the_upstream(start, connect):
    asked = asyncio.Event()

    async def slow(origin, head, reader, writer):
        asked.set()
        await reader.readexactly(1)
        return False

    origin = await Origin(slow).start()
    try:
        gateway = await start(PLAIN, upstreams(origin))
        client = await connect(gateway)
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(asked.wait(), 20)
        client.close()
        await asyncio.wait_for(origin.aborted.wait(), 20)
        pool = gateway.runtime.snapshot.pools["origin"]
        assert pool.in_flight == 0
    finally:
        await origin.stop()


async def test_a_stale_connection_is_replaced_without_anyone_noticing(start, connect):
    served = 0

    async def once(origin, head, reader, writer):
        nonlocal served
        served += 1
        if served % 2 == 0:
            return (
                False  # The connection was kept, and is closed just when the next request arrives.
            )
        writer.write(answer(b"ok"))
        return True

    origin = await Origin(once).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        assert (await client.get("/")).status == 200
        assert (await client.get("/")).status == 200
        assert served == 3
        reply = await client.get("/", method="POST", body=b"x")
        assert reply.status == 502, "a POST may have been acted upon, so it is not repeated"
    finally:
        await origin.stop()


async def test_refused_reset_and_slow_upstreams_have_their_own_answers(
    start, connect, unused_tcp_port
):
    async def never(origin, head, reader, writer):
        if b"/reset" in head:
            return False
        await reader.read()
        return False

    origin = await Origin(never).start()
    try:
        text = (
            f'[upstream.dead]\nurl = "http://127.0.0.1:{unused_tcp_port}"\n'
            f'[upstream.slow]\nurl = "{origin.url}"\ntimeouts = {{ read = "150ms" }}\n'
        )
        routes = (
            '[[route]]\nprefix = "/dead"\nupstream = "dead"\n[[route]]\nprefix = "/"\nupstream = '
            '"slow"\n'
            '[[route]]\npath = "/total"\nupstream = "slow"\ntimeout = "50ms"\n'
        )
        gateway = await start(routes, text)
        client = await connect(gateway)
        for path, status, error in (
            ("/dead", 502, "connection_refused"),
            ("/reset", 502, "connection_terminated"),
            ("/slow", 504, "connection_read_timeout"),
            ("/total", 504, "http_response_timeout"),
        ):
            reply = await client.get(path)
            assert (reply.status, reply.fields["proxy-status"]) == (
                status,
                f'gateway; error={error}; details="{"SVC_004" if status == 502 else "SVC_003"}"',
            ), path
    finally:
        await origin.stop()


async def test_retries_go_to_another_endpoint(start, origin, connect, unused_tcp_port):
    dead = f'{{ url = "http://127.0.0.1:{unused_tcp_port}", weight = 100 }}'
    text = (
        f'[upstream.origin]\nendpoints = [{dead}, {{ url = "{origin.url}" }}]\nretry = '
        f'{{ attempts = 2, base_delay = "1ms" }}\n'
    )
    gateway = await start(PLAIN, text)
    client = await connect(gateway)
    for method in ("GET", "POST"):
        assert (await client.get("/", method=method)).status == 200
    assert gateway.telemetry.retries.get(("origin", "connect")) == 2


async def test_a_status_is_retried_only_where_it_is_safe(start, origin, connect):
    origin.respond = answer(b"busy", status="503 Service Unavailable")
    more = 'retry = { attempts = 3, base_delay = 0, on = ["503"] }\n'
    client = await connect(await start(PLAIN, upstreams(origin, more=more)))
    for method, attempts in (("GET", 3), ("POST", 1), ("PUT", 3)):
        before = len(origin.heads)
        reply = await client.get("/", method=method, body=b"x" if method != "GET" else None)
        assert (reply.status, reply.body) == (503, b"busy")
        assert len(origin.heads) - before == attempts, method


async def test_pipelined_requests_are_answered_in_order(start, connect):
    async def echo(origin, head, reader, writer):
        writer.write(answer(head.split()[1]))
        return True

    origin = await Origin(echo).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        await client.send(
            b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20))
        )
        assert [(await client.read()).body for _ in range(20)] == [
            b"/%d" % number for number in range(20)
        ]
    finally:
        await origin.stop()


async def test_a_slow_reader_holds_the_upstream_back(start, connect):
    sent = 0

    async def flood(origin, head, reader, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000
        return False

    origin = await Origin(flood).start()
    try:
        gateway = await start(PLAIN, upstreams(origin))
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1000)
        client = Client(reader, writer)
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        last = -1
        # Until nothing moves any more: everything between the two ends is full.
        while sent != last:
            last = sent
            await asyncio.sleep(0.2)
        assert sent < 30_000_000
        client.close()
    finally:
        await origin.stop()
