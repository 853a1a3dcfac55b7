"""One socket to an endpoint and the HTTP/1.1 exchange that is on it, if any: a parser's callbacks, framing, deadlines, the end.

What is sent, and whether it is tried again, is decided in forward.py; transport.py opens sockets and sweeps their deadlines.

Suspicion (RFC 9112 sections 6.3 and 9.3): a connection is used again only when the answer ended exactly where its framing said,
nothing came after it, and the request had been sent whole. Anything else closes it.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from typing import TYPE_CHECKING, Protocol

import httptools

from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import FRAMING, HOP_BY_HOP, Pair, lower
from gateway.upstream.connections.http1.answers import END, MAX_HEAD, AnswerStream, Repeat, understand
from gateway.upstream.connections.http1.receipt import sent, unacknowledged
from gateway.upstream.connections.http1.switched import Switched
from gateway.upstream.pool.endpoint import Endpoint

if TYPE_CHECKING:
    from gateway.upstream.connections.transport import Transport

WHOLE = 64 * 1024
"""Bodies with a Content-Length up to this many bytes are handed over complete, so that they leave in one write."""
MAX_HEADERS = 256

PATIENCE = 16
"""Answers to parse, after one repeated nothing of the one before, until another is held against the one before."""

_H = ord("H")
_NEVER = float("inf")
_DEFAULT_TIMEOUTS = TimeoutsConfig()


class Flight(Protocol):
    """Whoever waits for an answer. Exactly one of `answered` and `failed` is called, once, unless it gave up first."""

    def answered(self, reply: Reply) -> None:
        """The answer's head is here; its body is complete (bytes) or still arriving (a stream)."""

    def failed(self, failed: Failed, stale: bool) -> None:
        """There will be no answer. `stale`: a kept connection turned out closed before any byte of an answer came."""

    def ended(self, failed: Failed | None) -> None:
        """After `answered` with a stream: the body has ended, broke off (`failed`), or was given up by its reader."""


class Connection(asyncio.Protocol):
    """One socket to `endpoint`, and the exchange that is on it (`_flight`), if any.

    A dozen attributes are not enough here: it is a parser's callbacks, a keep-alive entry and an exchange in one, because an
    object for each would cost more than the exchange does.
    """

    __slots__ = (
        "_before",
        "_beside",
        "_body",
        "_chunked",
        "_complete",
        "_drain",
        "_extra",
        "_flight",
        "_head_bytes",
        "_head_only",
        "_headers",
        "_keep",
        "_last",
        "_max_idle",
        "_owner",
        "_parser",
        "_patience",
        "_reading_paused",
        "_repeat",
        "_reply",
        "_sending",
        "_stream",
        "_timeouts",
        "_trailers",
        "_transport",
        "_understood",
        "_until_close",
        "_used",
        "_writing_paused",
        "_written",
        "closed",
        "deadline",
        "endpoint",
        "idle_since",
        "limit",
    )

    def __init__(self, owner: Transport, endpoint: Endpoint, max_idle: int) -> None:
        self.endpoint = endpoint
        self.closed = False
        self.idle_since = 0.0
        self.deadline = self.limit = _NEVER
        self._owner = owner
        self._max_idle = max_idle
        self._timeouts = _DEFAULT_TIMEOUTS
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._flight: Flight | None = None
        self._stream: AnswerStream | None = None
        self._drain: asyncio.Future[None] | None = None
        self._writing_paused = self._reading_paused = False
        self._used = False
        self._before = self._written = 0
        """Bytes written to it, and before the request that is on it; -1 when that goes out in parts, which are not counted."""
        self._head_only = self._sending = self._complete = self._extra = self._keep = self._until_close = False
        self._reply: Reply | None = None
        self._headers: list[Pair] = []
        self._body: list[bytes] = []
        self._head_bytes = self._beside = 0
        self._trailers: tuple[Pair, ...] = ()
        self._last: list[Pair] = []
        self._understood = understand([])
        self._repeat: Repeat | None = None
        self._patience = 0

    def __repr__(self) -> str:
        state = "closed" if self.closed else "idle" if self._flight is None else "busy"
        return f"<Connection {self.endpoint.name} {state}>"

    # The exchange, from the sender's side.

    def send(
        self,
        data: bytes,
        flight: Flight,
        timeouts: TimeoutsConfig,
        *,
        head_only: bool = False,
        more: bool = False,
        limit: float = _NEVER,
    ) -> None:
        """Starts an exchange.

        data: the request's head and what of its body goes with it; `more` says that `write` and `sent` follow.
        head_only: the answer has no body whatever it says (RFC 9110 section 9.3.2: HEAD).
        limit: the moment (clock.monotonic) by which all of it must be over.
        """
        self._flight = flight
        self._timeouts = timeouts
        self._head_only = head_only
        self._sending = more
        self.limit = limit
        self.deadline = self._owner.now + (timeouts.write if more else timeouts.read)
        self._before = -1 if more else self._written
        self._written += len(data)
        self._transport.write(data)  # type: ignore[union-attr]

    def write(self, data: bytes) -> asyncio.Future[None] | None:
        """More of the request's body. A future that comes back is to be awaited before the next write (back-pressure)."""
        if self.closed:
            return None
        self.deadline = self._owner.now + self._timeouts.write
        self._transport.write(data)  # type: ignore[union-attr]
        if not self._writing_paused:
            return None
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_future()
        return self._drain

    def hold(self) -> None:
        """Stops the clock while the next part of the body is awaited from the client, whose slowness is not the endpoint's."""
        self.deadline = _NEVER

    def sent(self) -> None:
        """The request's body is complete."""
        self._sending = False
        self.deadline = self._owner.now + self._timeouts.read

    def give_up(self) -> None:
        """Nobody wants the answer any more: closes the socket, so that the endpoint can stop working for it too."""
        self.break_off(Failed(Failure.CLIENT_GONE, why="the reader gave the answer up"))

    def break_off(self, failed: Failed) -> None:
        """Closes the socket because of what has happened elsewhere. An answer that is still arriving ends with `failed`."""
        flight, stream = self._flight, self._stream
        self._flight = self._stream = None
        self.close()
        if stream is not None and flight is not None:
            flight.ended(failed)
            stream.end(failed)

    def expire(self, now: float) -> None:
        """Called by the sweep when the deadline or the exchange's own limit has passed."""
        name = self.endpoint.name
        if now >= self.limit:
            why = f"{name} was not done when the time for all of it (the route's timeout, timeouts.total) was over"
            self._fail(Failed(Failure.TIMEOUT, why=why))
        elif self._reading_paused:
            self.deadline = now + self._timeouts.read  # It is our client that is slow.
        elif self._sending:
            self._fail(Failed(Failure.WRITE_TIMEOUT, why=f"{name} took no bytes for {self._timeouts.write:g} s"))
        else:
            self._fail(Failed(Failure.READ_TIMEOUT, why=f"{name} sent no bytes for {self._timeouts.read:g} s"))

    def close(self) -> None:
        """Closes the socket at once. Whoever waits on it must have been told before."""
        self.closed = True
        self.deadline = self.limit = _NEVER
        self._owner.open.discard(self)
        if self._transport is not None:
            self._transport.abort()
        self._wake_writer()

    def speaks(self) -> bool:
        """Whether the kernel holds something from the endpoint that has not been read: bytes, or that it has closed."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)  # type: ignore[union-attr]
        return bool(poll.poll(0))

    def pause_reading(self) -> None:
        if not self._reading_paused and not self.closed:
            self._reading_paused = True
            self._transport.pause_reading()  # type: ignore[union-attr]

    def resume_reading(self) -> None:
        if self._reading_paused and not self.closed:
            self._reading_paused = False
            self.deadline = self._owner.now + self._timeouts.read
            self._transport.resume_reading()  # type: ignore[union-attr]

    def retire(self) -> None:
        """Not to be kept: it closes after the answer that is under way."""
        self._max_idle = 0

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._owner.open.add(self)

    def data_received(self, data: bytes) -> None:
        flight, repeat = self._flight, self._repeat
        if flight is None:
            # Bytes nobody asked for: the next answer on this socket could not be told from them.
            self._leave()
            self.close()
            return
        if repeat is not None:
            # The last answer came in one piece; this one, too, and with the same head, or nearly so?
            same = len(data) == repeat.size and data.startswith(repeat.head)
            if not (self._head_only or self._sending) and (same or repeat.varied(data)):
                repeat.used = True
                self._flight = None
                self._rest()
                flight.answered(repeat.reply(data))
                return
            self._repeat = None
            if not repeat.used:
                self._patience = PATIENCE
        self.deadline = self._owner.now + (self._timeouts.write if self._sending else self._timeouts.read)
        stream = self._stream
        begins = not self._head_bytes and self._reply is None
        if stream is not None:
            before = stream.taken
        elif begins and data[0] != _H:
            # Nothing but "HTTP/" begins an answer (RFC 9112 section 4); the parser would take an empty line, ICE and RTSP too.
            self._fail(Failed(Failure.BAD_RESPONSE, why=f"{self.endpoint.name} sent something else than HTTP"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._complete:
                cause = error.__context__ if isinstance(error.__context__, Failed) else error
                self._fail(Failed(Failure.BAD_RESPONSE, why=f"{self.endpoint.name} sent an invalid answer: {cause}"))
                return
            self._extra = True  # The answer itself was fine; what came after it was not.
        except httptools.HttpParserUpgrade as upgrade:
            self._switch(data[upgrade.args[0] :])
            return
        reply = self._reply
        if self._complete:
            if self._trailers and self._stream is None:
                self._start_stream(reply)  # type: ignore[arg-type]
                if self._flight is None:
                    return  # Given up as soon as it was heard of.
            self._finish(data if begins else b"")
        elif reply is None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._fail(Failed(Failure.BAD_RESPONSE, why=f"{self.endpoint.name} sent a head of over {MAX_HEAD} bytes"))
        elif stream is None:
            if reply.length is None or reply.length > WHOLE:
                self._start_stream(reply)
        elif stream.taken != before:
            self._beside = 0
        else:
            self._beside += len(data)
            if self._beside > MAX_HEAD:  # A chunk's size or extension, or a trailer section, that never ends.
                self._fail(Failed(Failure.BAD_RESPONSE, why=f"{self.endpoint.name} sent {MAX_HEAD} bytes that are no body"))

    def eof_received(self) -> bool:
        if self._flight is None:
            self._leave()
            self.close()  # Before connection_lost says so, for nothing may be sent on it any more.
        elif self._until_close and _authentic(self._transport):
            self._complete = True  # RFC 9112 section 6.3, rule 8: the end of the connection is the end of the body.
            self._finish(b"")
        elif self._unheard() and unacknowledged(self._transport) >= self._written - self._before:  # type: ignore[arg-type]
            self._not_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._owner.open.discard(self)
        self._wake_writer()
        name = self.endpoint.name
        if self._flight is None:
            self._leave()
        elif self._reply is not None or self._head_bytes:
            self._fail(Failed(Failure.INCOMPLETE_RESPONSE, why=f"{name} closed the connection within its answer"))
        elif self._unheard() and (left := sent(self._transport)) is not None and left <= self._before:  # type: ignore[arg-type]
            self._not_received()
        else:
            failed = Failed(Failure.CONNECTION_RESET, why=f"{name} closed the connection before it answered")
            self._fail(failed, stale=self._used)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake_writer()

    def _unheard(self) -> bool:
        """Whether a request is out, written at once, to which nothing has been said: one that the endpoint may not have."""
        return self._before >= 0 and self._reply is None and not self._head_bytes

    def _not_received(self) -> None:
        why = f"{self.endpoint.name} closed the connection before the request reached it"
        self._fail(Failed(Failure.NOT_RECEIVED, why=why), stale=self._used)

    # httptools callbacks, in the order in which they come.

    def on_message_begin(self) -> None:
        if self._complete:
            self._extra = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reply is None:
            self._headers.append((name, value))
        elif not self._complete:
            self._trailer(name, value)

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            # RFC 9110 section 15.2: interim answers may come first; ours ends with the final one. 101 must have been asked for.
            flight = self._flight
            if status == 101 and flight is not None and (accept := getattr(flight, "accept", b"")):
                if not self._parser.should_upgrade():
                    raise Failed(Failure.BAD_RESPONSE, why="a 101 that does not upgrade")
                self._reply = Switched(self, flight, self._headers, accept, self._timeouts.tunnel)
                return
            if status not in (100, 102, 103):
                raise Failed(Failure.BAD_RESPONSE, why=f"an unasked-for status {status}")
            if not FRAMING.isdisjoint(lower(name) for name, _ in self._headers):
                # RFC 9110 section 8.6 and RFC 9112 section 6.1 forbid it, and some would read a body here.
                raise Failed(Failure.BAD_RESPONSE, why=f"an interim {status} with a body's length")
            self._headers = []
            return
        if len(self._headers) > MAX_HEADERS:
            raise Failed(Failure.BAD_RESPONSE, why=f"more than {MAX_HEADERS} header fields")
        if self._headers == self._last:
            understood = self._understood
        else:
            understood = self._understood = understand(self._headers)
            self._last = self._headers
        headers, index, joined, length, coding, connection = understood
        # Its reason phrase is dropped: RFC 9112 section 4 lets nobody rely on it.
        reply = Reply.known(status, headers.copy(), index.copy(), joined, length)
        self._keep = b"close" not in connection
        version = self._parser.get_http_version()
        if version != "1.1":
            if version != "1.0" or coding:
                # RFC 9112 section 6.1: Transfer-Encoding in HTTP/1.0 is faulty framing.
                raise Failed(Failure.BAD_RESPONSE, why=f"HTTP/{version} {'with Transfer-Encoding' if coding else ''}")
            self._keep = self._keep and b"keep-alive" in connection
        if coding and coding != b"chunked":
            raise Failed(Failure.BAD_RESPONSE, why=f"Transfer-Encoding: {coding!r}")
        if self._head_only:
            self._complete = True
        elif status == 204 or status == 304:
            if coding or (length and status == 204):
                self._keep = False  # It may well send the body that it announces, and that would be taken for the next answer.
            reply.length = length if status == 304 else 0
        elif length is None and not coding:
            self._until_close = True
            self._keep = False
        self._reply = reply

    def on_body(self, chunk: bytes) -> None:
        if self._complete:
            self._extra = True
        elif self._stream is not None:
            self._stream.feed(chunk)
        else:
            self._body.append(chunk)

    def on_message_complete(self) -> None:
        if self._reply is not None:
            self._complete = True

    def _trailer(self, name: bytes, value: bytes) -> None:
        """A field after a chunked body, for its reader; never merged with the header section (RFC 9110 section 6.5.1)."""
        if lower(name) in HOP_BY_HOP:
            self._keep = False  # The parser heeds some of them even here.
        self._trailers = (*self._trailers, (name, value))
        if len(self._trailers) > MAX_HEADERS:
            raise Failed(Failure.BAD_RESPONSE, why=f"more than {MAX_HEADERS} trailer fields")

    # Ends.

    def _switch(self, rest: bytes) -> None:
        """101: nothing that follows is HTTP. Reads no more until whoever has the answer takes the socket over, or closes it."""
        flight, reply = self._flight, self._reply
        assert flight is not None and isinstance(reply, Switched)
        self._flight = None
        self.deadline = self.limit = _NEVER
        self._owner.open.discard(self)
        self._transport.pause_reading()  # type: ignore[union-attr]
        reply.rest = rest
        flight.answered(reply)

    def hand_over(self, protocol: asyncio.Protocol) -> asyncio.Transport | None:
        """After 101: the socket, to be heard by `protocol` from now on; None when it is closed. This connection is done."""
        transport, self._transport = self._transport, None
        if transport is None or self.closed:
            return None
        self.closed = True
        transport.set_protocol(protocol)
        return transport

    def _start_stream(self, reply: Reply) -> None:
        stream = self._stream = AnswerStream(self)
        for chunk in self._body:
            stream.feed(chunk)
        reply.body = stream
        self._flight.answered(reply)  # type: ignore[union-attr]

    def _finish(self, data: bytes) -> None:
        """The answer is complete (it is `data`, if it came in one piece): the connection goes to the idle ones if nothing speaks
        against it, then whoever waits is told."""
        flight, stream, reply, body = self._flight, self._stream, self._reply, self._body
        assert flight is not None and reply is not None
        self._flight = self._stream = None
        if (
            self._keep
            and not (self._extra or self._sending)
            and (stream is None or not self.speaks())  # What follows a long answer may not have been read with its end.
        ):
            self._repeat = self._repeated(data, reply)
            if self._head_only:
                self._parser = httptools.HttpResponseParser(self)  # The old one still expects the body that HEAD has not.
            if self._reading_paused:
                self.resume_reading()
            self._complete = False
            self._reply = None
            self._headers, self._body = [], []
            self._head_bytes = self._beside = 0
            self._rest()
        else:
            self.close()
        if stream is not None:
            if self._trailers:
                stream.trailers, self._trailers = self._trailers, ()
            flight.ended(None)  # First, so that nothing reads the request's body any more when its answer ends.
            stream.end(None)
            return
        if not self._head_only:
            reply.body = body[0] if len(body) == 1 else b"".join(body)
            if reply.status != 304:
                reply.length = len(reply.body)
        flight.answered(reply)

    def _rest(self) -> None:
        """To the idle ones, where there is room."""
        idle = self.endpoint.idle
        if self._writing_paused or self.closed or len(idle) >= self._max_idle:
            self.close()
            return
        self._used = True
        self.deadline = self.limit = _NEVER
        self.idle_since = self._owner.now
        idle.append(self)

    def _repeated(self, data: bytes, reply: Reply) -> Repeat | None:
        """What the next answer may repeat of this one, which was all in `data`; not of a first one, which may be the last."""
        if self._patience:
            self._patience -= 1
            return None
        if not (data and self._used) or reply.length is None or self._head_only or reply.status in (204, 304):
            return None
        headers, index, _, stated, *_ = self._understood
        if stated is None:
            return None
        end = len(data) - stated
        if data.find(END) + len(END) != end:  # Something stands before the head or behind the body: 100 (Continue), CRLF.
            return None
        return Repeat(data[:end], reply.status, headers, index, stated)

    def _fail(self, failed: Failed, stale: bool = False) -> None:
        flight, stream = self._flight, self._stream
        self._flight = self._stream = None
        self.close()
        if flight is None:
            return
        if stream is not None:
            flight.ended(failed)
            stream.end(failed)
        else:
            flight.failed(failed, stale)

    def _leave(self) -> None:
        """Takes itself out of the idle ones."""
        try:
            self.endpoint.idle.remove(self)
        except ValueError:
            pass

    def _wake_writer(self) -> None:
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)


def _authentic(transport: asyncio.Transport | None) -> bool:
    """Whether the end of what came is the sender's own. RFC 9112 section 9.8: over TLS only close_notify says so."""
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if tls is None:
        return True
    try:
        return bool(tls.read(1) == b"")
    except ssl.SSLError:
        return False  # Nothing to read and no close_notify: anybody can end a TCP connection.
