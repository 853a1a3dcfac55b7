"""A client's connection: aiohttp's RequestHandler with deadlines for heads, errors in our own shape, and a plain way to write.

aiohttp parses, keeps alive and calls the handler; what it lacks is added here. The handler writes its reply itself and returns
what `sent` gives it, which only tells aiohttp whether the connection goes on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_protocol import RequestHandler

from gateway.core.failures import Failed, Failure
from gateway.serving.admit import Admission, parse_failure
from gateway.serving.body import CONTINUE
from gateway.serving.write import make_head

if TYPE_CHECKING:
    from gateway.serving.listener import Listener


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


_KEEP = Sent(True)
_LAST = Sent(False)


class ClientConnection(RequestHandler):
    """One client's socket. `peer` is its address; `head_since` the moment the head now arriving began, 0 between heads."""

    __slots__ = ("_head_bytes", "_listener", "admission", "head_since", "peer", "scheme")

    def __init__(self, listener: Listener, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(listener, loop=loop, **kwargs)
        self._listener = listener
        self.admission: Admission = listener.admission
        self.peer = ""
        self.scheme = "http"
        self.head_since = 0.0
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else "unix"
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        self.head_since = self._listener.now  # A client that connects and says nothing is slow as well.

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self.head_since = 0.0
            self._head_bytes = 0
        elif self.awaiting_head:
            if self.head_since == 0.0:
                self.head_since = self._listener.now
            self._head_bytes += len(data)
            if self._head_bytes > self._listener.max_head:
                self.refuse(Failed(Failure.HEADERS_TOO_LARGE, "The request's head is too large."))

    @property
    def awaiting_head(self) -> bool:
        """Whether the next bytes belong to a new request's head: no request is being handled or read to its end."""
        return self._waiter is not None and not self._waiter.done()

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
        return _KEEP if keep else _LAST

    # The Out that serving/write.py writes to.

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
