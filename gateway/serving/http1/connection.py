"""A client's connection: aiohttp's RequestHandler with deadlines for heads, errors in our own shape, and a plain way to write.

aiohttp parses, keeps alive and calls the handler; what it lacks is added here. The handler writes its reply itself and returns
what `sent` gives it, which only tells aiohttp whether the connection goes on.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpRequestParser
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE, RequestHandler, RequestPayloadError
from multidict import MultiMapping

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.serving.admission import FRAMING, Admission, Certified, parse_failure
from gateway.serving.body import CONTINUE, ClientBody
from gateway.serving.http1.parser import Parsing
from gateway.serving.http1.repeats import PATIENCE, Repeat, repeatable
from gateway.serving.http1.write import make_head
from gateway.serving.inline import Inline

if TYPE_CHECKING:
    from gateway.serving.net.listener import Listener


class Sent(web.StreamResponse):
    """A response that has been written already."""

    def __init__(self, keep: bool, data: bytes = b"") -> None:
        super().__init__()
        self._keep_alive = keep
        self._data = data

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self._data and request.transport is not None:
            request.transport.write(self._data)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class _Tail:
    """What aiohttp's RequestHandler takes for the parser of another protocol; gets what it has kept for one."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """The connection is lost."""


GRACE = 0.25
"""Seconds between two looks at whether a client that sends nothing more is still there."""

_HTTP_11 = (1, 1)
_READ_BUFFER = 2**16
_KEEP = Sent(True)
_LAST = Sent(False)


class ClientConnection(RequestHandler):
    """One client's socket. `peer` is its address; `head_since` the moment the head now arriving began, 0 between heads.

    Requests that can be carried through in callbacks (inline.py) never reach aiohttp's own loop (`RequestHandler.start`): while
    one is under way, the future that loop waits on is kept in `_parked`, so that it sleeps. All others are left to it.
    """

    __slots__ = (
        "_driving",
        "_half_closed",
        "_head_bytes",
        "_inline",
        "_listener",
        "_memo",
        "_parked",
        "_patience",
        "_probed",
        "_raw_headers",
        "_repeat",
        "_snapshot",
        "_too_slow",
        "admission",
        "body",
        "exchange",
        "head_since",
        "peer",
        "scheme",
    )

    def __init__(self, listener: Listener, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(listener, loop=loop, **kwargs)
        self._listener = listener
        inner = [self._parser]  # aiohttp has made the first.
        self._parser = Parsing(self, lambda: inner.pop() if inner else self._new_parser(kwargs))  # type: ignore[assignment]
        self._half_closed = self._probed = False
        self.exchange: Exchange | None = None
        self._inline: Inline | None = None
        self._parked: asyncio.Future[None] | None = None
        self._driving = False
        self._raw_headers: Sequence[Pair] = ()
        self._memo: dict[Any, Any] = {}
        self._snapshot = 0
        self._repeat: Repeat | None = None
        self._patience = 0
        self.admission: Admission = listener.admission
        self.peer = ""
        self.scheme = "http"
        self.body: ClientBody | None = None
        self._too_slow = False
        self.head_since = 0.0
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self.peer:  # Else the PROXY protocol has said whom this connection comes from.
            peer = transport.get_extra_info("peername")
            self.peer = peer[0] if isinstance(peer, tuple) else "unix"
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
            subject = self._listener.subject(transport)
            if subject:
                self.admission = Certified(self.admission, subject)
        self.head_since = self._listener.now  # A client that connects and says nothing is slow as well.
        crowded = self._listener.crowded(self.peer)
        if crowded is not None:
            self.refuse(crowded)

    def connection_lost(self, exc: BaseException | None) -> None:
        inline = self._inline
        super().connection_lost(exc)
        if inline is not None:
            inline.cancel()

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done() or not self._listener.inline:
            queued = self._request_count
            self._repeat = None
            super().data_received(data)  # A request is being handled; what follows it is parsed and queued.
            if waiter is not None and self._request_count == queued:
                self._count_head(data)
            return
        self._waiter = None  # Whoever handles what comes now is decided here; aiohttp must not wake its loop.
        repeat = self._repeat
        if repeat is not None and not (self._close or self._force_close):
            taken = repeat.taken(data)
            if taken is None:
                taken = repeat.varied(data)
                if taken is not None:
                    # What frames and addresses the message has not changed.
                    self._raw_headers = repeat.raw_headers
                    self._memo = {FRAMING: self._memo[FRAMING]} if FRAMING in self._memo else {}
            if taken is not None:
                repeat.used = True
                self._parked = waiter
                self._request_count += 1
                self._driving = True
                self._carry(*taken, repeat.headers, repeat.raw_headers, _HTTP_11, False)
                self._driving = False
                if self._inline is None:
                    self._rest()
                return
            self._repeat = None
            if not repeat.used:
                self._patience = PATIENCE
        super().data_received(data)
        if self._messages:
            self._parked = waiter
            messages = self._messages
            if self._patience:
                self._patience -= 1
            elif self._request_count > 1 and len(messages) == 1 and not self._head_bytes:
                # Not of the first request, which may be the only one: what follows is likely to repeat its fields.
                self._repeat = repeatable(data, *messages[0], self._listener.longest)
            self._drive()
            return
        self._waiter = waiter
        self._count_head(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends nothing more; what it has sent is still answered (RFC 9112 section 9.6 has it half-close)."""
        if self.transport is None or self.scheme == "https":  # asyncio cannot keep half of TLS open.
            return False
        if self._upgraded and self._inline is None and self.exchange is None and not self._messages:
            return False  # A handshake is under way, and a tunnel needs both directions.
        self._parser.cut_short()  # type: ignore[union-attr]
        if self.awaiting_head:
            return False
        self._half_closed = True
        self._loop.call_later(GRACE, self._look_for_client)
        return True

    def _look_for_client(self) -> None:
        """Whether a half-closed client still waits, or has left altogether: on the wire both begin alike.

        The kernel of one that has left answers whatever is sent to it with a reset. 100 (Continue) is what may always be sent:
        RFC 9110 section 15.2.1 has a client that has not asked for it discard it.
        """
        transport = self.transport
        if transport is None:
            return
        if self.awaiting_head:
            self.force_close()
            return
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), 0)
        if poll.poll(0):  # POLLERR or POLLHUP
            transport.abort()
            return
        exchange = self._inline.exchange if self._inline is not None else self.exchange
        if exchange is not None and not exchange.written and not self._probed and exchange.version >= (1, 1):
            self._probed = True
            self.write(CONTINUE)
        self._loop.call_later(GRACE, self._look_for_client)

    def _new_parser(self, limits: dict[str, Any]) -> Any:
        """As RequestHandler makes its own."""
        return HttpRequestParser(
            self,
            self._loop,
            _READ_BUFFER,
            max_line_size=limits["max_line_size"],
            max_field_size=limits["max_field_size"],
            max_headers=limits["max_headers"],
            payload_exception=RequestPayloadError,
            auto_decompress=False,
            max_msg_queue_size=MAX_MSG_QUEUE_SIZE,
        )

    def log_exception(self, *args: Any, **facts: Any) -> None:
        """A body whose rest turned out malformed after its request had been answered is nobody's fault here."""
        if not isinstance(facts.get("exc_info"), RequestPayloadError | Failed):
            super().log_exception(*args, **facts)

    def remember(self, raw_headers: Sequence[Pair]) -> tuple[Sequence[Pair], dict[Any, Any]]:
        """A request's fields and their memo (see Exchange.memo): those of the request before where they are the same.

        Clients repeat themselves: an SDK or a browser sends the same fields with every request of a connection, or nearly so.
        """
        number = self._listener.handler.runtime.snapshot.number
        known = self._raw_headers
        if number != self._snapshot or (raw_headers is not known and raw_headers != known):
            self._raw_headers = raw_headers
            self._snapshot = number
            self._memo = {}
        return self._raw_headers, self._memo

    def began(self) -> None:
        """A request's head is complete."""
        self.head_since = 0.0
        self._head_bytes = 0

    def _count_head(self, data: bytes) -> None:
        """More of a head that is not complete yet."""
        if self.head_since == 0.0:
            self.head_since = self._listener.now
        self._head_bytes += len(data)
        if self._head_bytes > self._listener.max_head:
            self.refuse(Failed(Failure.HEADERS_TOO_LARGE, "The request's head is too large."))

    def _drive(self) -> None:
        """Handles queued requests one after the other; leaves the rest to aiohttp's loop at the first that needs it."""
        self._driving = True
        messages = self._messages
        while messages and self._inline is None and self.transport is not None:
            message, payload = messages[0]
            if payload is not EMPTY_PAYLOAD or message.__class__ is not RawRequestMessage or message.upgrade:
                waiter, self._parked = self._parked, None
                self._waiter = waiter
                waiter.set_result(None)  # type: ignore[union-attr]
                break
            messages.popleft()
            self._parser.message_consumed()  # type: ignore[union-attr]
            if self._buffer_paused and len(messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            self._carry(message.method, message.path, message.headers, message.raw_headers, message.version, message.should_close)
        else:
            if self._inline is None:
                self._rest()
        self._driving = False

    def _carry(
        self,
        method: str,
        target: str,
        headers: MultiMapping[str],
        raw_headers: Sequence[Pair],
        version: tuple[int, int],
        close: bool,
    ) -> None:
        """Carries a request as far as it goes without waiting."""
        self.head_since = 0.0
        self._head_bytes = 0
        raw_headers, memo = self.remember(raw_headers)
        exchange = self.admission.exchange(
            method, target, headers, raw_headers, version, self.peer, self.scheme, perf_counter(), memo
        )
        listener = self._listener
        inline = Inline(listener.handler, self, exchange, close or self._request_count >= listener.max_requests)
        self._inline = inline
        inline.start()

    def _rest(self) -> None:
        """Nothing to do: aiohttp's loop waits for the next request again, and its keep-alive timer runs."""
        self._waiter, self._parked = self._parked, None
        until = self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None and self.transport is not None:
            self._keepalive_handle = self._loop.call_at(until, self._process_keepalive)

    def inline_done(self, keep: bool) -> None:
        """An inline request is over, its reply written. `keep`: the connection can be used again."""
        self._inline = None
        if not keep or (self._half_closed and not self._messages):
            self._waiter, self._parked = self._parked, None
            self.force_close()
        elif not self._driving:
            if self._messages:
                self._drive()
            else:
                self._rest()

    @property
    def busy(self) -> bool:
        """Whether a request is on it."""
        return self._inline is not None or self._current_request is not None

    @property
    def awaiting_head(self) -> bool:
        """Whether the next bytes belong to a new request's head: no request is being handled or read to its end."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def spent(self) -> bool:
        """Whether it has carried as many requests as it may."""
        return self._request_count >= self._listener.max_requests

    def give_up_body(self, failed: Failed) -> None:
        """The request's body comes too slowly: whoever waits for it answers with this failure, and the connection ends."""
        self._too_slow = True
        if self.body is not None:
            self.body.give_up(failed)

    def refuse(self, failed: Failed) -> None:
        """Answers a head that never became a request, and closes."""
        if self.transport is not None:
            self.transport.write(self._refusal(failed))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """aiohttp asks this for an answer to what its parser refused; the connection ends with it."""
        return Sent(False, self._refusal(parse_failure(exc, self._listener.max_uri)))

    def sent(self, keep: bool) -> Sent:
        """What tells aiohttp that the reply is written, and whether the connection can be used again."""
        if self._too_slow:
            self.force_close()  # aiohttp would wait for the rest of the body first.
        if self._half_closed and not self._messages:
            return _LAST
        return _KEEP if keep else _LAST

    # Another protocol than HTTP on the same socket.

    @property
    def switching(self) -> bool:
        """Whether aiohttp has stopped parsing behind a request that asks for another protocol, and keeps what follows."""
        return self._upgraded

    def give_away(self, protocol: asyncio.Protocol) -> bytes:
        """`protocol` hears the socket from now on, and in the end calls `connection_lost` here. Returns what came early."""
        tail = _Tail()
        self.set_parser(tail)  # type: ignore[arg-type]
        self.keep_alive(False)
        self.transport.set_protocol(protocol)  # type: ignore[union-attr]
        return tail.data

    # The Out that serving/http1/write.py writes to.

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    async def drain(self) -> None:
        if self.transport is None:
            raise asyncio.CancelledError  # The client has left; cancellation is on its way to this task too.
        if self.writing_paused:
            await self._drain_helper()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def go_ahead(self) -> None:
        """100 (Continue): the body is wanted (RFC 9110 section 10.1.1)."""
        self.write(CONTINUE)

    def _refusal(self, failed: Failed) -> bytes:
        exchange, reply = self._listener.refuse(self.peer, failed)
        body = reply.body if isinstance(reply.body, bytes) else b""
        return make_head(exchange, reply, b"Content-Length: %d\r\n" % len(body), close=True) + body
