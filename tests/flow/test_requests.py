"""Requests off the straight path: what the client is answered and what the upstream gets, byte for
byte (docs/http.md)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from contextlib import suppress

import pytest

from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.flow.corpus_requests import CASES, GET, HOST, Case, head
from tests.flow.test_proxy import upstreams
from tests.origin import Origin, answer, fields_of
from tests.until import until

SECTIONS = sorted({case.section for case in CASES})
AFTER = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n"
_ID = re.compile(rb"\r\nX-Request-ID: [^\r]*\r\n")


async def fault(port: int, origin: Origin, case: Case, split: int | None = None) -> str | None:
    """What is wrong with the way this case was handled; None when nothing is."""
    origin.heads.clear()
    origin.bodies.clear()
    client = await Client.connect(port)
    try:
        if split is None:
            await client.send(case.sent)
        else:
            client.writer.write(case.sent[:split])
            for _ in range(3):  # The gateway, in this same loop, reads the first part.
                await asyncio.sleep(0)
            client.writer.write(case.sent[split:])
        statuses = []
        for _ in case.statuses:
            reply = await client.read()
            statuses.append(reply.status)
        if tuple(statuses) != case.statuses:
            return f"answered {statuses}"
        if case.closes:
            with suppress(OSError):  # The gateway may have refused it and gone already.
                client.writer.write_eof()
            if not await client.at_end():
                return "the connection goes on"
        else:
            await client.send(AFTER)
            if (await client.read()).status != 200 or not origin.heads.pop().startswith(
                b"GET /after "
            ):
                return "the connection is out of step"
            origin.bodies.pop()
        return difference(origin, case)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, IndexError) as error:
        return repr(error)
    finally:
        client.close()


def difference(origin: Origin, case: Case) -> str | None:
    """Where what the upstream received is not what it should have."""
    if case.broken:
        return None if not origin.bodies else f"a body with an end: {origin.bodies}"
    heads = tuple(_ID.sub(b"\r\nX-Request-ID: *\r\n", one) for one in origin.heads)
    expected = tuple(
        one.replace(b"Host: *", b"Host: 127.0.0.1:%d" % origin.port) for one in case.received
    )
    if heads != expected:
        return f"received {heads}, not {expected}"
    return None if tuple(origin.bodies) == case.bodies else f"received bodies {origin.bodies}"


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Tracebacks and errors in the log."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.exc_info or record.levelno >= logging.ERROR
    ]


def test_the_corpus_is_large_enough_and_names_each_case_once():
    assert len(CASES) >= 150
    assert [sent for sent, count in Counter(case.sent for case in CASES).items() if count > 1] == []


@pytest.mark.parametrize("section", SECTIONS)
async def test_corpus(start, origin, caplog, section):
    gateway = await start(PLAIN, upstreams(origin))
    faults = {}
    for case in CASES:
        if case.section == section:
            found = await fault(gateway.port, origin, case)
            if found is not None:
                faults[case.name] = found
    assert faults == {}
    assert complaints(caplog) == []


SAMPLE = [case for number, case in enumerate(CASES) if number % 14 == 0 and len(case.sent) < 120]


async def test_a_sample_split_at_every_byte(start, origin, caplog):
    gateway = await start(PLAIN, upstreams(origin))
    faults = {}
    for case in SAMPLE:
        for split in range(1, len(case.sent)):
            found = await fault(gateway.port, origin, case, split)
            if found is not None:
                faults[case.name, split] = found
    assert faults == {}
    assert complaints(caplog) == []


# Who has stopped sending, and who has left.


def later(event: asyncio.Event):
    async def respond(origin, head, reader, writer):
        await asyncio.wait_for(event.wait(), 20)
        writer.write(answer(b"late"))
        await writer.drain()
        return True

    return respond


@pytest.mark.parametrize(
    "sent", [head(GET, HOST), head(GET, HOST, b"Connection: close"), head(b"GET / HTTP/1.0")]
)
async def test_a_half_closed_client_gets_its_answer(start, origin, connect, sent):
    client = await connect(await start(PLAIN, upstreams(origin)))
    client.writer.write(sent)
    client.writer.write_eof()
    assert (await client.read()).body == b"ok"
    assert await client.at_end()


async def test_a_half_closed_client_waits_as_long_as_it_takes(start, connect):
    go = asyncio.Event()
    origin = await Origin(later(go)).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        await client.send(head(GET, HOST) + head(b"GET /second HTTP/1.1", HOST))
        client.writer.write_eof()
        # Looked after: 100 (Continue) is what a client may always get, and one that has left would
        # answer it with a reset.
        assert (await client.head())[0] == 100
        go.set()
        assert [(await client.read()).body, (await client.read()).body] == [b"late", b"late"]
        assert await client.at_end()
    finally:
        await origin.stop()


async def test_a_client_that_leaves_ends_the_work_for_it(start, connect):
    gone = asyncio.Event()

    async def respond(origin, head, reader, writer):
        assert await reader.read() == b""
        gone.set()
        return False

    origin = await Origin(respond).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        await client.send(head(GET, HOST))
        await until(lambda: origin.heads)
        client.close()
        await asyncio.wait_for(gone.wait(), 20)
    finally:
        await origin.stop()


@pytest.mark.parametrize(
    "sent",
    [
        head(b"POST / HTTP/1.1", HOST, b"Content-Length: 9", body=b"abc"),
        head(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"),
        head(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n"),
    ],
)
async def test_a_body_that_stays_incomplete_is_no_request(start, origin, connect, caplog, sent):
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(sent)
    await until(lambda: origin.heads)
    client.writer.write_eof()
    assert (await client.read()).status == 400
    assert await client.at_end()
    await asyncio.wait_for(origin.aborted.wait(), 20)
    assert origin.bodies == []
    assert complaints(caplog) == []


async def test_a_head_that_stays_incomplete_gets_nothing(start, origin, connect):
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(b"GET / HTTP/1.1\r\nHos")
    client.writer.write_eof()
    assert await client.at_end()


# Bodies on their way.


async def test_a_body_that_comes_in_pieces_is_passed_on_as_it_comes(start, origin, connect):
    client = await connect(await start(PLAIN, upstreams(origin)))
    await client.send(head(b"POST / HTTP/1.1", HOST, b"Transfer-Encoding: chunked"))
    await until(lambda: origin.heads)
    for byte in b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n":
        await client.send(bytes((byte,)))
    assert (await client.read()).status == 200
    assert origin.bodies == [b"abcd"]
    assert "x" not in fields_of(origin.heads[0])


@pytest.mark.parametrize("rest", [b"d" * 6, b"", b"\x00" * 200_000])
async def test_an_early_answer_ends_the_connection_unless_the_body_comes(
    start, connect, caplog, rest
):
    async def respond(origin, head, reader, writer):
        writer.write(answer(b"no", "403 Forbidden"))
        await writer.drain()
        return False

    origin = await Origin(respond, read_body=False).start()
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        await client.send(head(b"POST / HTTP/1.1", HOST, b"Content-Length: 9", body=b"abc"))
        reply = await client.read()
        assert (reply.status, reply.body, reply.fields["connection"]) == (403, b"no", "close")
        client.writer.write(rest)
        client.writer.write_eof()
        assert await client.at_end()
        assert len(origin.heads) == 1
        assert complaints(caplog) == []
    finally:
        await origin.stop()


# Whose trace, whose hops, whose account of the client.

TRACE_ID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("lines", "passes"),
    [
        ((f"traceparent: {TRACE_ID}", "tracestate: a=b"), True),
        ((f"traceparent: cc{TRACE_ID[2:]}-more", "tracestate: a=b"), True),
        ((f"traceparent: {TRACE_ID}-more", "tracestate: a=b"), False),
        ((f"traceparent: ff{TRACE_ID[2:]}", "tracestate: a=b"), False),
        ((f"traceparent: {TRACE_ID.upper()}", "tracestate: a=b"), False),
        ((f"traceparent: 00-{'0' * 32}-b7ad6b7169203331-01", "tracestate: a=b"), False),
        (
            (f"traceparent: 00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", "tracestate: a=b"),
            False,
        ),
        (("traceparent: 1", "tracestate: a=b"), False),
        ((f"traceparent: {TRACE_ID}", f"traceparent: {TRACE_ID}", "tracestate: a=b"), False),
        (("tracestate: a=b",), False),
    ],
)
async def test_a_valid_trace_is_continued_and_another_dropped(
    start, origin, connect, lines, passes
):
    client = await connect(await start(PLAIN, upstreams(origin)))
    assert (await client.get("/", *lines)).status == 200
    fields = fields_of(origin.heads[0])
    assert ("traceparent" in fields, "tracestate" in fields) == (passes, passes)


async def test_trace_needs_a_route_that_names_it_and_shows_no_credentials(start, origin, connect):
    routes = '[[route]]\nprefix = "/"\nupstream = "origin"\nmethods = ["GET", "TRACE"]\n'
    client = await connect(await start(routes, upstreams(origin)))
    secrets = ("Authorization: Bearer x", "Cookie: a=b", "X-API-Key: k")
    assert (
        await client.get("/a?b", *secrets, "X: y", "Max-Forwards: 1", method="TRACE")
    ).status == 200
    fields = fields_of(origin.heads[0])
    assert (fields["x"], fields["max-forwards"]) == ("y", "0")
    assert not {"authorization", "cookie", "x-api-key"} & fields.keys()
    reply = await client.get("/a?b", *secrets, "X: y", "Max-Forwards: 0", method="TRACE")
    assert (reply.status, reply.fields["content-type"]) == (200, "message/http")
    assert (
        reply.body
        == b"TRACE /a?b HTTP/1.1\r\nHost: gateway.test\r\nX: y\r\nMax-Forwards: 0\r\n\r\n"
    )
    assert len(origin.heads) == 1
    assert (await client.get("/", method="TRACE", body=b"a")).status == 400


async def test_options_for_the_gateway_itself(start, origin, connect):
    routes = '[[route]]\nprefix = "/a"\nupstream = "origin"\nmethods = ["GET", "POST"]\n'
    client = await connect(await start(routes, upstreams(origin)))
    reply = await client.get("/a", "Max-Forwards: 0", method="OPTIONS")
    assert (reply.status, reply.fields["allow"]) == (200, "GET, HEAD, OPTIONS, POST")
    assert "GET" in (await client.get("*", method="OPTIONS")).fields["allow"]
    assert origin.heads == []


async def test_a_trusted_proxys_account_is_continued_in_forwarded(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), '[server]\ntrusted_proxies = ["127.0.0.0/8"]\n')
    client = await connect(gateway)
    await client.get("/", "Forwarded: for=203.0.113.7;proto=https", "X-Forwarded-For: 203.0.113.7")
    given = 'for=203.0.113.7;proto=https, for=127.0.0.1;proto=http;host="gateway.test"'
    assert fields_of(origin.heads[0])["forwarded"] == given


async def test_fields_that_a_connection_repeats(start, origin, connect):
    """From the third request on they need not be parsed; what differs is, and nobody can tell."""
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    fields = b"Host: a\r\nX-Key: 1\r\n"
    for number in range(5):
        await client.send(b"GET /%d?n=%d HTTP/1.1\r\n%b\r\n" % (number, number, fields))
        assert (await client.read()).status == 200
    await client.send(b"GET /with HTTP/1.1\r\n%bX-More: 1\r\n\r\n" % fields)
    assert (await client.read()).status == 200
    for sent in (
        b"GET /a HTTP/1.1\r\n%b\r\n",
        b"GET /b HTTP/1.1\r\n%b\r\n",
        b"GET /c HTTP/1.1\r\n%b\r\n",
    ):
        await client.send(sent % fields)
        assert (await client.read()).status == 200
    pipelined = b"GET /d HTTP/1.1\r\n%b\r\nGET /e HTTP/1.1\r\n%b\r\n" % (fields, fields)
    await client.send(pipelined)
    assert [(await client.read()).status for _ in range(2)] == [200, 200]
    await client.send(b"GET /f HTTP/1.1\r\n%b\r\n" % fields)
    assert (await client.read()).status == 200
    await client.send(b"GET /#g HTTP/1.1\r\n%b\r\n" % fields)
    assert (await client.read()).status == 400
    targets = [one.split(b" ")[1].decode() for one in origin.heads]
    assert targets == [
        *(f"/{n}?n={n}" for n in range(5)),
        "/with",
        "/a",
        "/b",
        "/c",
        "/d",
        "/e",
        "/f",
    ]
    assert all(fields_of(one)["x-key"] == "1" for one in origin.heads)
    assert len({fields_of(one)["x-request-id"] for one in origin.heads}) == len(origin.heads)
    assert [("x-more" in fields_of(one)) for one in origin.heads].count(True) == 1
