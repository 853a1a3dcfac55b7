"""The one place that knows aiohttp's parser: what it is fed, what becomes of bytes it cannot take,
what its errors mean.

The parser (llhttp, strict) is right about what is malformed, but gives up too much with it, and
stops too late or too early:

- Requests that came whole before malformed bytes, in one segment with them, are lost: here they are
  answered first.
- Bytes after the last request of a connection (`Connection: close`, HTTP/1.0) are an error to it:
  RFC 9112 section 9.6 has them ignored.
- It stops behind a request with an `Upgrade` it does not know (h2c) and drops what follows: here
  that is parsed.
- It knows a fixed list of methods: here any token is one (RFC 9110 section 9.1).

All of that is done by feeding a fresh parser line by line, from the last place that is known to lie
between two requests. It costs nothing where nothing is wrong: then only that place is kept up.

Bodies arrive in the parser's StreamReader and are taken out of it after each segment (`take`), so
no coroutine waits on one. tests/unit/serving/http1/test_parser.py names everything undocumented of
aiohttp that is used here.
"""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Sequence
from typing import Any

from aiohttp import StreamReader
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import istr

from gateway.core.failures import Failed, Failure
from gateway.serving.http1.framing import NAMED_METHODS, behind

Parsed = tuple[Sequence[tuple[Any, Any]], bool, bytes]

READ_LIMIT = 2**30
"""Bytes in a StreamReader at which it would ask for a pause: never, because it is emptied after
each segment."""
LINES_MAX = 2048
"""Lines fed one by one after an error; a segment of more is refused as a whole."""

_CONTENT_LENGTH = istr("Content-Length")
_NOTHING: Parsed = ((), False, b"")
_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}"
_METHOD = re.compile(rb"(" + _TOKEN + rb") ")
_BEGUN = re.compile(_TOKEN)
_SHOWN = re.compile(r"\n {2,}(b(?:'.*'|\".*\"))\n")
"""The line that aiohttp's parser shows with an error, as Python writes bytes."""
_STAND_IN = b"PUT"
"""The method that the parser is shown instead of one it does not know."""


class Limits:
    """The limits of a parser: bytes of the request line, bytes of a field, number of fields."""

    def __init__(self, max_line: int, max_field: int, max_fields: int) -> None:
        self.max_line = max_line
        # The parser reports too long a line and too long a field alike, but with their limits:
        # those must differ.
        self.max_field = max_field + 1 if max_field == max_line else max_field
        self.max_fields = max_fields
        self.shortest = min(max_line, max_field)
        """Bytes of a line up to which it is within all limits."""

    def failed(self, error: HttpProcessingError) -> Failed:
        """Map the parser's error to a Failed that tells the client no more than it must know."""
        why = str(error)
        if isinstance(error, LineTooLong):
            if str(error.args[1]) == str(self.max_line):
                detail = f"The request target may have at most {self.max_line} bytes."
                return Failed(Failure.URI_TOO_LONG, detail, why=why)
            return Failed(Failure.HEADERS_TOO_LARGE, "A header field is too long.", why=why)
        if "Too many headers" in why:
            return Failed(Failure.HEADERS_TOO_LARGE, "There are too many header fields.", why=why)
        if "Invalid HTTP version" in why:
            return Failed(
                Failure.VERSION_NOT_SUPPORTED, "The gateway speaks HTTP/1.0 and HTTP/1.1.", why=why
            )
        if isinstance(error, InvalidURLError) and (byte := _raw_byte(why)) is not None:
            detail = (
                f"The request target holds the byte 0x{byte:02X}, which has to be "
                f"percent-encoded: %{byte:02X}."
            )
            return Failed(Failure.MALFORMED, detail, why=why)
        return Failed(Failure.MALFORMED, "The request is not valid HTTP/1.1.", why=why)


def _raw_byte(message: str) -> int | None:
    """The first byte of a target that none may hold (RFC 3986 section 2), from the line that the
    parser shows."""
    shown = _SHOWN.search(message)
    if shown is None:
        return None
    target = bytes(ast.literal_eval(shown[1])).partition(b" ")[2].rpartition(b" HTTP/")[0]
    return next((byte for byte in target if not 0x21 <= byte <= 0x7E), None)


class _Unpaused:
    """The protocol that the parser and its StreamReaders see: it never pauses."""

    connected = True
    _reading_paused = False

    def pause_reading(self) -> None:
        """A StreamReader holds much: it is emptied after this segment."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """A StreamReader has been emptied."""


_PROTOCOL: Any = _Unpaused()


class Malformed:
    """In place of a message: the bytes that follow the messages before it are no request."""

    should_close = True
    upgrade = False

    def __init__(self, error: HttpProcessingError) -> None:
        self.error = error


class Parsing:
    """The parser of one connection. `broken`: nothing of what may still come is looked at.

    fault: why a body will not come to its end, once that is known.
    """

    __slots__ = (
        "_closing",
        "_feed",
        "_held",
        "_in_body",
        "_inner",
        "_limits",
        "_loop",
        "_odd",
        "_payload",
        "_renamed",
        "_since",
        "broken",
        "fault",
    )

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._limits = limits
        self._loop = loop
        self._payload: StreamReader = EMPTY_PAYLOAD
        # What was fed since the last place between two requests, where that is known.
        self._since: bytes | None = b""
        self._in_body = self._odd = self._closing = self.broken = False
        self._held = b""
        self._renamed = ""
        self.fault: str | None = None
        self._renew()

    def _renew(self) -> None:
        limits = self._limits
        self._inner = HttpRequestParser(
            _PROTOCOL,
            self._loop,
            READ_LIMIT,
            max_line_size=limits.max_line,
            max_field_size=limits.max_field,
            max_headers=limits.max_fields,
            auto_decompress=False,
        )
        self._feed = self._inner.feed_data

    @property
    def ended(self) -> bool:
        """Return True if no more requests can come."""
        return self.broken or (self._closing and self._payload.is_eof())

    def stop(self) -> None:
        """Look at nothing that comes."""
        self.broken = self._odd = True

    def decline(self) -> None:
        """The upgrade that the last request asked for has not taken place: HTTP goes on behind
        it."""
        self._inner.set_upgraded(False)

    def feed_data(self, data: bytes) -> Parsed:
        """The requests whose heads are complete. Raises HttpProcessingError."""
        if self._odd:
            return self._feed_oddly(data)
        try:
            result: Parsed = self._feed(data)
        except HttpProcessingError as error:
            return self._recover(data, error)
        messages = result[0]
        if messages:
            message, payload = messages[-1]
            self._payload = payload
            if (
                payload is EMPTY_PAYLOAD
                and data[-4:] == _END
                and not message.should_close
                and not message.upgrade
            ):
                self._since = b""
                return result
            return self._look(message, data, result)
        if data:
            self._note(data)
        return result

    def skipped(self) -> None:
        """The body of the last request has ended, and was not shown to the parser: see
        `left_of`."""
        self._payload, self._in_body, self._since = EMPTY_PAYLOAD, False, b""
        self._odd = self.broken = self._closing
        if not self.broken:
            self._renew()

    def cut_short(self) -> None:
        """The client sends nothing more; a body that is incomplete stays so."""
        if not self._payload.is_eof() and not self.broken:
            self._break("the client stopped sending")

    def _look(self, message: Any, data: bytes, result: Parsed) -> Parsed:
        """After a message that is not simply followed by another."""
        payload, since = self._payload, self._since
        whole = payload.is_eof()
        self._in_body = not whole
        self._since = None
        if result[1]:
            if payload is EMPTY_PAYLOAD:
                # Should the other protocol be declined, HTTP goes on behind this head.
                self._since = b""
            return result
        if message.upgrade:
            if payload is EMPTY_PAYLOAD and since is not None:
                return self._replay(since + data, None)
            # What follows the body in this segment may be lost, so nothing that follows counts.
            self._close()
            return [*result[0][:-1], (message._replace(should_close=True), payload)], False, b""
        if message.should_close:
            self._close()
        elif whole and data:
            place = data.rfind(_END)
            if data[-4:] == _END:
                self._since = b""
            elif payload is EMPTY_PAYLOAD and place >= 0:
                self._since = data[place + 4 :]
            elif since is not None and not any(one.chunked for one, _ in result[0]):
                self._since = behind(since + data, [body.total_bytes for _, body in result[0]])
        return result

    def _close(self) -> None:
        self._odd = self._closing = True
        self.broken = self._payload.is_eof()

    def _note(self, data: bytes) -> None:
        """More of a body or of a head."""
        if self._in_body:
            if self._payload.is_eof():
                self._in_body = False
                self._since = b"" if data[-4:] == _END else None
        elif self._since is not None:
            self._since += data

    def _feed_oddly(self, data: bytes) -> Parsed:
        if self.ended:
            return _NOTHING
        if self._held:
            data, self._held, self._odd = self._held + data, b"", False
            return self._replay(data, None)
        try:
            result: Parsed = self._feed(data)
        except HttpProcessingError as error:
            self._odd = self._closing
            return self._recover(data, error)
        if self._renamed and result[0]:
            message, payload = result[0][0]
            result = (
                ((message._replace(method=self._renamed), payload), *result[0][1:]),
                result[1],
                result[2],
            )
            self._renamed, self._odd = "", False
            message, self._payload = result[0][-1]
            return self._look(message, data, result)
        if data:
            self._note(data)
        return result

    def _recover(self, data: bytes, error: HttpProcessingError) -> Parsed:
        since, self._since = self._since, None
        if not self._payload.is_eof():
            self._break(str(error))
            return _NOTHING
        if self._closing:  # It had ended within this segment.
            self.broken = True
            return _NOTHING
        if since is None or not data:
            self.broken = self._odd = True
            raise error
        return self._replay(since + data, error)

    def _break(self, why: str) -> None:
        self.broken = self._odd = True
        self.fault = why

    def _replay(self, data: bytes, cause: HttpProcessingError | None) -> Parsed:
        """The requests in `data`, which begins between two of them, up to the first byte that is at
        fault."""
        if data.count(b"\n") >= LINES_MAX:
            self.broken = self._odd = True
            raise cause or HttpProcessingError(code=400, message="Too many lines at once")
        self._renew()
        self._payload, self._renamed, self._in_body, self._odd = EMPTY_PAYLOAD, "", False, False
        messages: list[tuple[Any, Any]] = []
        head = b""
        end = left = 0
        while end < len(data):
            at = end
            end = min(at + left, len(data)) if left else data.find(b"\n", at) + 1 or len(data)
            raw = shown = data[at:end]
            if not head.strip(b"\r\n") and not self._in_body:
                if _BEGUN.fullmatch(raw):
                    # A method without its end: not shown to a parser that may not know it.
                    self._held, self._odd = raw, True
                    return messages, False, b""
                shown = self._rename(raw)
            head += raw
            left = max(left - len(raw), 0)
            try:
                found, upgraded, _ = self._feed(shown)
            except HttpProcessingError as error:
                self._fault(error, messages)
                return messages, False, b""
            if found:
                message, self._payload = found[0]
                if self._renamed:
                    message, self._renamed = message._replace(method=self._renamed), ""
                whole = self._payload.is_eof()
                head, self._in_body = b"", not whole
                left = 0 if whole else left_of(message, self._payload)
                if upgraded:
                    self._since = b""
                    messages.append((message, self._payload))
                    return messages, True, data[end:]
                if message.upgrade and not whole:
                    message = message._replace(should_close=True)
                messages.append((message, self._payload))
                if message.should_close:
                    self._close()
                    if self.broken:
                        return messages, False, b""
            elif self._in_body and self._payload.is_eof():
                head, self._in_body = b"", False
                if self._closing:
                    self.broken = True
                    return messages, False, b""
        self._since = None if self._in_body else head
        self._odd = self._odd or bool(self._renamed)
        return messages, False, b""

    def _rename(self, raw: bytes) -> bytes:
        match = _METHOD.match(raw)
        if match is None or (name := match[1].decode()) in NAMED_METHODS:
            return raw
        self._renamed = name
        return _STAND_IN + raw[match.end(1) :]

    def _fault(self, error: HttpProcessingError, messages: list[tuple[Any, Any]]) -> None:
        if not self._payload.is_eof():
            self._break(str(error))
            return
        self.broken = self._odd = True
        if not self._closing:
            messages.append((Malformed(error), EMPTY_PAYLOAD))


def take(payload: StreamReader) -> bytes:
    """Return the bytes of a body that have arrived since the last call."""
    return payload.read_nowait()


def left_of(message: Any, payload: StreamReader) -> int:
    """Return how many bytes of a body are still to come if they end it, whatever they are; else 0.

    So they need no parser, which would copy them. Not of a body in chunks, and not where another
    protocol may follow.
    """
    stated = message.headers.get(_CONTENT_LENGTH, "")
    if message.chunked or message.upgrade or not (stated.isascii() and stated.isdigit()):
        return 0
    return int(stated) - int(payload.total_bytes)
