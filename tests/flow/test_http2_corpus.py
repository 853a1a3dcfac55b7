"""What an HTTP/1.1 endpoint receives of requests in HTTP/2 that are malformed or ambiguous, byte for
byte: nothing, or one request that can be read in one way only."""

from __future__ import annotations

import asyncio
import re

import pytest

from gateway.protocols.http2.session import PREFACE
from tests.flow import corpus_http2
from tests.flow.conftest import PLAIN
from tests.flow.corpus_http2 import DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Case
from tests.flow.test_http2 import LISTEN
from tests.flow.test_proxy import upstreams
from tests.http2 import Http2Client

HELLO = PREFACE + bytes(3) + b"\x04\x00" + bytes(4)
"""The preface, with empty SETTINGS."""
OWN = re.compile(
    rb"X-Request-ID: [0-9a-f]+|Via: 2.0 gateway|Forwarded: for=127.0.0.1;proto=http;host=.*"
    rb"|X-Forwarded-(For: 127.0.0.1|Proto: http|Host: .*)"
)


async def outcome(port: int, case: Case) -> str:
    """What the client is told of its request: its answer, a reset, or the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(HELLO + case.frames())
        told = ""
        async with asyncio.timeout(10):
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags = head[3], head[4]
                if kind == RST_STREAM:
                    return f"{told}reset {int.from_bytes(payload, 'big')}"
                if kind == GOAWAY:
                    return f"{told}goaway {int.from_bytes(payload[4:8], 'big')}"
                if kind in (HEADERS, DATA):
                    told = "answer "
                    if flags & END_STREAM:
                        return "answer"
    except asyncio.IncompleteReadError:
        return "closed"
    finally:
        writer.close()


def of_client(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], list[bytes]]:
    """A head as the endpoint received it: its first line, the client's fields, and how its body is
    framed."""
    assert head.endswith(b"\r\n\r\n") and b"\n" not in head.replace(b"\r\n", b"")
    first, *lines = head[:-4].split(b"\r\n")
    framing = [one for one in lines if one.lower().startswith((b"content-length", b"transfer"))]
    others = [
        tuple(one.split(b": ", 1))
        for one in lines
        if OWN.fullmatch(one) is None and one not in framing
    ]
    return first, others, framing  # type: ignore[return-value]


@pytest.mark.parametrize("section", corpus_http2.SECTIONS)
async def test_corpus(start, origin, section):
    gateway = await start(PLAIN, upstreams(origin), LISTEN)
    client = await Http2Client.connect(gateway.port)
    for case in corpus_http2.SECTIONS[section]:
        origin.heads.clear()
        origin.bodies.clear()
        told = await outcome(gateway.port, case)
        # What would have been smuggled comes before this.
        assert (await client.get("/canary")).status == 200, case.name
        heads = [head for head in origin.heads if b"/canary" not in head]
        if case.passes is None:
            if case.cut and heads:
                # It had begun before it turned out to be malformed: it is broken off.
                (one,) = heads
                assert of_client(one)[0] == b"POST /p HTTP/1.1", case.name
                assert b"".join(origin.bodies) in (b"", case.whole), case.name
                assert told == "reset 1", (case.name, told)
                continue
            assert heads == [], (case.name, told)
            assert told != "closed", case.name
            continue
        assert told == "answer", case.name
        assert len(heads) == 1, (case.name, heads)
        first, fields, framing = of_client(heads[0])
        expected, more = case.passes
        assert first == expected, case.name
        lengths = [pair for pair in more if pair[0] == b"content-length"]
        assert fields[0] == (b"Host", b"a.test" if b"A.test" not in heads[0] else b"A.test")
        assert fields[1:] == [pair for pair in more if pair not in lengths], case.name
        body = b"".join(case.data)
        if lengths:
            assert framing == [b"Content-Length: " + lengths[0][1]], case.name
        elif case.data:
            assert framing == [b"Transfer-Encoding: chunked"], case.name
        else:
            assert framing == [], case.name
        assert body == b"".join(one for one in origin.bodies if one), case.name
    client.close()


def test_the_corpus_is_as_large_as_it_says():
    cases = [case for section in corpus_http2.SECTIONS.values() for case in section]
    assert len(cases) >= 180 and len({case.name for case in cases}) == len(cases)
    assert sum(case.passes is None for case in cases) >= 160
