"""An HTTP/1.1 connection to an endpoint, and the exchange on it.

The protocol's bytes are read in codec.py and headers.py writes them. What is sent, and whether it
is tried again, is decided in forward.py; transport.py opens sockets and sweeps their deadlines.

Suspicion (RFC 9112 sections 6.3 and 9.3): a connection is used again only when the answer ended
exactly where its framing said, nothing came after it, and the request had been sent whole. Anything
else closes it.
"""

from __future__ import annotations

import asyncio

from mypy_extensions import mypyc_attr

from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.protocols.websocket import LINES
from gateway.upstream.connections.endpoint_socket import TURN_EVENTS
from gateway.upstream.connections.http1.codec import (
    End,
    Event,
    Interim,
    Reset,
    ResponseCodec,
    Trailers,
    Upgraded,
)
from gateway.upstream.connections.http1.headers import TIED, names_connection_auth, request_head
from gateway.upstream.connections.http1.receipt import sent, unacknowledged
from gateway.upstream.connections.http1.sending import BODY_METHODS, NO_BODY, RequestSender
from gateway.upstream.connections.http1.switched import Switched
from gateway.upstream.connections.interfaces import NEVER, Owner, ResponseHandler
from gateway.upstream.connections.stream import AnswerStream
from gateway.upstream.pool.endpoint import Endpoint

WHOLE = 64 * 1024
"""Bodies with a Content-Length up to this many bytes are handed over complete, so that they leave
in one write."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(RequestSender):
    """A socket on which one exchange at a time goes on: an interfaces.Stream, busy while it has a
    handler."""

    __slots__ = (
        "_body",
        "_codec",
        "_handler",
        "_head_only",
        "_reply",
        "_stream",
        "_used",
    )

    def __init__(self, owner: Owner, endpoint: Endpoint, max_idle: int) -> None:
        super().__init__(owner, endpoint, max_idle)
        self._codec = ResponseCodec()
        self._used = False
        # The exchange.
        self._handler: ResponseHandler | None = None
        self._head_only = False
        self._reply: Reply | None = None
        self._body: list[bytes] = []
        self._stream: AnswerStream | None = None

    def __repr__(self) -> str:
        state = "closed" if self.closed else "idle" if self._handler is None else "busy"
        return f"<Connection {self.endpoint.name} {state}>"

    # The exchange, from the sender's side.

    def send(
        self,
        exchange: Exchange,
        target: str,
        host: str,
        handler: ResponseHandler,
        timeouts: TimeoutsConfig,
        limit: float = NEVER,
    ) -> bool:
        """Start an exchange; see interfaces.Stream."""
        body, more = exchange.body, False
        if handler.accept:
            data = request_head(exchange, target, host, LINES)
        elif body is None:
            framing = NO_BODY if exchange.method in BODY_METHODS else b""
            data = request_head(exchange, target, host, framing)
        else:
            data, more = self._with_body(exchange, body, target, host)
        if TIED in exchange.memo:
            self.retire()
        self.start(data, handler, timeouts, exchange.method == "HEAD", more, limit)
        return more

    def start(
        self,
        data: bytes,
        handler: ResponseHandler,
        timeouts: TimeoutsConfig,
        head_only: bool = False,
        more: bool = False,
        limit: float = NEVER,
    ) -> None:
        """Start an exchange with `data`, the request's head and what of its body goes with it.

        head_only: the answer has no body (RFC 9110 section 9.3.2: HEAD). more: `write` and `end`
        follow.
        """
        self._handler = handler
        self._timeouts = timeouts
        self._sending = more
        codec = self._codec
        self._head_only = codec.head_only = head_only
        codec.upgrade = handler.accept != b""
        self.limit = limit
        self.deadline = self._owner.now + ((timeouts.write if more else timeouts.read) or NEVER)
        self._before = -1 if more else self._written
        self._written += len(data)
        if more or not self._used:
            self._transport.write(data)
        else:
            self._unsent = data
            if self.endpoint.in_flight > 1:
                self._owner.write_later(self)
            else:  # Where there are no others it would cost a turn more.
                self.write_request()

    def write_request(self) -> None:
        """Send the request that has waited for the end of the turn, unless something has come
        before it: an answer that was not asked for would be taken for its own."""
        data, self._unsent = self._unsent, b""
        if self.closed:
            return
        poll = self.poll  # has_unread_input, without the call.
        if poll is not None and poll.poll(0):
            self._not_received()
        else:
            self._transport.write(data)

    def give_up(self) -> None:
        """Close the socket, so that the endpoint can stop working for an answer that is no longer
        wanted."""
        self.break_off(Failed(Failure.CLIENT_GONE, why="the reader gave the answer up"))

    def break_off(self, failed: Failed) -> None:
        """Close the socket because of what has happened elsewhere. An answer that is still arriving
        ends with `failed`."""
        handler, stream = self._handler, self._stream
        self._handler = self._stream = None
        self.close()
        if stream is not None and handler is not None:
            handler.ended(failed)
            stream.end(failed)

    def expire(self, now: float) -> None:
        """Called by the sweep when the deadline or the exchange's own limit has passed."""
        name, timeouts = self.endpoint.name, self._timeouts
        if now >= self.limit:
            limits = "the route's timeout or timeouts.total"
            self._fail(Failed(Failure.TIMEOUT, why=f"{name} was not done within {limits}"))
        elif self._reading_paused:
            self.deadline = now + (timeouts.read or NEVER)  # It is our client that is slow.
        elif self._sending:
            self._fail(
                Failed(Failure.WRITE_TIMEOUT, why=f"{name} took no bytes for {timeouts.write:g} s")
            )
        else:
            self._fail(
                Failed(Failure.READ_TIMEOUT, why=f"{name} sent no bytes for {timeouts.read:g} s")
            )

    # asyncio.Protocol.

    def data_received(self, data: bytes) -> None:
        handler, codec = self._handler, self._codec
        if handler is None:
            # Bytes that were not asked for: the next answer could not be distinguished from them.
            self.leave()
            self.close()
            return
        if self._unsent:
            self._not_received()
            return
        repeat = codec.repeat
        if repeat is not None:
            if not (self._sending or self._head_only) and (reply := repeat.reply(data)) is not None:
                self._handler = None
                self._used = True
                self.keep()
                handler.answered(reply)
                return
            codec.parse_next()
        self._extend(self._sending)
        events = codec.feed(data)
        self._take(events)
        if len(events) > TURN_EVENTS:
            self.yield_turn()
        if self._held and not self.closed:
            self._write_held()

    def eof_received(self) -> bool:
        codec = self._codec
        if self._handler is None:
            self.leave()
            self.close()  # Before connection_lost says so, for nothing may be sent on it any more.
        elif (events := codec.eof()) and self.ended_by_peer():
            self._take(events)
        elif self._unsent or (
            self._unheard() and unacknowledged(self._transport) >= self._written - self._before
        ):
            self._not_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        lost, self.closed = not self.closed, True
        self._owner.open.discard(self)
        if lost and exc is not None and self._handler is not None and (data := self.salvage()):
            self.data_received(data)
        name = self.endpoint.name
        if self._handler is None:
            self.leave()
        elif self._codec.begun:
            self._fail(
                Failed(
                    Failure.INCOMPLETE_RESPONSE,
                    why=f"{name} closed the connection within its answer",
                )
            )
        elif self._unsent or (
            self._unheard() and (left := sent(self._transport)) is not None and left <= self._before
        ):
            self._not_received()
        else:
            failed = Failed(
                Failure.CONNECTION_RESET, why=f"{name} closed the connection before it answered"
            )
            self._fail(failed, stale=self._used)

    def _unheard(self) -> bool:
        """Return True if a request was written at once and not answered at all: the endpoint may
        not have it."""
        return self._before >= 0 and not self._codec.begun

    def _not_received(self) -> None:
        why = f"{self.endpoint.name} closed the connection before the request reached it"
        self._fail(Failed(Failure.NOT_RECEIVED, why=why), stale=self._used)

    # Events of the codec.

    def _take(self, events: list[Event]) -> None:
        """Act on what has come: the answer's parts first, what waits for it last."""
        end: End | None = None
        trailers: tuple[Pair, ...] = ()
        body = self._body
        for event in events:
            if type(event) is bytes:
                body.append(event)
            elif isinstance(event, Reply):
                self._reply = event
            elif type(event) is End:
                end = event
            elif type(event) is Trailers:
                trailers = event.fields
            elif type(event) is Interim:
                self._handler.interim(event.status, event.fields)  # type: ignore[union-attr]
            elif type(event) is Upgraded:
                self._switch(event)
                return
            elif type(event) is Reset:
                if self._stream is not None:
                    self._stream.feed(body)
                    body.clear()
                self._fail(Failed(Failure.BAD_RESPONSE, why=f"{self.endpoint.name} {event.why}"))
                return
        stream, reply = self._stream, self._reply
        if reply is None:
            return
        if end is not None:
            self._finish(end.reusable, trailers)
        elif stream is not None:
            stream.feed(body)
            body.clear()
            stream.wake()
        elif reply.length is None or reply.length > WHOLE:
            handler = self._handler
            self._start_stream(reply)
            handler.answered(reply)  # type: ignore[union-attr]

    def _switch(self, upgraded: Upgraded) -> None:
        """101: nothing that follows is HTTP. Reads no more until the socket is taken over, or
        closed."""
        handler = self._handler
        assert handler is not None
        try:
            reply = Switched(self, handler, upgraded, self._timeouts.tunnel)
        except Failed as failed:
            self._fail(failed)
            return
        self._handler = None
        self.deadline = self.limit = NEVER
        self._owner.open.discard(self)
        self._transport.pause_reading()
        handler.answered(reply)

    def hand_over(self, protocol: asyncio.Protocol) -> asyncio.Transport | None:
        """After 101: the socket, to be heard by `protocol` from now on; None when it is closed.
        This connection is done."""
        transport = self._transport
        if self.closed:
            return None
        self.closed = True
        transport.set_protocol(protocol)
        return transport

    def _start_stream(self, reply: Reply) -> AnswerStream:
        stream = self._stream = AnswerStream(self)
        stream.feed(self._body)
        self._body.clear()
        reply.body = stream
        return stream

    def _finish(self, reusable: bool, trailers: tuple[Pair, ...]) -> None:
        """The answer is complete: keep the connection if nothing speaks against it, then tell the
        handler."""
        handler, stream, reply, body = self._handler, self._stream, self._reply, self._body
        assert handler is not None and reply is not None
        started = stream is not None
        if reply.status == 401 and names_connection_auth(reply.get(b"www-authenticate") or b""):
            self.retire()  # What follows on it would be answered as this client's.
        if trailers and stream is None:
            stream = self._start_stream(reply)
        elif stream is not None:
            stream.feed(body)
        self._handler = self._stream = self._reply = None
        self._body = []
        if (
            reusable
            and not self._sending
            and (
                not started or not self.has_unread_input()
            )  # What follows a long answer may not have been read with its end.
        ):
            if self._reading_paused:
                self.resume_reading()
            self._used = True
            self.keep()
        else:
            self.close()
        if stream is not None:
            if not started:
                handler.answered(reply)
            # First, so that nothing reads the request's body any more when its answer ends.
            handler.ended(None)
            stream.end(None, trailers)
            return
        if not self._head_only:
            reply.body = body[0] if len(body) == 1 else b"".join(body)
            if reply.status != 304:
                reply.length = len(reply.body)
        handler.answered(reply)

    # Ends.

    def _fail(self, failed: Failed, stale: bool = False) -> None:
        handler, stream = self._handler, self._stream
        self._handler = self._stream = None
        self.close()
        if handler is None:
            return
        if stream is not None:
            handler.ended(failed)
            stream.end(failed)
        else:
            handler.failed(failed, stale)
