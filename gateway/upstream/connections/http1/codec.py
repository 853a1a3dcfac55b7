"""HTTP/1.1 towards endpoints, as a codec: the bytes of answers in, events out. No socket, no clock.

Events of one answer, in order: any number of `Interim`, then `Reply` (the head), its body as
`bytes`, `Trailers` if there are any, `End`. `Upgraded` stands in place of all of it after a 101,
`Reset` wherever the protocol is broken. Strict by RFC 9112: a connection may be used again only
when an answer ended exactly where its framing said and nothing came after it.
"""

from __future__ import annotations

import enum
import sys
from http import HTTPStatus
from typing import NamedTuple

import httptools

from gateway.core.exchange import OldReply, Reply
from gateway.core.headers import FRAMING, HOP_BY_HOP, Pair, lower
from gateway.upstream.connections.http1.fields import (
    MAX_FIELDS,
    MAX_HEAD,
    InvalidAnswer,
    understand,
)
from gateway.upstream.connections.http1.repeats import END, Repeat

PATIENCE = 16
"""Answers to parse, after one that did not repeat the one before, until the next is compared
again."""

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
"""What serving writes where a reply has no reason phrase of its own."""

ENDLESS = sys.maxsize
"""Bytes of a body that ends with its connection."""

_H = ord("H")


class Interim(NamedTuple):
    """A 1xx answer, hop-by-hop fields left out."""

    status: int
    fields: list[Pair]


class Trailers(NamedTuple):
    """The fields after a chunked body."""

    fields: tuple[Pair, ...]


class End(NamedTuple):
    """The answer is complete. `reusable`: the connection may carry another."""

    reusable: bool


class Upgraded(NamedTuple):
    """A 101 that was asked for; `rest` is what came right behind it."""

    fields: list[Pair]
    rest: bytes


class Reset(NamedTuple):
    """The answer is invalid: `why` completes the sentence "the endpoint ..."."""

    why: str


Event = Interim | Reply | bytes | Trailers | End | Upgraded | Reset


class Phase(enum.Enum):
    """The part of the answer that is expected next."""

    HEAD = enum.auto()
    BODY = enum.auto()
    DONE = enum.auto()


class ResponseCodec:
    """One connection's answers, one after the other: `feed` it with their bytes. Set before each:

    head_only: it has no body (RFC 9110 section 9.3.2: HEAD). upgrade: it may be a 101.
    repeat:    what the answer is held against before it is parsed, if anything.
    """

    __slots__ = (
        "_answers",
        "_beside",
        "_events",
        "_extra",
        "_fields",
        "_head_bytes",
        "_keep",
        "_last",
        "_parser",
        "_patience",
        "_phase",
        "_reason",
        "_remaining",
        "_reply",
        "_trailers",
        "_understood",
        "_until_close",
        "head_only",
        "repeat",
        "upgrade",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._phase = Phase.HEAD
        self.head_only = self.upgrade = False
        self._keep = self._extra = self._until_close = False
        self._events: list[Event] = []
        self._fields: list[Pair] = []
        self._trailers: tuple[Pair, ...] = ()
        self._reply: Reply | None = None
        self._reason = b""
        self._remaining = 0
        """Bytes that are still to come of a body without chunks, which needs no parser; ENDLESS for
        one that ends with its connection."""
        self._head_bytes = self._beside = 0
        """Bytes of the head so far; bytes since the last of the body that are none of it."""
        self._last: list[Pair] = []
        self._understood = understand([])
        self._answers = 0
        self.repeat: Repeat | None = None
        self._patience = 0

    def __repr__(self) -> str:
        return f"<ResponseCodec {self._phase.name.lower()}, {self._answers} answers>"

    @property
    def begun(self) -> bool:
        """Return True if a part of the answer has come."""
        return self._phase is not Phase.HEAD or self._head_bytes > 0

    def parse_next(self) -> None:
        """The next answer does not repeat the one before, and is to be parsed."""
        repeat, self.repeat = self.repeat, None
        if repeat is not None and not repeat.used:
            self._patience = PATIENCE

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` brings."""
        if self._remaining:
            return self._more(data)
        events: list[Event] = []
        self._events = events
        begins = not self.begun
        if begins and data[0] != _H:
            # Nothing but "HTTP/" begins an answer (RFC 9112 section 4); the parser would take an
            # empty line, ICE and RTSP too.
            return [Reset("sent something else than HTTP")]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return [*events, Upgraded(self._fields, data[upgrade.args[0] :])]
        except httptools.HttpParserError as error:
            if self._phase is not Phase.DONE:
                return [*events, Reset(f"sent an invalid answer: {error.__context__ or error}")]
            self._extra = True  # The answer itself was fine; what came after it was not.
        if self._phase is Phase.DONE:
            self._end(data if begins else b"")
        elif self._phase is Phase.HEAD:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                events.append(Reset(f"sent a head of over {MAX_HEAD} bytes"))
        elif events:
            self._beside = 0
        else:
            self._beside += len(data)
            # A chunk's size or extension, or a trailer section, that never ends.
            if self._beside > MAX_HEAD:
                events.append(Reset(f"sent {MAX_HEAD} bytes that are no body"))
        return events

    def _more(self, data: bytes) -> list[Event]:
        """More of a body without chunks: passed on as it came, without a copy."""
        remaining = self._remaining
        if len(data) < remaining:
            self._remaining = remaining - len(data)
            return [data]
        self._extra = len(data) > remaining
        self._remaining = 0
        self._parser = httptools.HttpResponseParser(self)  # The old one has not seen the body.
        self._events = [data[:remaining] if self._extra else data]
        events = self._events
        self._end(b"")
        return events

    def eof(self) -> list[Event]:
        """The connection has ended: the end of a body without framing (RFC 9112 section 6.3, rule
        8)."""
        return [End(False)] if self._until_close and self._phase is Phase.BODY else []

    def _end(self, data: bytes) -> None:
        """The answer is complete, and was all in `data` if that is not empty."""
        events, reply = self._events, self._reply
        assert reply is not None
        if self._trailers:
            events.append(Trailers(self._trailers))
        keep = self._keep and not self._extra
        if keep:
            self.repeat = self._repeatable(data, reply)
            if self.head_only:
                # The old one still expects the body that HEAD has not.
                self._parser = httptools.HttpResponseParser(self)
        self._answers += 1
        self._phase = Phase.HEAD
        self._reply = None
        self._fields = []
        self._trailers = ()
        self._head_bytes = self._beside = 0
        self._extra = False
        self._events = []  # An idle connection keeps nothing of its last answer.
        events.append(End(keep))

    def _repeatable(self, data: bytes, reply: Reply) -> Repeat | None:
        """What the next answer may repeat of this one, which was all in `data`; not of a first one,
        which may be the last, nor of a 401, whose challenge may concern the connection."""
        if self._patience:
            self._patience -= 1
            return None
        if (
            not (data and self._answers)
            or reply.length is None
            or self.head_only
            or reply.status in (204, 304, 401)
        ):
            return None
        if reply.__class__ is not Reply or reply.blocks:
            return None
        headers, index, _, stated, *_ = self._understood
        if stated is None:
            return None
        end = len(data) - stated
        # Something stands before the head or behind the body: 100 (Continue), CRLF.
        if data.find(END) + len(END) != end:
            return None
        return Repeat(data[:end], reply.status, reply.reason, headers, index, stated)

    # httptools callbacks, in the order in which they come.

    def on_message_begin(self) -> None:
        if self._phase is Phase.DONE:
            self._extra = True
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason  # In pieces, where it comes in pieces.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is Phase.HEAD:
            self._fields.append((name, value))
        elif self._phase is Phase.BODY:
            self._trailer(name, value)

    def on_headers_complete(self) -> None:
        if self._phase is not Phase.HEAD:
            return
        status, fields = self._parser.get_status_code(), self._fields
        if len(fields) > MAX_FIELDS:
            raise InvalidAnswer(f"more than {MAX_FIELDS} header fields")
        if not 100 <= status <= 599:
            raise InvalidAnswer(f"the status {status:03}")  # RFC 9110 section 15
        if status < 200:
            self._interim(status, fields)
            return
        if fields == self._last:
            understood = self._understood
        else:
            understood = self._understood = understand(fields)
            self._last = fields
        headers, index, joined, length, coding, connection = understood
        version = self._parser.get_http_version()
        kind = Reply if version == "1.1" else OldReply
        reply = kind.known(status, headers.copy(), index.copy(), joined, length)
        if self._reason != PHRASES.get(status):
            reply.reason = self._reason
        if status == 426:
            reply.blocks = _upgrade_lines(fields)
        self._until_close = False
        self._keep = _may_keep(version, coding, connection)
        self._phase = Phase.BODY
        if self.head_only:
            self._phase = Phase.DONE
        elif status == 204 or status == 304:
            if coding or (length and status == 204):
                # It may well send the body that it announces, and that would be taken for the next
                # answer.
                self._keep = False
            reply.length = length if status == 304 else 0
        elif length is None and not coding:
            self._until_close = True
            self._keep = False
            self._remaining = ENDLESS
        elif not coding:
            self._remaining = length or 0
        self._reply = reply
        self._events.append(reply)

    def on_body(self, chunk: bytes) -> None:
        if self._phase is Phase.DONE:
            self._extra = True
        else:
            self._events.append(chunk)
            if self._remaining:
                self._remaining -= len(chunk)

    def on_message_complete(self) -> None:
        if self._phase is Phase.BODY:
            self._phase = Phase.DONE

    def _interim(self, status: int, fields: list[Pair]) -> None:
        """RFC 9110 section 15.2: interim answers, known or not, come before the final one. A 101
        must have been asked for."""
        if status == 101:
            if not self.upgrade:
                raise InvalidAnswer("a 101 that was not asked for")
            if not self._parser.should_upgrade():
                raise InvalidAnswer("a 101 that does not upgrade")
            return
        if not FRAMING.isdisjoint(lower(name) for name, _ in fields):
            # RFC 9110 section 8.6 and RFC 9112 section 6.1 forbid it, and some would read a body
            # here.
            raise InvalidAnswer(f"an interim {status} with a body's length")
        self._events.append(Interim(status, understand(fields)[0]))
        self._fields = []

    def _trailer(self, name: bytes, value: bytes) -> None:
        """A field after a chunked body, for its reader; never merged with the header section (RFC
        9110 section 6.5.1)."""
        if lower(name) in HOP_BY_HOP:
            self._keep = False  # The parser acts upon some of them even here.
        self._trailers = (*self._trailers, (name, value))
        if len(self._trailers) > MAX_FIELDS:
            raise InvalidAnswer(f"more than {MAX_FIELDS} trailer fields")


def _upgrade_lines(fields: list[Pair]) -> list[bytes]:
    """Lines for a 426: the protocols to upgrade to (RFC 9110 section 15.5.22)."""
    lines = [b"Upgrade: %b\r\n" % value for name, value in fields if lower(name) == b"upgrade"]
    return [*lines, b"Connection: Upgrade\r\n"] if lines else []


def _may_keep(version: str, coding: bytes, connection: bytes) -> bool:
    """Return True if version and Connection allow another answer. Raises InvalidAnswer."""
    keep = b"close" not in connection
    if version != "1.1":
        if version != "1.0" or coding:
            # RFC 9112 section 6.1: Transfer-Encoding in HTTP/1.0 is faulty framing.
            raise InvalidAnswer(f"HTTP/{version} {'with Transfer-Encoding' if coding else ''}")
        keep = keep and b"keep-alive" in connection
    if coding and coding != b"chunked":
        raise InvalidAnswer(f"Transfer-Encoding: {coding!r}")
    return keep
