from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError, _ErrInfo

from gateway.serving.http1.parser import LINES_MAX, Parsing

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ODD = b"FOO /f HTTP/1.1\r\nHost: a\r\n\r\n"
H2C = b"GET /h HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def parsing() -> Parsing:
    loop = asyncio.get_running_loop()
    protocol: Any = SimpleNamespace(_buffer_paused=False)
    connected = BaseProtocol(loop)
    connected.transport = protocol
    return Parsing(protocol, lambda: HttpRequestParser(connected, loop, 2**16, payload_exception=RequestPayloadError))


def methods(result: Any) -> list[str]:
    return ["error" if isinstance(message, _ErrInfo) else message.method for message, _ in result[0]]


def fed(parsing: Parsing, *segments: bytes) -> list[str]:
    found = []
    for segment in segments:
        try:
            found += methods(parsing.feed_data(segment))
        except HttpProcessingError:
            found.append("error")
    return found


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (GET + GET, ["GET", "GET"]),
        (ODD, ["FOO"]),
        (GET + ODD + GET, ["GET", "FOO", "GET"]),
        (b"\r\n" + ODD, ["FOO"]),
        (GET + b"junk\r\n\r\n", ["GET", "error"]),
        (GET + b"GET / HTTP/1.1\r\nX : y\r\n\r\n" + GET, ["GET", "error"]),
        (H2C + GET, ["GET", "GET"]),
        (CLOSE + GET, ["GET"]),
        (CLOSE + b"junk", ["GET"]),
        (ODD + CLOSE + b"junk", ["FOO", "GET"]),
        (POST + b"abc" + GET, ["POST", "GET"]),
    ],
)
async def test_however_it_is_split_the_same_requests_come_out(parsing, sent, expected):
    assert fed(parsing, sent) == expected
    for split in range(1, len(sent)):
        assert fed(Parsing(parsing._protocol, parsing._make), sent[:split], sent[split:]) == expected, split


async def test_a_body_that_turns_out_malformed_fails_whoever_reads_it(parsing):
    ((_, payload),) = parsing.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")[0]
    assert fed(parsing, b"x\r\n", GET) == []
    assert parsing.broken
    with pytest.raises(RequestPayloadError):
        await payload.readany()


async def test_a_body_that_is_cut_short_fails_whoever_reads_it(parsing):
    ((_, payload),) = parsing.feed_data(POST + b"ab")[0]
    parsing.cut_short()
    parsing.cut_short()
    with pytest.raises(RequestPayloadError):
        await payload.readany()


async def test_many_lines_at_once_are_not_fed_one_by_one(parsing):
    with pytest.raises(HttpProcessingError):
        parsing.feed_data(b"FOO / HTTP/1.1\r\n" + b"a: b\r\n" * LINES_MAX)
    assert parsing.feed_data(GET) == ((), False, b"")


async def test_a_request_that_switches_with_a_body_is_the_last(parsing):
    sent = H2C.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc")
    ((message, payload),) = parsing.feed_data(sent + GET)[0]
    assert message.should_close and payload.is_eof()
    assert fed(parsing, GET) == []


async def test_whoever_was_woken_in_the_same_turn_hears_of_it_too(parsing):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    ((_, payload),) = parsing.feed_data(head + b"1\r\na")[0]
    assert await payload.readany() == b"a"
    reading = asyncio.ensure_future(payload.readany())
    await asyncio.sleep(0)
    parsing.feed_data(b"\r\n0\n\r\n")
    with pytest.raises(RequestPayloadError):
        await asyncio.wait_for(reading, 5)
