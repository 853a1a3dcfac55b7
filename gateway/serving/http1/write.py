"""A reply's way to the client: the head and a complete body as one write, longer bodies as they come, with back-pressure.

The message is framed here from what is known about its body (RFC 9112 section 6), never copied from an upstream.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from time import time
from typing import Protocol
from wsgiref.handlers import format_date_time

from gateway.core.exchange import Exchange, Reply, ReplyStream
from gateway.core.failures import Failed
from gateway.core.headers import NOT_TRAILERS, Pair, lower, takes_trailers

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

_HTTP_11 = (1, 1)
_NO_CONTENT = (204, 304)
_date = (0, b"")


class Out(Protocol):
    """Where bytes go: a client's connection."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Waits until the client has taken enough of what was written."""

    def abort(self) -> None:
        """Breaks the connection off, visibly to the client."""


def write_complete(out: Out, exchange: Exchange, reply: Reply, close: bool) -> bool:
    """Sends a reply whose body is all here, in one write. Returns whether the connection can be used again: not `close`."""
    body: bytes = reply.body  # type: ignore[assignment]
    exchange.written = True
    if exchange.method == "HEAD" or reply.status in _NO_CONTENT:
        out.write(make_head(exchange, reply, _length(reply, None), close))
    else:
        size = exchange.bytes_out = len(body)
        out.write(make_head(exchange, reply, _length(reply, size), close) + body)
    return not close


async def write_stream(out: Out, exchange: Exchange, reply: Reply, close: bool) -> bool:
    """Sends a reply whose body is still arriving, as it arrives. Returns whether the connection can be used again.

    Raises Failed when the body breaks off on its way: the connection has then been broken off too, since a shorter message
    must not look complete.
    """
    body: ReplyStream = reply.body  # type: ignore[assignment]
    if reply.length is not None:
        framing, chunked = b"Content-Length: %d\r\n" % reply.length, False
    elif exchange.version >= (1, 1):
        framing, chunked = b"Transfer-Encoding: chunked\r\n", True
    else:
        framing, chunked, close = b"", False, True  # RFC 9112 section 6.3: to HTTP/1.0 the end of the connection ends it.
    exchange.written = True
    out.write(make_head(exchange, reply, framing, close))
    try:
        while chunk := await body.read():
            exchange.bytes_out += len(chunk)
            out.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            await out.drain()
    except Failed:
        out.abort()
        raise
    if chunked:
        trailers = getattr(body, "trailers", ())
        out.write(b"0\r\n\r\n" if not trailers else b"0\r\n%b\r\n" % _trailer_section(exchange, trailers))
    return not close


def _trailer_section(exchange: Exchange, trailers: Iterable[Pair]) -> bytes:
    """The trailer fields that this client takes, as lines: none unless it says so, and none that belong before the body."""
    if not takes_trailers(exchange.headers):
        return b""
    return b"".join(b"%b: %b\r\n" % pair for pair in trailers if lower(pair[0]) not in NOT_TRAILERS)


def _length(reply: Reply, size: int | None) -> bytes:
    """The Content-Length line of a reply whose body is `size` bytes, or has none whatever it says (None)."""
    if size is None:
        # RFC 9110 section 8.6: the length a GET would have had, where that is known; never for 204 and 1xx.
        size = reply.length
        if size is None or reply.status == 204 or (reply.status == 304 and size == 0):
            return b""
    return b"Content-Length: %d\r\n" % size


def make_head(exchange: Exchange, reply: Reply, framing: bytes, close: bool) -> bytes:
    """Status line and fields, with the empty line."""
    line = STATUS_LINES.get(reply.status) or b"HTTP/1.1 %d \r\n" % reply.status
    index = reply.index
    if b"x-request-id" in index:
        reply.remove(b"x-request-id")
    joined = reply.joined
    if joined is None:
        parts, rest = [line], reply.headers
    else:
        count, lines = joined
        parts, rest = [line, lines], reply.headers[count:]
    for name, value in rest:
        parts += (name, b": ", value, b"\r\n")
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
    parts.append(f"Via: 1.1 gateway\r\nX-Request-ID: {exchange.request_id}\r\n\r\n".encode())
    return b"".join(parts)


def date_line() -> bytes:
    """The Date field (RFC 9110 section 6.6.1), formatted once a second."""
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, f"Date: {format_date_time(now)}\r\n".encode())
    return _date[1]
