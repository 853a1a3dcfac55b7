"""Sockets to endpoints: connecting, one HTTP/1.1 exchange at a time on each, keep-alive, deadlines.

`Connection` owns one socket and its parser; `Transport` opens connections, takes idle ones from their endpoint (last in, first
out, so that surplus ones age out) and sweeps deadlines instead of setting a timer per request. What is sent, and whether it is
tried again, is decided in forward.py; health and balancing live in pool.py.

Suspicion (RFC 9112 sections 6.3 and 9.3): a connection is used again only when the answer ended exactly where its framing said,
nothing came after it, and the request had been sent whole. Anything else closes it.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Protocol

import httptools

from gateway.config.upstream import HealthConfig, TimeoutsConfig
from gateway.core.clock import REAL, Clock
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import FRAMING, HOP_BY_HOP, Pair, lower, tokens
from gateway.upstream.checks import contains, knock
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.switched import Switched

if TYPE_CHECKING:
    from gateway.upstream.tls import UpstreamTls

SWEEP = 0.1
"""Seconds between two looks at the deadlines; deadlines are this exact."""
WHOLE = 64 * 1024
"""Bodies with a Content-Length up to this many bytes are handed over complete, so that they leave in one write."""
HIGH_WATER = 256 * 1024
"""Bytes of a streamed body that may wait for a slow client before reading from the endpoint stops."""
MAX_HEAD = 64 * 1024
"""Bytes an answer's status line and headers may take."""
MAX_HEADERS = 256
MAX_LENGTH = 2**63 - 1
"""What a Content-Length may say; beyond it the others on the way may count otherwise (RFC 9110 section 8.6)."""

_H = ord("H")
_NOT_COPIED = HOP_BY_HOP | {b"content-length"}
_NEVER = float("inf")
_DEFAULT_TIMEOUTS = TimeoutsConfig()

Opener = Callable[[Callable[[], asyncio.Protocol], Endpoint], Awaitable[object]]
"""Opens a socket to an endpoint for the protocol that the factory makes; raises OSError. Injected in tests."""


class Flight(Protocol):
    """Whoever waits for an answer. Exactly one of `answered` and `failed` is called, once, unless it gave up first."""

    def answered(self, reply: Reply) -> None:
        """The answer's head is here; its body is complete (bytes) or still arriving (a stream)."""

    def failed(self, failed: Failed, stale: bool) -> None:
        """There will be no answer. `stale`: a kept connection turned out closed before any byte of an answer came."""

    def ended(self, failed: Failed | None) -> None:
        """After `answered` with a stream: the body has ended, broke off (`failed`), or was given up by its reader."""


class AnswerStream:
    """A body arriving from an endpoint (a core ReplyStream). Reading it more slowly than it arrives pauses the socket."""

    __slots__ = ("_chunks", "_connection", "_ended", "_failed", "_paused", "_size", "_waiter", "taken", "trailers")

    def __init__(self, connection: Connection) -> None:
        self.taken = 0
        """Bytes that have come in all."""
        self.trailers: tuple[Pair, ...] = ()
        """The fields that came after the body, once that has ended; they are no headers, and change none."""
        self._connection: Connection | None = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failed: Failed | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        while not self._chunks:
            if self._failed is not None:
                raise self._failed
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._paused and self._size <= HIGH_WATER // 2 and self._connection is not None:
            self._paused = False
            self._connection.resume_reading()
        return chunk

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.give_up()

    def feed(self, chunk: bytes) -> None:
        """More of the body, from the connection."""
        self._chunks.append(chunk)
        self.taken += len(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause_reading()
        self._wake()

    def end(self, failed: Failed | None) -> None:
        """No more will come; what is here can still be read."""
        self._ended = True
        self._failed = failed
        self._connection = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """One socket to `endpoint`, and the exchange that is on it (`_flight`), if any.

    A dozen attributes are not enough here: it is a parser's callbacks, a keep-alive entry and an exchange in one, because an
    object for each would cost more than the exchange does.
    """

    __slots__ = (
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
        "_reading_paused",
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
        self._head_only = self._sending = self._complete = self._extra = self._keep = self._until_close = False
        self._reply: Reply | None = None
        self._headers: list[Pair] = []
        self._body: list[bytes] = []
        self._head_bytes = self._beside = 0
        self._trailers: tuple[Pair, ...] = ()
        self._last: list[Pair] = []
        self._understood = _understand([])

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
        self._complete = self._extra = self._until_close = False
        self._reply = None
        self._beside = 0
        self._headers = []
        self._body = []
        self._head_bytes = 0
        owner = self._owner
        self.limit = limit
        self.deadline = owner.now + (timeouts.write if more else timeouts.read)
        owner.active.add(self)
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
            self._fail(Failed(Failure.TIMEOUT, why=f"{name} took longer than the route's timeout"))
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
        self._owner.active.discard(self)
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

    def data_received(self, data: bytes) -> None:
        if self._flight is None:
            # Bytes nobody asked for: the next answer on this socket could not be told from them.
            self._leave()
            self.close()
            return
        self.deadline = self._owner.now + (self._timeouts.write if self._sending else self._timeouts.read)
        stream = self._stream
        if stream is not None:
            before = stream.taken
        elif not self._head_bytes and self._reply is None and data[0] != _H:
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
            self._finish()
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
        if self._until_close and self._flight is not None and _authentic(self._transport):
            self._complete = True  # RFC 9112 section 6.3, rule 8: the end of the connection is the end of the body.
            self._finish()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._owner.active.discard(self)
        self._wake_writer()
        name = self.endpoint.name
        if self._flight is None:
            self._leave()
        elif self._reply is not None or self._head_bytes:
            self._fail(Failed(Failure.INCOMPLETE_RESPONSE, why=f"{name} closed the connection within its answer"))
        else:
            failed = Failed(Failure.CONNECTION_RESET, why=f"{name} closed the connection before it answered")
            self._fail(failed, stale=self._used)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake_writer()

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
            understood = self._understood = _understand(self._headers)
            self._last = self._headers
        headers, index, joined, length, coding, connection = understood
        reply = Reply(status)  # Its reason phrase is dropped: RFC 9112 section 4 lets nobody rely on it.
        reply.headers = headers.copy()
        reply.index = index.copy()
        reply.joined = joined
        reply.length = length
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
        self._owner.active.discard(self)
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

    def _finish(self) -> None:
        """The answer is complete: back to the idle ones if nothing speaks against it, then tell whoever waits."""
        flight, stream, reply = self._flight, self._stream, self._reply
        assert flight is not None and reply is not None
        self._flight = self._stream = None
        if (
            self._keep
            and not (self._extra or self._sending or self._writing_paused or self.closed)
            and len(self.endpoint.idle) < self._max_idle
            and (stream is None or not self.speaks())  # What follows a long answer may not have been read with its end.
        ):
            if self._head_only:
                self._parser = httptools.HttpResponseParser(self)  # The old one still expects the body that HEAD has not.
            if self._reading_paused:
                self.resume_reading()
            self._used = True
            self.deadline = self.limit = _NEVER
            self._owner.active.discard(self)
            self.idle_since = self._owner.now
            self.endpoint.idle.append(self)
        else:
            self.close()
        if stream is not None:
            if self._trailers:
                stream.trailers, self._trailers = self._trailers, ()
            flight.ended(None)  # First, so that nothing reads the request's body any more when its answer ends.
            stream.end(None)
            return
        body = self._body
        if not self._head_only:
            reply.body = body[0] if len(body) == 1 else b"".join(body)
            if reply.status != 304:
                reply.length = len(reply.body)
        flight.answered(reply)

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


Understood = tuple[list[Pair], dict[bytes, bytes], tuple[int, bytes], int | None, bytes, bytes]
"""Fields that go on to the client, their index, their lines; Content-Length, Transfer-Encoding and Connection (lower case)."""


def _understand(fields: list[Pair]) -> Understood:
    """One pass over an answer's fields: hop-by-hop ones and framing are understood and dropped, the rest is kept as it came.

    Endpoints repeat themselves; a connection remembers what the last answer's fields came to.
    """
    length: int | None = None
    coding = connection = b""
    headers: list[Pair] = []
    index: dict[bytes, bytes] = {}
    for pair in fields:
        name, value = lower(pair[0]), pair[1]
        if name in _NOT_COPIED:
            if name == b"content-length":
                length = int(value)
                if length > MAX_LENGTH:
                    raise Failed(Failure.BAD_RESPONSE, why=f"a Content-Length of {length}")
            elif name == b"transfer-encoding":
                # Not tabs: behind one the parser no longer knows its "chunked", so that must not be read here either.
                value = value.strip(b" ").lower()
                coding = coding + b"," + value if coding else value
            elif name == b"connection" or (name == b"proxy-connection" and b"close" in value.lower()):
                connection = connection + b"," + value.lower() if connection else value.lower()
            continue
        headers.append(pair)
        index[name] = index[name] + b", " + value if name in index else value
    if connection and connection not in (b"close", b"keep-alive"):
        named = tokens(connection)  # RFC 9110 section 7.6.1: what Connection names is hop-by-hop too.
        headers = [pair for pair in headers if lower(pair[0]) not in named]
        index = {name: value for name, value in index.items() if name not in named}
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    if len(lines) > MAX_HEAD:
        raise Failed(Failure.BAD_RESPONSE, why=f"a head of over {MAX_HEAD} bytes")
    return headers, index, (len(headers), lines), length, coding, connection


class Transport:
    """Opens connections and watches their deadlines. `now` is clock.monotonic as of the last sweep, good for deadlines only."""

    def __init__(self, clock: Clock = REAL, opener: Opener | None = None) -> None:
        self.clock = clock
        self.now = clock.monotonic()
        self.active: set[Connection] = set()
        self._opener = opener or self._open
        self._tls: dict[str, UpstreamTls] = {}
        self._keepalive: dict[Endpoint, float] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to sweep; call it once the loop runs."""
        self.sweep()

    def close(self) -> None:
        """Stops sweeping and closes every connection, in use or not."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for connection in tuple(self.active):
            connection.give_up()
        for endpoint in self._keepalive:
            endpoint.close_idle()
        self._keepalive.clear()

    def take(self, endpoint: Endpoint) -> Connection | None:
        """The connection to `endpoint` that has been idle for the shortest time, if there is one."""
        idle = endpoint.idle
        while idle:
            connection: Connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def take_quiet(self, endpoint: Endpoint) -> Connection | None:
        """As `take`, but only one on which nothing waits to be read: not the end either, which the loop has yet to hear of."""
        connection = self.take(endpoint)
        while connection is not None and connection.speaks():
            connection.close()
            connection = self.take(endpoint)
        return connection

    async def connect(self, endpoint: Endpoint, timeout: float, max_idle: int = 0, keepalive: float = 60.0) -> Connection:
        """A new connection within `timeout` seconds. Raises Failed (CONNECT_FAILED, CONNECT_TIMEOUT, DNS_FAILED, TLS_FAILED)."""
        self._keepalive[endpoint] = keepalive
        connection = Connection(self, endpoint, max_idle)
        tls = self._tls.get(endpoint.upstream)
        try:
            async with asyncio.timeout(timeout):
                await self._opener(lambda: connection, endpoint)
        except TimeoutError:
            why = f"{endpoint.name} took no connection within {timeout:g} s"
            raise Failed(Failure.CONNECT_TIMEOUT, why=why) from None
        except socket.gaierror as error:
            raise Failed(Failure.DNS_FAILED, why=f"{endpoint.host}: {error.strerror}") from None
        except ssl.SSLError as error:
            raise Failed(Failure.TLS_FAILED, why=f"{endpoint.name}: {_reason(error)}") from None
        except OSError as error:
            if endpoint.scheme == "https" and isinstance(error, ConnectionResetError | ConnectionAbortedError):
                raise Failed(Failure.TLS_FAILED, why=f"{endpoint.name} broke the handshake off") from None
            raise Failed(Failure.CONNECT_FAILED, why=f"{endpoint.name}: {error.strerror or error}") from None
        if self._tls.get(endpoint.upstream) is not tls:
            connection.retire()
        return connection

    def secure(self, upstream: str, endpoints: Iterable[Endpoint], tls: UpstreamTls | None) -> None:
        """From now on connections to this upstream use `tls` where its URLs say https; no others are used again."""
        if self._tls.get(upstream) is tls:
            return
        if tls is None:
            del self._tls[upstream]
        else:
            self._tls[upstream] = tls
        for endpoint in endpoints:
            endpoint.close_idle()
        for connection in self.active:
            if connection.endpoint.upstream == upstream:
                connection.retire()

    async def _open(self, factory: Callable[[], asyncio.Protocol], endpoint: Endpoint) -> object:
        return await open_socket(factory, endpoint, self._tls.get(endpoint.upstream))

    async def check(self, endpoint: Endpoint, health: HealthConfig) -> int:
        """One active check on a connection of its own: the status of GET `health.path`, 0 for other types. Raises Failed."""
        if health.type == "tcp":
            return await knock(endpoint)
        connection = await self.connect(endpoint, health.timeout)
        if health.type == "tls":
            connection.close()
            return 0
        host = health.host or f"{endpoint.host}:{endpoint.port}"
        lines = [f"GET {endpoint.path}{health.path} HTTP/1.1", f"Host: {host}", "User-Agent: gateway-health", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in health.headers.items()]
        flight = Awaited()
        try:
            head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
            connection.send(head, flight, TimeoutsConfig(read=health.timeout, write=health.timeout))
            reply = await flight.future
            if health.body and reply.status in health.status and not await contains(reply, health.body.encode()):
                raise Failed(Failure.BAD_RESPONSE, why=f"{health.path} answered without {health.body!r}")
            return reply.status
        finally:
            connection.give_up()

    def sweep(self) -> None:
        """Ends what is past its deadline, closes what has been idle for too long, and comes again."""
        now = self.now = self.clock.monotonic()
        for connection in tuple(self.active):
            if now >= connection.deadline or now >= connection.limit:
                connection.expire(now)
        for endpoint, keepalive in self._keepalive.items():
            idle = endpoint.idle  # The longest idle stand first.
            while idle and now - idle[0].idle_since > keepalive:
                idle.pop(0).close()
        self._handle = asyncio.get_running_loop().call_later(SWEEP, self.sweep)

    def forget(self, endpoint: Endpoint) -> None:
        """The endpoint is gone for good: no longer watches it."""
        self._keepalive.pop(endpoint, None)


class Awaited:
    """A Flight for coroutines: `await flight.future` gives the Reply or raises Failed. `stale` as in Flight.failed.

    accept: for a request that asks for a WebSocket, the Sec-WebSocket-Accept with which it may be answered 101; else b"".
    """

    __slots__ = ("accept", "future", "stale")

    def __init__(self) -> None:
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.stale = False
        self.accept = b""

    def answered(self, reply: Reply) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        self.stale = stale
        if not self.future.done():
            self.future.set_exception(failed)

    def ended(self, failed: Failed | None) -> None:
        pass


async def open_socket(factory: Callable[[], asyncio.Protocol], endpoint: Endpoint, tls: UpstreamTls | None = None) -> object:
    """Connects to an endpoint over TCP, with TLS when its URL says https. Raises OSError."""
    loop = asyncio.get_running_loop()
    if endpoint.scheme == "https":
        tls = tls or _default_tls()
        name = tls.server_name or endpoint.host
        transport, _ = await loop.create_connection(factory, endpoint.host, endpoint.port, ssl=tls.context, server_hostname=name)
    else:
        transport, _ = await loop.create_connection(factory, endpoint.host, endpoint.port)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return transport


@cache
def _default_tls() -> UpstreamTls:
    """For an endpoint on https that came to an upstream which had none when it was composed."""
    from pathlib import Path

    from gateway.config.upstream import UpstreamTlsConfig
    from gateway.upstream.tls import UpstreamTls

    return UpstreamTls(UpstreamTlsConfig(), Path())


def _authentic(transport: asyncio.Transport | None) -> bool:
    """Whether the end of what came is the sender's own. RFC 9112 section 9.8: over TLS only close_notify says so."""
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if tls is None:
        return True
    try:
        return bool(tls.read(1) == b"")
    except ssl.SSLError:
        return False  # Nothing to read and no close_notify: anybody can end a TCP connection.


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words: of a refused certificate, what is the matter with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    return (error.reason or str(error)).lower().replace("_", " ")
