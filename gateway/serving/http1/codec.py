"""HTTP/1.1 from a client's bytes to events: heads that repeat, heads that are parsed, bodies as
they arrive. No socket, no clock.

Requests that come faster than they are answered are bounded here: with QUEUE of them taken and not
`consumed`, bytes are kept as they are. Between two requests the parser is shown at most SLICE bytes
at once, so that one segment is not thousands of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import istr

from gateway.core.failures import Failed, Failure
from gateway.serving.codec import Data, End, Event, Head, Refused, Reset
from gateway.serving.http1.limits import Limits
from gateway.serving.http1.parser import Malformed, Parsing, left_of, take
from gateway.serving.http1.repeats import PATIENCE, Opening, Openings, Repeat, repeatable
from gateway.serving.http1.trailers import TrailerReader, body_start

QUEUE: Final = 32
"""Requests taken before the first of them has been answered."""
_TRAILER = istr("Trailer")
SLICE: Final = 8192
TURN = 65536
"""Bytes of a body in chunks after which others have their turn. uvloop reads up to 8 MiB of one
socket in a turn, which may be a million chunks."""
TAIL = 65536
"""Bytes behind a request for another protocol that are kept before the client is read no further.
"""


class Http1Codec:
    """One connection's. `queued`: heads given that have not been `consumed`; the reader is to pause
    while `full`.

    backlog: bytes that are kept until there is room, or until it is known whose they are.
    head_bytes: bytes of a head that is not complete yet, 0 between heads.
    opening: the first request, if other connections have begun with it.
    switched: a request that asks for another protocol has been given; what follows it is kept until
    `decline` or `tail`.
    """

    __slots__ = (
        "_before",
        "_closing",
        "_heads",
        "_left",
        "_limits",
        "_loop",
        "_max_head",
        "_openings",
        "_parser",
        "_patience",
        "_payload",
        "_repeat",
        "_trailers",
        "backlog",
        "head_bytes",
        "opening",
        "queued",
        "switched",
    )

    def __init__(
        self,
        limits: Limits,
        max_head: int,
        loop: asyncio.AbstractEventLoop,
        openings: Openings | None = None,
    ) -> None:
        """max_head: bytes of a head altogether. openings: shared by codecs with the same limits."""
        self._limits = limits
        self._max_head = max_head
        self._loop = loop
        self._openings = openings
        self._parser: Parsing | None = None
        self._closing = False  # A first request that is known closes: nothing counts behind it.
        self._payload: Any = None  # The StreamReader of a body that is still arriving.
        self._left = 0  # Bytes of that body that are passed on without the parser.
        self._repeat: Repeat | None = None
        self._patience = 0
        self._heads = 0
        self._before = b""  # The last bytes of a head that is not complete.
        self._trailers: TrailerReader | None = None
        self.backlog = b""
        self.head_bytes = 0
        self.opening: Opening | None = None
        self.queued = 0
        self.switched = False

    def __repr__(self) -> str:
        state = (
            "switched"
            if self.switched
            else "in a body"
            if self._payload is not None
            else f"{self.head_bytes} bytes of a head"
        )
        return f"<Http1Codec {state}, {self.queued} queued>"

    @property
    def _parsing(self) -> Parsing:
        """The parser: made when it is needed."""
        if self._parser is None:
            self._parser = Parsing(self._limits, self._loop)
            if self._closing:
                self._parser.stop()
        return self._parser

    @property
    def full(self) -> bool:
        """Return True if enough waits: requests, or bytes behind one that asks for another
        protocol."""
        return self.queued >= QUEUE or len(self.backlog) > TAIL

    @property
    def in_chunks(self) -> bool:
        """Return True in a body that comes in chunks."""
        return self._payload is not None and not self._left

    def consumed(self) -> None:
        """One of the heads is being handled."""
        self.queued -= 1

    def repeated(self, data: bytes) -> Head | None:
        """Return the request that `data` is, if it is a whole one that repeats the one before.

        It does not count as queued.
        """
        repeat = self._repeat
        if repeat is None:
            return None
        if self.queued < QUEUE:
            head = repeat.taken(data) or repeat.varied(data)
            if head is not None:
                return head
        self._repeat = None
        if not repeat.used:
            self._patience = PATIENCE
        return None

    def feed(self, data: bytes) -> Sequence[Event]:
        head = self.repeated(data)
        if head is None and self._openings is not None and not self._heads:
            head = self._known(data)
        if head is not None:
            self.queued += 1
            return (head,)
        if self.switched:
            self.backlog += data
            return ()
        if not self.backlog and self.queued < QUEUE:
            if len(data) < self._left:
                self._left -= len(data)
                return (Data(data),)
            if len(data) <= SLICE and not self._left:
                return self._parse(data)
        return self._parse_slices(self.backlog + data if self.backlog else data)

    def _known(self, data: bytes) -> Head | None:
        """Return the request that `data` is, if it is the first here and known from others."""
        if self._parser is not None or self._openings is None:
            return None
        opening = self.opening = self._openings.get(data)
        if opening is None:
            return None
        self._heads = 1
        self._closing = opening.head.close
        return opening.head

    def resume(self) -> Sequence[Event]:
        """Return the events in the bytes that were kept while too many requests were queued."""
        return self._parse_slices(self.backlog) if self.backlog and not self.switched else ()

    def eof(self) -> Sequence[Event]:
        """The client sends nothing more; a body that is incomplete stays so."""
        self._parsing.cut_short()
        return self._fault([])

    def stop(self) -> None:
        """Nothing that comes is looked at any more."""
        self._parsing.stop()
        self._payload = self._repeat = None
        self._left = 0
        self.backlog = b""

    def tail(self) -> bytes:
        """The bytes behind the request that asked for another protocol; they are that
        protocol's."""
        tail, self.backlog = self.backlog, b""
        return tail

    def decline(self) -> Sequence[Event]:
        """There will be no other protocol: HTTP goes on."""
        self.switched = False
        self._parsing.decline()
        return self.resume()

    def _parse_slices(self, data: bytes) -> Sequence[Event]:
        events: list[Event] = []
        at, self.backlog = 0, b""  # Else the tail of a request for another protocol joins it.
        while at < len(data) and self.queued < QUEUE and not self.switched:
            if self._left:
                end = min(at + self._left, len(data))
                events += self._pass_on(data[at:end])
            else:
                end = len(data) if self._payload is not None else min(at + SLICE, len(data))
                events += self._parse(data[at:end])
            at = end
        self.backlog += data[at:]
        return events

    def _pass_on(self, data: bytes) -> Sequence[Event]:
        """Pass on a piece of a body whose end is known, at most up to there."""
        self._left -= len(data)
        if self._left:
            return (Data(data),)
        self._payload = None
        self._parsing.skipped()
        return Data(data), End()

    def _parse(self, data: bytes) -> Sequence[Event]:
        """Return the events that the parser finds in `data`."""
        first = self._parser is None
        parsing, payload = self._parsing, self._payload
        try:
            messages, upgraded, tail = parsing.feed_data(data)
        except HttpProcessingError as error:
            events: list[Event] = []
            # The end of the body may have come in front of what is malformed.
            if payload is not None:
                self._take(payload, events)
            return [*events, *self._refused(error)]
        events = []
        if payload is not None:
            if self._trailers is not None:
                self._trailers.feed(data)
            self._take(payload, events)
        for number, (message, arriving) in enumerate(messages):
            if message.__class__ is Malformed:
                events += self._refused(message.error)
                break
            head = self._head(message, arriving)
            events.append(head)
            if head.more:
                if number == 0 and payload is None and _TRAILER in head.headers:
                    self._follow(data)
                self._take(arriving, events)
                if self._payload is not None and self._trailers is None:
                    self._left = left_of(message, arriving)
        if upgraded:
            self.switched = True
            self.backlog += tail
        if messages:
            self.head_bytes = 0
            self._before = b""
            if len(events) == 1 and events[0].__class__ is Head:
                self._learn(data, events[0], first)
        elif payload is None and not parsing.ended:
            self.head_bytes += len(data)
            self._before = (self._before + data)[-3:]
            if self.head_bytes > self._max_head:
                why = f"{self.head_bytes} bytes without an end, more than {self._max_head}"
                detail = "The request's head is too large."
                return [Refused(Failed(Failure.HEADERS_TOO_LARGE, detail, why=why))]
        return self._fault(events) if parsing.fault is not None else events

    def _head(self, message: Any, payload: Any) -> Head:
        self.queued += 1
        self._heads += 1
        body: bytes | None = None
        if payload is not EMPTY_PAYLOAD:
            if payload.is_eof() and _TRAILER not in message.headers:
                body = take(payload)
            else:
                self._payload = payload
        return Head(
            message.method,
            message.path or "",  # The parser takes CONNECT without a target.
            message.headers,
            message.raw_headers,
            message.version,
            message.should_close,
            body,
            self._payload is not None,
            message.upgrade,
        )

    def _take(self, payload: Any, events: list[Event]) -> None:
        data = take(payload)
        if data:
            events.append(Data(data))
        if payload.is_eof():
            trailers, self._trailers = self._trailers, None
            events.append(End() if trailers is None else End(trailers.fields))
            self._payload = None

    def _follow(self, data: bytes) -> None:
        """Look for the trailers that the head announces, whose body begins in `data`."""
        start = body_start(self._before, data)
        if start >= 0:
            self._trailers = TrailerReader()
            self._trailers.feed(data[start:])

    def _learn(self, data: bytes, head: Head, first: bool) -> None:
        """The next request may repeat this one, which was all that came; `first`: ever."""
        if first and self._heads == 1:
            if self._openings is not None:
                self._openings.learn(data, head)
        elif self._patience:
            self._patience -= 1
        elif self._heads > 1:  # Not the first, which may be the only one.
            self._repeat = repeatable(data, head, self._limits.shortest)

    def _refused(self, error: HttpProcessingError) -> list[Event]:
        self.queued += 1
        return [Refused(self._limits.failed(error))]

    def _fault(self, events: list[Event]) -> list[Event]:
        why, self._parsing.fault = self._parsing.fault, None
        if why is not None:
            self._payload = None
            self._left = 0
            failed = Failed(
                Failure.MALFORMED, "The request's body does not match its framing.", why=why
            )
            events.append(Reset(failed))
        return events
