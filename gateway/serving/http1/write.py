"""Replies as HTTP/1.1: the head with a complete body, or the head of one that streams, and its end.
Pure.

The message is framed here from what is known about its body (RFC 9112 section 6), never copied from
an upstream.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from time import time
from typing import Final
from wsgiref.handlers import format_date_time

from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import NOT_TRAILERS, Pair, check_field, lower, takes_trailers

STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}

CHUNKED = b"Transfer-Encoding: chunked\r\n"

_HTTP_11: Final = (1, 1)
_NO_CONTENT: Final = (204, 304)
_date = (0, b"")


class _Lines(dict[Pair, bytes]):
    """Fields as the lines that they are written as: replies have the same few again and again.

    At most MOST of up to LONGEST bytes are remembered; when there are more, all are forgotten.
    `lines[field]` raises UnsafeField for one that a hook set and no line may hold.
    """

    MOST: Final = 1024
    LONGEST: Final = 256

    def __missing__(self, field: Pair) -> bytes:
        name, value = field
        if b"\n" in value or b"\r" in value or b"\n" in name:
            check_field(name, value)
        line = b"%b: %b\r\n" % field
        if len(line) <= self.LONGEST:
            if len(self) >= self.MOST:
                self.clear()
            self[field] = line
        return line


_line_of: Final = _Lines().__getitem__


def complete(exchange: Exchange, reply: Reply, close: bool) -> bytes:
    """A reply whose body is all here, as bytes; counts them."""
    body: bytes = reply.body  # type: ignore[assignment]
    if exchange.method == "HEAD" or reply.status in _NO_CONTENT:
        return make_head(exchange, reply, _length(reply), close)
    size = exchange.bytes_out = len(body)
    return make_head(exchange, reply, b"Content-Length: %d\r\n" % size, close, body)


def stream_head(exchange: Exchange, reply: Reply, close: bool) -> tuple[bytes, bool, bool]:
    """The head of a reply whose body is still arriving; whether that goes out in chunks, and
    whether the connection ends it."""
    if reply.length is not None:
        return (
            make_head(exchange, reply, b"Content-Length: %d\r\n" % reply.length, close),
            False,
            close,
        )
    if exchange.version >= (1, 1):
        return make_head(exchange, reply, CHUNKED, close), True, close
    # RFC 9112 section 6.3: to HTTP/1.0 the end of the connection ends it.
    return make_head(exchange, reply, b"", True), False, True


def last_chunk(exchange: Exchange, trailers: Iterable[Pair]) -> bytes:
    """Return the end of a body that went out in chunks: the trailer fields that this client takes,
    and an empty line.

    None unless it says that it takes any, and none that belong before the body.
    """
    if not trailers or not takes_trailers(exchange.headers):
        return b"0\r\n\r\n"
    lines = [b"%b: %b\r\n" % pair for pair in trailers if lower(pair[0]) not in NOT_TRAILERS]
    return b"0\r\n%b\r\n" % b"".join(lines)


def interim_head(status: int, pairs: Iterable[Pair]) -> bytes:
    """An interim answer (RFC 9110 section 15.2)."""
    line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"%b%b\r\n" % (line, b"".join([b"%b: %b\r\n" % pair for pair in pairs]))


def _length(reply: Reply) -> bytes:
    """Return the Content-Length line of a reply to HEAD, or one with a status that has no body.

    RFC 9110 section 8.6: the length a GET would have had, where that is known; never for 204 and
    1xx.
    """
    size = reply.length
    if size is None or reply.status == 204 or (reply.status == 304 and size == 0):
        return b""
    return b"Content-Length: %d\r\n" % size


def make_head(
    exchange: Exchange, reply: Reply, framing: bytes, close: bool, body: bytes = b""
) -> bytes:
    """Status line and fields, with the empty line, and `body` behind it.

    Raises UnsafeField for a field that a hook set and no line may hold.
    """
    if reply.reason:
        line = b"HTTP/1.1 %d %b\r\n" % (reply.status, reply.reason)
    else:
        line = STATUS_LINES.get(reply.status) or b"HTTP/1.1 %d \r\n" % reply.status
    index = reply.index
    if b"x-request-id" in index:
        reply.remove(b"x-request-id")
    if b"trailer" in index and (framing != CHUNKED or not takes_trailers(exchange.headers)):
        reply.remove(b"trailer")
    headers, joined = reply.headers, reply.joined
    if joined is None:
        parts = [line, *map(_line_of, headers)]
    else:
        count, lines = joined
        parts = [line, lines]
        if count < len(headers):
            parts += map(_line_of, headers[count:])
    parts += reply.blocks
    if exchange.reply_blocks:
        parts += exchange.reply_blocks
    if b"date" not in index:
        parts.append(date_line())
    parts.append(framing)
    if close:
        parts.append(b"Connection: close\r\n")
    elif exchange.version != _HTTP_11:
        parts.append(b"Connection: keep-alive\r\n")
    parts += (
        f"Via: {reply.version} gateway\r\nX-Request-ID: {exchange.request_id}\r\n\r\n".encode(),
        body,
    )
    return b"".join(parts)


def date_line() -> bytes:
    """The Date field (RFC 9110 section 6.6.1), formatted once a second."""
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, f"Date: {format_date_time(now)}\r\n".encode())
    return _date[1]
