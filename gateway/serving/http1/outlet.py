"""The writing half of a client's connection in HTTP/1.1: the Outlet of the request under way.
connection.py is the other half."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import Pair
from gateway.core.wait import Wait
from gateway.protocols.crumbs import CRUMB, CrumbProtocol
from gateway.serving.admission import Admission
from gateway.serving.body import ClientBody
from gateway.serving.http1.write import complete, interim_head, last_chunk, stream_head
from gateway.serving.net.tls import TlsTransport
from gateway.serving.server import Server

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Http1Outlet(CrumbProtocol):
    """Writes what is sent to the client of `exchange`, the request under way; `body` is that
    request's.

    transport: None once the connection is lost, or another protocol has taken it over and closed
    it. idle_since: see connection.py.
    """

    streams = None
    """Of HTTP/2 alone (net/deadlines.py)."""

    __slots__ = (
        "_chunked",
        "_room",
        "_server",
        "_writing_paused",
        "admission",
        "body",
        "exchange",
        "idle_since",
        "last",
        "snapshot",
        "switching",
        "transport",
    )

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._room: Wait[None] | None = None
        self._writing_paused = self._chunked = False
        self.transport: asyncio.Transport | None = None
        self.admission: Admission = server.admission
        self.body: ClientBody | None = None
        self.exchange: Exchange | None = None
        self.snapshot: Any = None
        self.last = self.switching = False
        self.idle_since = 0.0

    def pause_writing(self) -> None:
        self._writing_paused = True
        self.idle_since = 0.0  # Nothing is begun until it goes on.

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self.transport is not None:
            self.crumbs_taken(self.transport)
        room, self._room = self._room, None
        if room is not None:
            room.wake()
        elif self.exchange is None:  # Later: asyncio bears no `close` in here.
            asyncio.get_running_loop().call_soon(self._next)

    @abstractmethod
    def _next(self) -> None:
        """Begin the requests that have waited until the client takes their answers."""

    @property
    def open(self) -> bool:
        return self.transport is not None

    @property
    def probe(self) -> bytes:
        """What may be sent now to a client that waits, and means nothing to it (departure.py)."""
        exchange = self.exchange
        if exchange is None or exchange.version < (1, 1):
            return b""
        if not exchange.written:
            return CONTINUE
        return b"0" if self._chunked else b""

    def send(self, exchange: Exchange, reply: Reply) -> None:
        # What is left of a request's body must not be taken for the next request.
        whole = exchange.body is None or exchange.body.received
        close = self.last or self._server.draining or not whole
        data = complete(exchange, reply, close)
        exchange.written = True
        self.last = close
        transport = self.transport
        if transport is None:
            return
        if close and whole and isinstance(transport, TlsTransport):
            transport.write_last(data)
        else:
            transport.write(data)

    def begin(self, exchange: Exchange, reply: Reply) -> None:
        close = (
            self.last
            or self._server.draining
            or (exchange.body is not None and not exchange.body.received)
        )
        head, self._chunked, close = stream_head(exchange, reply, close)
        exchange.written = True
        self.last = close
        if self.transport is not None:
            self.transport.write(head)

    def write(self, data: bytes) -> Wait[None] | None:
        transport = self.transport
        if transport is None:
            return None  # Cancellation is on its way.
        if self._chunked:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            transport.write(data)
        if len(data) < CRUMB:
            self.count_crumb(transport)
        if not self._writing_paused:
            return None
        room: Wait[None] = Wait()
        self._room = room
        return room

    def end(self, exchange: Exchange, trailers: Iterable[Pair]) -> None:
        if self._chunked and self.transport is not None:
            self.transport.write(last_chunk(exchange, trailers))
            self._chunked = False

    def interim(self, status: int, pairs: Iterable[Pair]) -> None:
        exchange = self.exchange
        if exchange is None or exchange.written or self.transport is None:
            return
        body = self.body
        if status == 100:
            if body is None or body.go_ahead is None:
                return  # The client has not asked for it, or has had it from the gateway.
            body.go_ahead = None
        self.transport.write(interim_head(status, pairs))

    def check(self, now: float) -> None:
        """Called by the sweep for HTTP/2 alone."""

    def abort(self) -> None:
        """Break the connection off, visibly to the client."""
        self.last = True
        if self.transport is not None:
            self.transport.abort()

    def _go_ahead(self) -> None:
        """100 (Continue): the body is wanted (RFC 9110 section 10.1.1)."""
        if self.transport is not None:
            self.transport.write(CONTINUE)
