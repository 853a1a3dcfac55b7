"""The one place that knows aiohttp's parser: what it is fed, what becomes of bytes it cannot take,
what its errors mean.

The parser (llhttp, strict) is right about what is malformed, but gives up too much with it, and
stops too late or too early:

- Requests that came whole before malformed bytes, in one segment with them, are lost: here they are
  answered first.
- Bytes after the last request of a connection (`Connection: close`, HTTP/1.0) are an error to it:
  RFC 9112 section 9.6 has them ignored.
- It stops behind a request with an `Upgrade` it does not know (h2c) and drops what follows: here
  it does not see that field.
- It knows a fixed list of methods: here any token is one (RFC 9110 section 9.1).

All of that is done by feeding a fresh parser line by line, from the last place that is known to lie
between two requests. It costs nothing where nothing is wrong: then only that place is kept up.

Bodies arrive in the parser's StreamReader and are taken out of it after each segment (`take`), so
no coroutine waits on one. tests/unit/serving/http1/test_parser.py names everything undocumented of
aiohttp that is used here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from aiohttp import StreamReader
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import istr

from gateway.serving.http1.disguise import TOKEN, Disguise
from gateway.serving.http1.framing import behind
from gateway.serving.http1.limits import Limits

Parsed = tuple[Sequence[tuple[Any, Any]], bool, bytes]

READ_LIMIT = 2**30
"""Bytes in a StreamReader at which it would ask for a pause: never, because it is emptied after
each segment."""
LINES_MAX = 2048
"""Lines fed one by one after an error; a segment of more is refused as a whole."""

_CONTENT_LENGTH = istr("Content-Length")
_NOTHING: Parsed = ((), False, b"")
_END = b"\r\n\r\n"
_BEGUN = re.compile(TOKEN)


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
        "_disguise",
        "_feed",
        "_held",
        "_in_body",
        "_inner",
        "_limits",
        "_loop",
        "_odd",
        "_payload",
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
        self._disguise = Disguise()
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
            if since is not None:
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
        if self._disguise and result[0]:
            (message, payload), *others = result[0]
            result = [(self._disguise.taken_off(message), payload), *others], result[1], result[2]
            self._odd = False
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
        self._payload, self._in_body = EMPTY_PAYLOAD, False
        self._disguise, self._odd = Disguise(), False
        messages: list[tuple[Any, Any]] = []
        start = end = left = (
            0  # start: of the request under way. left: of a body, if that is known.
        )
        while end < len(data):
            at = end
            end = min(at + left, len(data)) if left else data.find(b"\n", at) + 1 or len(data)
            raw = data[at:end]
            begins = not self._in_body and not data[start:at].strip(b"\r\n")
            if begins and _BEGUN.fullmatch(raw):
                # A method without its end: not shown to a parser that may not know it.
                self._held, self._odd = raw, True
                return messages, False, b""
            left = max(left - len(raw), 0)
            try:
                found, upgraded, _ = self._feed(self._shown(raw, begins))
            except HttpProcessingError as error:
                self._fault(error, messages)
                return messages, False, b""
            if found:
                start = end
                messages.append(self._found(*found[0]))
                left = left_of(*messages[-1]) if self._in_body else 0
                if upgraded:
                    self._since = b""
                    return messages, True, data[end:]
            elif self._in_body and self._payload.is_eof():
                start, self._in_body, self.broken = end, False, self._closing
            if self.broken:
                return messages, False, b""
        self._since = None if self._in_body else data[start:]
        self._odd = self._odd or bool(self._disguise)
        return messages, False, b""

    def _shown(self, raw: bytes, begins: bool) -> bytes:
        if begins:
            return self._disguise.request_line(raw)
        return raw if self._in_body else self._disguise.field(raw)

    def _found(self, message: Any, payload: StreamReader) -> tuple[Any, Any]:
        """Take note of a message, and return it as it was sent."""
        message, self._payload = self._disguise.taken_off(message), payload
        self._in_body = not payload.is_eof()
        if message.upgrade and self._in_body:
            message = message._replace(should_close=True)
        if message.should_close:
            self._close()
        return message, payload

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
