"""What the parser's errors mean to clients."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp.http_exceptions import HttpProcessingError

from gateway.core.failures import Failure
from gateway.serving.http1.limits import Limits
from gateway.serving.http1.parser import Parsing

LIMITS = Limits(100, 100, 5)


@pytest.mark.parametrize(
    ("sent", "failure", "said"),
    [
        (b"GET /" + b"x" * 100 + b" HTTP/1.1", Failure.URI_TOO_LONG, "at most 100 bytes"),
        (
            b"GET / HTTP/1.1\r\nA: " + b"x" * 200,
            Failure.HEADERS_TOO_LARGE,
            "A header field is too long",
        ),
        (b"GET / HTTP/1.1" + b"\r\nA: b" * 9, Failure.HEADERS_TOO_LARGE, "too many header fields"),
        (b"GET / HTTP/9.9", Failure.VERSION_NOT_SUPPORTED, "HTTP/1.0 and HTTP/1.1"),
        (b"GET /\xc3\xbc HTTP/1.1", Failure.MALFORMED, "0xC3, which has to be percent-encoded"),
        (b"GET / HTTP/1.1\r\nA b: c", Failure.MALFORMED, "not valid HTTP/1.1"),
    ],
)
async def test_errors(sent, failure, said):
    parsing = Parsing(LIMITS, asyncio.get_running_loop())
    with pytest.raises(HttpProcessingError) as caught:
        for message, _ in parsing.feed_data(sent + b"\r\nHost: a\r\n\r\n")[0]:
            raise message.error
    failed = LIMITS.failed(caught.value)
    assert failed.failure is failure and said in failed.detail


def test_line_and_field_are_told_apart():
    assert Limits(5, 5, 1).max_field != 5 and Limits(5, 6, 1).max_field == 6
