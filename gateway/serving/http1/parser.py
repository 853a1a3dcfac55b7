"""What aiohttp's parser is fed, and what becomes of bytes it cannot take. Bytes in, messages out; no socket here.

The parser (llhttp, strict) is right about what is malformed, but gives up too much with it, and stops too late or too early:

- Requests that came whole before malformed bytes, in one segment with them, are lost: here they are answered first.
- Bytes after the last request of a connection (`Connection: close`, HTTP/1.0) are an error to it: RFC 9112 section 9.6 has them
  ignored.
- It stops behind a request with an `Upgrade` it does not know (h2c) and drops what follows: here that is parsed.
- A body that turns out malformed is left waiting for its end: here whoever reads it hears of it.
- It knows a fixed list of methods: here any token is one (RFC 9110 section 9.1).

All of that is done by feeding a fresh parser line by line, from the last place that is known to lie between two requests. It
costs nothing where nothing is wrong: then only that place is kept up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import StreamReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestPayloadError, _ErrInfo

from gateway.serving.http1.framing import NAMED_METHODS

if TYPE_CHECKING:
    from gateway.serving.http1.connection import ClientConnection

Parsed = tuple[Sequence[tuple[Any, Any]], bool, bytes]

LINES_MAX = 2048
"""Lines fed one by one after an error; a segment of more is refused as a whole."""

_NOTHING: Parsed = ((), False, b"")
_END = b"\r\n\r\n"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}"
_METHOD = re.compile(rb"(" + _TOKEN + rb") ")
_BEGUN = re.compile(_TOKEN)
_STAND_IN = b"PUT"
"""The method that the parser is shown instead of one it does not know."""


class Parsing:
    """The parser of one connection, as its RequestHandler sees it. `broken`: nothing of what may still come is looked at."""

    __slots__ = (
        "_closing",
        "_feed",
        "_held",
        "_in_body",
        "_make",
        "_odd",
        "_payload",
        "_protocol",
        "_renamed",
        "_since",
        "broken",
        "feed_eof",
        "message_consumed",
        "pause_reading",
        "set_upgraded",
    )

    def __init__(self, protocol: ClientConnection, make: Callable[[], Any]) -> None:
        self._protocol = protocol
        self._make = make
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._since: bytes | None = b""  # What was fed since the last place between two requests, where that is known.
        self._in_body = self._odd = self._closing = self.broken = False
        self._held = b""
        self._renamed = ""
        self._renew()

    def _renew(self) -> None:
        inner = self._make()
        self._feed = inner.feed_data
        self.feed_eof = inner.feed_eof
        self.message_consumed = inner.message_consumed
        self.pause_reading = inner.pause_reading
        self.set_upgraded = inner.set_upgraded

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
            if payload is EMPTY_PAYLOAD and data[-4:] == _END and not message.should_close and not message.upgrade:
                self._since = b""
                return result
            return self._look(message, data, result)
        if data:
            self._note(data)
        return result

    def cut_short(self) -> None:
        """The client sends nothing more; a body that is incomplete stays so."""
        if not self._payload.is_eof() and not self.broken:
            self._break(RequestPayloadError("the client stopped sending"))

    def _look(self, message: Any, data: bytes, result: Parsed) -> Parsed:
        """After a message that is not simply followed by another."""
        payload, since = self._payload, self._since
        whole = payload.is_eof()
        self._in_body = not whole
        self._since = None
        if result[1]:
            if payload is EMPTY_PAYLOAD:
                self._since = b""  # Should the other protocol be declined, HTTP goes on behind this head.
            return result
        if message.upgrade:
            if payload is EMPTY_PAYLOAD and since is not None:
                return self._replay(since + data, None)
            # What follows the body in this segment may be lost, so nothing that follows counts.
            self._close()
            return [*result[0][:-1], (message._replace(should_close=True), payload)], False, b""
        if message.should_close:
            self._close()
        elif whole and data and not self._protocol._buffer_paused:
            place = data.rfind(_END)
            if data[-4:] == _END:
                self._since = b""
            elif payload is EMPTY_PAYLOAD and place >= 0:
                self._since = data[place + 4 :]
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
        if self.broken or (self._closing and self._payload.is_eof()):
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
            result = ((message._replace(method=self._renamed), payload), *result[0][1:]), result[1], result[2]
            self._renamed, self._odd = "", False
            message, self._payload = result[0][-1]
            return self._look(message, data, result)
        if data:
            self._note(data)
        return result

    def _recover(self, data: bytes, error: HttpProcessingError) -> Parsed:
        since, self._since = self._since, None
        if not self._payload.is_eof():
            self._break(RequestPayloadError(str(error)))
            return _NOTHING
        if self._closing:  # It had ended within this segment.
            self.broken = True
            return _NOTHING
        if since is None or not data or self._protocol._buffer_paused:
            self.broken = self._odd = True
            raise error
        return self._replay(since + data, error)

    def _break(self, error: RequestPayloadError) -> None:
        self.broken = self._odd = True
        self._payload.set_exception(error)
        # Whoever reads may have been woken in this very turn, by the end of a chunk say: it then waits again without looking.
        asyncio.get_running_loop().call_soon(self._payload.set_exception, error)

    def _replay(self, data: bytes, cause: HttpProcessingError | None) -> Parsed:
        """The requests in `data`, which begins between two of them, up to the first byte that is at fault."""
        lines = data.split(b"\n")
        if len(lines) > LINES_MAX:
            self.broken = self._odd = True
            raise cause or HttpProcessingError(code=400, message="Too many lines at once")
        self._renew()
        self._payload, self._renamed, self._in_body, self._odd = EMPTY_PAYLOAD, "", False, False
        messages: list[tuple[Any, Any]] = []
        head = b""
        for number, line in enumerate(lines):
            last = number == len(lines) - 1
            raw = line if last else line + b"\n"
            shown = raw
            if not head.strip(b"\r\n") and not self._in_body:
                if last and _BEGUN.fullmatch(raw):  # A method without its end: not shown to a parser that may not know it.
                    self._held, self._odd = raw, True
                    return messages, False, b""
                shown = self._rename(raw)
            head += raw
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
                if upgraded:
                    self._since = b""
                    messages.append((message, self._payload))
                    return messages, True, b"\n".join(lines[number + 1 :])
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
            self._break(RequestPayloadError(str(error)))
            return
        self.broken = self._odd = True
        if not self._closing:
            messages.append((_ErrInfo(status=400, exc=error, message=error.message), EMPTY_PAYLOAD))
