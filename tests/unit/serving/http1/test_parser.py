from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.http_exceptions import HttpProcessingError

from gateway.serving.http1.limits import Limits
from gateway.serving.http1.parser import LINES_MAX, Malformed, Parsing, take

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ODD = b"FOO /f HTTP/1.1\r\nHost: a\r\n\r\n"
H2C = b"GET /h HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def new() -> Parsing:
    return Parsing(Limits(8190, 8190, 128), asyncio.get_running_loop())


@pytest.fixture
async def parsing() -> Parsing:
    return new()


def methods(result: Any) -> list[str]:
    return [
        "error" if isinstance(message, Malformed) else message.method for message, _ in result[0]
    ]


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
        assert fed(new(), sent[:split], sent[split:]) == expected, split


async def test_a_body_that_turns_out_malformed_is_a_fault(parsing):
    parsing.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert fed(parsing, b"x\r\n", GET) == []
    assert parsing.broken and parsing.ended
    assert parsing.fault is not None


async def test_a_body_that_is_cut_short_is_a_fault(parsing):
    ((_, payload),) = parsing.feed_data(POST + b"ab")[0]
    parsing.cut_short()
    parsing.cut_short()
    assert parsing.fault == "the client stopped sending"
    assert take(payload) == b"ab"


async def test_many_lines_at_once_are_not_fed_one_by_one(parsing):
    with pytest.raises(HttpProcessingError):
        parsing.feed_data(b"FOO / HTTP/1.1\r\n" + b"a: b\r\n" * LINES_MAX)
    assert parsing.feed_data(GET) == ((), False, b"")


async def test_what_follows_a_request_that_switches_is_kept(parsing):
    sent = H2C.replace(b"h2c\r\n\r\n", b"websocket\r\nContent-Length: 3\r\n\r\nabc")
    messages, upgraded, tail = parsing.feed_data(sent + GET)
    ((message, payload),) = messages
    assert message.upgrade and payload.is_eof() and upgraded and tail == GET


async def test_what_it_uses_of_aiohttp_beyond_its_documentation():
    """A change of any of these breaks the adapter; this says which it was."""
    from aiohttp import http_parser, streams

    parser = http_parser.HttpRequestParser
    for name in ("feed_data", "set_upgraded"):
        assert callable(getattr(parser, name))
    reader = streams.StreamReader
    for name in ("is_eof", "read_nowait", "feed_data", "feed_eof"):
        assert callable(getattr(reader, name))
    assert streams.EMPTY_PAYLOAD.is_eof() and streams.EMPTY_PAYLOAD.total_bytes == 0
    inner = Parsing(Limits(8190, 8190, 128), asyncio.get_running_loop())
    messages, upgraded, tail = inner.feed_data(POST + b"ab")
    ((message, payload),) = messages
    assert (upgraded, tail) == (False, b"")
    assert (message.method, message.path, message.version) == ("POST", "/", (1, 1))
    assert message.headers["host"] == "a" and message.raw_headers[0] == (b"Host", b"a")
    assert not message.should_close and not message.upgrade
    assert (take(payload), take(payload), payload.is_eof()) == (b"ab", b"", False)
    assert payload.total_bytes == 2


async def test_a_reader_never_pauses_however_much_comes_at_once(parsing):
    ((_, payload),) = parsing.feed_data(POST.replace(b" 3", b" 5000000"))[0]
    parsing.feed_data(bytes(4_999_999))
    assert len(take(payload)) == 4_999_999
    parsing.feed_data(b"1" + GET)
    assert (take(payload), payload.is_eof()) == (b"1", True)
