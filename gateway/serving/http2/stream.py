"""One stream of HTTP/2: the Outlet of its request, and the Source of that request's body.

Frames go through the connection's session; what is written here goes out when the connection has
handled all that came, or at once. A body that is not read is not acknowledged, so its client stops
at the stream's window (RFC 9113 section 5.2).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextvars import copy_context
from time import perf_counter
from typing import Any, Protocol

from gateway.core.drive import Drive
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.headers import NOT_TRAILERS, Pair, lower
from gateway.core.hooks import is_kept
from gateway.core.wait import Wait
from gateway.protocols.http2.session import ErrorCode, Session
from gateway.serving.admission import Admission
from gateway.serving.body import ClientBody
from gateway.serving.http2.head import VERSION, Http2Head
from gateway.serving.http2.stream_transport import StreamTransport
from gateway.serving.http2.write import (
    head_fields,
    interim_fields,
    stated_length,
    trailer_fields,
)
from gateway.serving.lifecycle import serve
from gateway.serving.server import Server

log = logging.getLogger("gateway.serving")

_CONTINUE = [(b":status", b"100")]


class Carrier(Protocol):
    """The connection, as its streams see it. pieces: those of answers, which an honest client
    acknowledges."""

    session: Session
    server: Server
    admission: Admission
    peer: str
    scheme: str
    pieces: int

    def flush(self) -> None:
        """Send what the session has, now or when all that came has been handled."""

    def flush_together(self) -> None:
        """Send what the session has, together with other streams' answers of this turn."""

    def wait_for_room(self, stream: Http2Stream) -> Wait[None] | None:
        """Return a Wait for the moment when what is queued has gone out; None if it has."""

    def cut(self, stream: Http2Stream) -> None:
        """Stop the rest of a request's body once the answer has gone out."""


class Http2Stream:
    """`number` is the stream's. `body` is None without one, or once its request is over.

    open: it has not been reset, and its connection is there. awaits_body: more of the request is to
    come.
    """

    __slots__ = (
        "_answered",
        "_broken_off",
        "_carrier",
        "_drive",
        "_early",
        "_held",
        "_transport",
        "_unread",
        "admission",
        "awaits_body",
        "body",
        "exchange",
        "head",
        "last",
        "number",
        "open",
        "room",
        "snapshot",
        "switching",
    )

    def __init__(self, carrier: Carrier, number: int, head: Http2Head | Failed, more: bool) -> None:
        self._carrier = carrier
        self._drive: Drive | None = None
        sound = head.__class__ is Http2Head
        switching: bool = sound and head[5]  # type: ignore[index]
        self._answered = self._broken_off = self.last = False
        self._unread = 0
        self.admission = carrier.admission
        self.number = number
        self.head = head
        self.awaits_body = more
        self.body: ClientBody | None = (
            ClientBody(self, high_water=0) if more and sound and not switching else None
        )
        self._early = b""
        self._transport: StreamTransport | None = None
        self.exchange: Exchange | None = None
        self.snapshot: Any = None
        self.switching = self._held = switching
        self.open = True
        self.room: Wait[None] | None = None

    def __repr__(self) -> str:
        state = "open" if self.open else "closed"
        return f"<Http2Stream {self.number} {state} {self.exchange!r}>"

    # The request.

    def feed(self, data: bytes, end: bool) -> None:
        """More of its body. What waits for it goes on with `body.wake`."""
        self._unread += len(data)
        if end:
            self.awaits_body = False
        body = self.body
        if body is not None:
            body.feed(data)
            if end:
                body.end()
        elif self._transport is not None:
            self._transport.receive(data, end)
        elif self.switching:
            self._early += data
        if not self._held:
            self._acknowledge()

    def feed_trailers(self, fields: Iterable[Pair]) -> None:
        """The fields behind its body, which is complete."""
        self.awaits_body = False
        if self._transport is not None:
            self._transport.receive(b"", True)
        elif self.body is not None:
            self.body.end([pair for pair in fields if lower(pair[0]) not in NOT_TRAILERS])

    def run(self) -> None:
        """Go the request's whole way, as far as it goes without waiting."""
        head, carrier = self.head, self._carrier
        server = carrier.server
        if isinstance(head, Failed):
            exchange, reply = server.refuse(carrier.peer, head)
            self.send(exchange, reply)
            self._leave_body()
            return
        body = self.body
        # Attributes of a NamedTuple cost several times as much.
        method, target, headers, raw_headers, memo, _ = head
        exchange = self.admission.exchange(
            method,
            target,
            headers,
            raw_headers,
            VERSION,
            carrier.peer,
            carrier.scheme,
            perf_counter(),
            memo,
        )
        if body is not None:
            self.admission.attach_body(exchange, body, self._go_ahead)
        exchange.interim = self.interim
        self.exchange = exchange
        context = copy_context() if server.runtime.snapshot.foreign else None
        drive = self._drive = Drive(serve(exchange, self, server), self._over, context)
        drive.resume(None)

    def _over(self, value: Any, error: BaseException | None) -> None:
        """The request is over: answered, or broken off."""
        self._drive = self.exchange = None
        if error is not None:
            if not isinstance(error, asyncio.CancelledError):
                log.error("a request was dropped", exc_info=error)
            self.abort()
        if self.awaits_body or self.body is not None or self.switching:
            self._leave_body()

    def _leave_body(self) -> None:
        """Nothing reads the rest of the request's body."""
        body, self.body = self.body, None
        if body is not None:
            body.discard()
        if self._transport is not None:
            return
        if self.switching:
            self._early = b""
            self.hold(False)
        if self.awaits_body and self.open:
            self._carrier.cut(self)

    def closed(self, code: int) -> bool:
        """The stream has ended; what is still done for it is given up. Return True if its request
        had not been answered, begun or not, and it is not the gateway that broke it off."""
        self.open = self.awaits_body = False
        if self._unread:
            self._acknowledge()
        if self._transport is not None:
            self._transport.lost(None if code == ErrorCode.NO_ERROR else ConnectionResetError())
        if self._answered:
            return False
        drive, exchange = self._drive, self.exchange
        if drive is not None and (exchange is None or exchange.written or not is_kept(exchange)):
            drive.cancel()
        return not self._broken_off

    @property
    def unsent(self) -> int:
        """Bytes of the answer that the client has no window for. One, when there are none, for the
        end of a stream whose request is over: without a window that cannot be sent either."""
        return self._carrier.session.queued(self.number) or int(self._drive is None)

    def give_up_body(self, failed: Failed) -> None:
        """The request's body comes too slowly: its reader gets this failure."""
        body = self.body
        if body is not None:
            body.fail(failed)
            body.wake()

    # The Source of its body.

    def hold(self, held: bool) -> None:
        self._held = held
        if not held and self._unread:
            self._acknowledge()
            self._carrier.flush()

    def _acknowledge(self) -> None:
        """Let the client send as much again as has been read."""
        unread, self._unread = self._unread, 0
        if unread:
            self._carrier.session.consumed(self.number, unread)

    def _go_ahead(self) -> None:
        """100 (Continue): the body is wanted (RFC 9110 section 10.1.1)."""
        if self.open:
            self._carrier.session.interim(self.number, _CONTINUE)
            self._carrier.flush()

    # The Outlet.

    def send(self, exchange: Exchange, reply: Reply) -> None:
        length, goes = stated_length(exchange, reply)
        fields = head_fields(exchange, reply, length)
        exchange.written = True
        if not self.open:
            return
        carrier = self._carrier
        self._answered = True
        if self.switching:
            self._deny(fields)
        body = b""
        if goes:
            body = reply.body  # type: ignore[assignment]
            size = exchange.bytes_out = len(body)
            carrier.pieces += 1 + (size >> 13)
        carrier.session.answer(self.number, fields, body)
        carrier.flush_together()

    def begin(self, exchange: Exchange, reply: Reply) -> None:
        fields = head_fields(exchange, reply, reply.length)
        exchange.written = True
        if self.open:
            session = self._carrier.session
            if self.switching:
                self._deny(fields)
            session.respond(self.number, fields)
            if "priority" not in exchange.headers:
                session.take_turns(self.number)
            self._carrier.flush()

    def _deny(self, fields: list[Pair]) -> None:
        """A success would begin a tunnel (RFC 8441 section 5), and there is none."""
        if fields[0][1][:1] == b"2":
            fields[0] = (b":status", b"501")

    def give_away(
        self, exchange: Exchange, reply: Reply, rest: bytes, protocol: asyncio.Protocol
    ) -> tuple[asyncio.Transport, bytes, bool]:
        fields = head_fields(exchange, reply, None)
        fields = [field for field in fields if field[0] != b"sec-websocket-accept"]
        fields[0] = (b":status", b"200")
        self._answered = True
        self._carrier.session.respond(self.number, fields)
        transport = self._transport = StreamTransport(self, protocol)
        early, self._early = self._early, b""
        if rest:
            transport.write(rest)
        if not self.awaits_body:  # It has ended meanwhile, and its end goes behind what came early.
            asyncio.get_running_loop().call_soon(transport.receive, b"", True)
        self.hold(False)
        self._carrier.flush()
        return transport, early, False

    def taken_back(self) -> None:
        """Nothing: the stream has been closed."""

    def write(self, data: bytes) -> Wait[None] | None:
        if not self.open:
            return None  # Cancellation is on its way.
        return self.send_bytes(data)

    def send_bytes(self, data: bytes) -> Wait[None] | None:
        carrier = self._carrier
        carrier.pieces += 1 + (len(data) >> 13)
        carrier.session.send(self.number, data)
        carrier.flush()
        return carrier.wait_for_room(self)

    def end(self, exchange: Exchange, trailers: Iterable[Pair]) -> None:
        if not self.open:
            return
        self._answered = True
        fields = trailer_fields(exchange, trailers)
        if fields:
            self._carrier.session.trailers(self.number, fields)
            self._carrier.flush()
        else:
            self.send_end()

    def send_end(self) -> None:
        self._carrier.session.send(self.number, b"", end=True)
        self._carrier.flush()

    def finish(self) -> None:
        if self.open and self.awaits_body:
            self._carrier.cut(self)

    def interim(self, status: int, pairs: Iterable[Pair]) -> None:
        exchange, body = self.exchange, self.body
        if exchange is None or exchange.written or not self.open:
            return
        if status == 100:
            if body is None or body.go_ahead is None:
                return  # The client has not asked for it, or has had it from the gateway.
            body.go_ahead = None
        self._carrier.session.interim(self.number, interim_fields(status, pairs))
        self._carrier.flush()

    def abort(self) -> None:
        """Break the stream off, visibly to the client; others go on."""
        self.reset(ErrorCode.INTERNAL_ERROR)

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        if self.open:
            self.awaits_body, self._broken_off = False, True
            self._carrier.session.reset(self.number, code)
            self._carrier.flush()
