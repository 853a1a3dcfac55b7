"""A client's connection in HTTP/1.1: requests in order, one at a time; half-close and linger.

It feeds its codec and begins the next request when the one before is over; outlet.py is what that
writes to. One loop (`_next`) takes requests from the queue, so that a thousand that are answered at
once do not nest. Deadlines are the sweep's (net/deadlines.py), which reads `head_since`,
`idle_since`, `linger_until`, `holds` and `body` here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextvars import copy_context
from time import perf_counter
from typing import Any

from gateway.core.drive import Drive
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.headers import Pair
from gateway.core.hooks import is_kept
from gateway.protocols.websocket import LINES, UPGRADE
from gateway.serving.admission import FRAMING
from gateway.serving.body import ClientBody
from gateway.serving.codec import Data, End, Event, Head, Refused, Reset
from gateway.serving.http1.codec import QUEUE, TURN, Http1Codec
from gateway.serving.http1.departure import Departure, has_ended
from gateway.serving.http1.outlet import Http1Outlet
from gateway.serving.http1.write import complete, make_head
from gateway.serving.lifecycle import serve
from gateway.serving.server import Server

log = logging.getLogger("gateway.serving")

LINGER = 5.0
"""Seconds for which a body that nothing reads is taken, so that the client can read its answer."""


class Http1Connection(Http1Outlet):
    """One client's socket; `peer` is its address.

    head_since: when the head now arriving began, 0 between heads.
    idle_since: when the last request was over, 0 while there is one.
    linger_until: when the connection closes even if the client still sends, 0 while it is used.
    holds: how many reasons there are to read nothing for now.

    A queue, an Outlet and three deadlines in one: an object for each would cost memory.
    """

    __slots__ = (
        "_codec",
        "_count",
        "_departure",
        "_drive",
        "_half_closed",
        "_incoming",
        "_looping",
        "_memo",
        "_queue",
        "_queue_held",
        "_raw_headers",
        "_snapshot_number",
        "given_away",
        "head_since",
        "holds",
        "linger_until",
        "peer",
        "scheme",
    )

    def __init__(self, server: Server, codec: Http1Codec, peer: str = "") -> None:
        super().__init__(server)
        self._codec = codec
        self._count = self.holds = 0
        self._drive: Drive | None = None
        self._queue: deque[tuple[Head | Refused, ClientBody | None]] = deque()
        self._incoming: ClientBody | None = None
        self._looping = self._queue_held = self._half_closed = False
        self._departure: Departure | None = None
        self._raw_headers: Sequence[Pair] = ()
        self._memo: dict[Any, Any] = {}
        self._snapshot_number = 0
        self.given_away = False
        self.peer = peer
        self.scheme = "http"
        self.head_since = self.idle_since = self.linger_until = 0.0

    def __repr__(self) -> str:
        if self.given_away:
            state = "given away"
        elif self.transport is None:
            state = "closed"
        elif self.linger_until:
            state = "lingering"
        else:
            state = f"busy with {self.exchange!r}" if self.exchange is not None else "idle"
        return f"<Http1Connection {self.peer} {state}, {len(self._queue)} queued>"

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.transport = None
        self._queue.clear()
        self._server.closed(self)
        if self._drive is None:
            return
        if is_kept(self.exchange):
            self.resume_writing()  # What is written goes nowhere from now on.
        else:
            self._drive.cancel()

    def data_received(self, data: bytes) -> None:
        codec = self._codec
        if self.idle_since and (head := codec.repeated(data)) is not None:
            # The common case: a whole request, and nothing else to do.
            self._begin(head, None)
            return
        events = codec.feed(data)
        if self.last and self.exchange is None and not self.linger_until:
            return  # It is closed; this was on its way already.
        if events:
            self._take(events)
        elif self.head_since == 0.0 and codec.head_bytes:
            self.head_since = self._server.now
        if codec.full and not self._queue_held:
            self._queue_held = True
            self.hold(True)
        elif codec.in_chunks and len(data) > TURN:
            self.hold(True)  # For a turn of the loop.
            asyncio.get_running_loop().call_soon(self.hold, False)

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is still answered (RFC 9112 section 9.6)."""
        if self.transport is None or self.scheme == "https" or self.linger_until:
            return False
        if self.exchange is not None and UPGRADE in self.exchange.notes:
            return False  # A handshake is under way, and a tunnel needs both directions.
        self._take(self._codec.eof())
        if self.exchange is None and not (self._writing_paused or self._queue):
            return False
        self._half_closed = True
        if self._departure is None:
            self._departure = Departure(self)
        return True

    # Requests, one after the other.

    def _take(self, events: Sequence[Event]) -> None:
        """Everything the events say first; what waits for it goes on after that."""
        incoming = read = self._incoming
        for event in events:
            if event.__class__ is Head:
                incoming = ClientBody(self) if event.more else None
                self._queue.append((event, incoming))
            elif event.__class__ is Refused:
                self._queue.append((event, None))
            elif incoming is not None:
                if event.__class__ is Data:
                    incoming.feed(event.data)
                    continue
                if event.__class__ is End:
                    incoming.end(event.trailers)
                else:
                    assert isinstance(event, Reset)
                    incoming.fail(event.failed)
                incoming = None
        self._incoming = incoming
        if read is not None:
            read.wake()
        if self.linger_until:
            if self._incoming is None:
                self.close()
        elif self.exchange is None:
            self._next()

    def _next(self) -> None:
        """Begin what is queued, as long as each is over at once and the client takes answers."""
        if self._looping or self.given_away:
            return
        self._looping, left = True, QUEUE
        queue, codec = self._queue, self._codec
        while self.exchange is None and self.transport and not (self.last or self._writing_paused):
            if (codec.backlog or self._queue_held) and codec.queued <= QUEUE // 2:
                self._take_up(codec.resume())
            if not left and queue:  # Others wait: a segment may hold thousands of requests.
                asyncio.get_running_loop().call_soon(self._next)
                break
            left -= 1
            if not queue:
                if self._half_closed:
                    self._end()
                self.idle_since = self._server.now
                break
            head, body = queue.popleft()
            codec.consumed()
            if isinstance(head, Refused):
                self.refuse(head.failed)
            else:
                self._begin(head, body)
        self._looping = False

    def _take_up(self, events: Sequence[Event]) -> None:
        """Take what was kept until now; read on, unless that has filled the queue again."""
        self._take(events)
        if self._queue_held and not self._codec.full:
            self._queue_held = False
            self.hold(False)

    def _begin(self, head: Head, body: ClientBody | None) -> None:
        """One request's whole way, as far as it goes without waiting. body: one that arrives."""
        self.head_since = self.idle_since = 0.0
        server = self._server
        # Attributes of a NamedTuple cost several times as much.
        method, target, headers, raw_headers, version, close, whole, _, upgrade, varied, same = head
        # SDKs and browsers repeat their fields; so does the memo of them (see Exchange.memo).
        snapshot = server.runtime.snapshot
        number = snapshot.number
        known = self._raw_headers
        if same and number == self._snapshot_number:
            self._raw_headers = known = raw_headers
        elif number != self._snapshot_number or (raw_headers is not known and raw_headers != known):
            self._raw_headers = known = raw_headers
            self._memo = self._another_memo(number, varied)
            self._snapshot_number = number
        exchange = self.admission.exchange(
            method,
            target,
            headers,
            known,
            version,
            self.peer,
            self.scheme,
            perf_counter(),
            self._memo,
        )
        if whole is not None:
            body = ClientBody(self, whole)
        if body is not None:
            self.admission.attach_body(exchange, body, self._go_ahead)
            self.body = body
        self.switching = upgrade and self._codec.switched and not self._queue
        self._count += 1
        self.last = close or self._count >= server.max_requests
        if version >= (1, 1):
            exchange.interim = self.interim
        else:
            exchange.memo = {}  # What goes on says the version (RFC 9110 section 7.6.3).
        context = copy_context() if snapshot.foreign else None
        self.exchange = exchange
        way = serve(exchange, self, server)
        drive = self._drive
        if drive is None:
            drive = self._drive = Drive(way, self._over, context)
        else:
            drive.renew(way, self._over, context)
        drive.resume(None)

    def _another_memo(self, number: int, varied: bool) -> dict[Any, Any]:
        """Return the memo of a request whose fields differ from those of the request before."""
        memo, opening = self._memo, self._codec.opening
        if opening is not None and not self._count:
            return opening.memo(self.peer, self.admission, number)
        return {FRAMING: memo[FRAMING]} if varied and FRAMING in memo else {}

    def _over(self, value: Any, error: BaseException | None) -> None:
        """The request is over: answered, broken off, or taken over by a tunnel."""
        self.exchange = None
        body, self.body = self.body, None
        if body is not None and (self._incoming is not None or self.holds):
            body.discard()
        if error is not None:
            if not isinstance(error, asyncio.CancelledError):
                log.error("a request was dropped", exc_info=error)
            self.abort()
        elif self.given_away or self.transport is None:
            return
        elif self.last:
            self._end()
        elif self.switching:
            # The upgrade has not taken place: what came behind it is HTTP.
            self._take_up(self._codec.decline())
            self._next()
        elif self._queue or self._codec.backlog or self._queue_held or self._half_closed:
            self._next()
        elif not self._writing_paused:
            self.idle_since = self._server.now

    def _end(self) -> None:
        """Answer nothing more. A client that still sends has to be read, or it would not read its
        answer before the reset."""
        self.last = True
        self._queue.clear()
        incoming = self._incoming
        if incoming is None:
            self.close()
        else:
            incoming.discard()
            self._linger()

    def _linger(self) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            self.linger_until = asyncio.get_running_loop().time() + LINGER
            if transport.can_write_eof():
                try:
                    transport.write_eof()
                except OSError:  # The client has reset the connection meanwhile.
                    transport.abort()

    def give_away(
        self, exchange: Exchange, reply: Reply, rest: bytes, protocol: asyncio.Protocol
    ) -> tuple[asyncio.Transport, bytes, bool]:
        transport = self.transport
        assert transport is not None
        if self.holds:
            transport.resume_reading()
        self.given_away = True
        transport.write(make_head(exchange, reply, LINES, close=False) + rest)
        transport.set_protocol(protocol)
        return transport, self._codec.tail(), self._writing_paused

    def taken_back(self) -> None:
        self.transport = None
        self._server.closed(self)

    # For the listener and its deadlines.

    @property
    def busy(self) -> bool:
        """Return True if a request or a tunnel is on it, or a request waits."""
        return self.exchange is not None or self.given_away or bool(self._queue)

    @property
    def awaiting_head(self) -> bool:
        """Return True if the next bytes belong to a new request's head: none is being handled or
        read to its end."""
        return (
            self.exchange is None
            and self._incoming is None
            and not (self._queue or self.given_away or self.linger_until)
        )

    def close(self) -> None:
        """Close once everything written has been taken."""
        self.last = True
        if self.transport is not None and not self.given_away:
            self.transport.close()

    def give_up_body(self, failed: Failed) -> None:
        """The request's body comes too slowly: its reader gets this failure, and the connection
        ends."""
        body, self._incoming = self.body, None
        if body is not None:
            body.fail(failed)
            body.wake()

    def refuse(self, failed: Failed, *, linger: bool = True) -> None:
        """Answer what never became a request, and close; `linger` while it may still be sent."""
        self.last = True
        if self.transport is None:
            return
        exchange, reply = self._server.refuse(self.peer, failed)
        self.transport.write(complete(exchange, reply, True))
        self._codec.stop()
        if linger and not self._half_closed:
            self._linger()
        else:
            self.close()

    def hold(self, held: bool) -> None:
        """Read no more for now, as a body's reader or the queue takes no more; or go on."""
        self.holds += 1 if held else -1
        transport = self.transport
        if transport is None or self.given_away or transport.is_closing():
            return
        if held and self.holds == 1:
            transport.pause_reading()
        elif not self.holds:
            transport.resume_reading()

    def look_for_end(self) -> None:
        """Called by the sweep while nothing is read: notice a client that leaves all the same."""
        transport = self.transport
        if transport is None or self.given_away or self._departure is not None:
            return
        if has_ended(transport):
            if self.scheme == "https":
                transport.abort()
            else:
                self._departure = Departure(self)
