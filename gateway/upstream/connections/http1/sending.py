"""Sending a request: framing, body chunks, trailers, and the deadline meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.exchange import Exchange, RequestBody
from gateway.core.headers import Pair, lower
from gateway.core.wait import Wait
from gateway.protocols.crumbs import CRUMB
from gateway.upstream.connections.endpoint_socket import EndpointSocket
from gateway.upstream.connections.http1.headers import chunked_framing, request_head
from gateway.upstream.connections.interfaces import NEVER, Owner
from gateway.upstream.pool.endpoint import Endpoint

_DEFAULT_TIMEOUTS = TimeoutsConfig()
NO_BODY = b"Content-Length: 0\r\n"
BODY_METHODS: Final = frozenset(("POST", "PUT", "PATCH"))
"""Methods whose requests say so when they have no body (RFC 9110 section 8.6)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestSender(EndpointSocket):
    """A socket on which requests are sent, one at a time."""

    __slots__ = (
        "_announced",
        "_before",
        "_chunked",
        "_held",
        "_sending",
        "_timeouts",
        "_unsent",
        "_written",
    )

    def __init__(self, owner: Owner, endpoint: Endpoint, max_idle: int) -> None:
        super().__init__(owner, endpoint, max_idle)
        self._written = self._before = 0
        """Bytes written to it, and before the request that is on it; -1 when that goes out in
        parts, which are not counted."""
        self._timeouts = _DEFAULT_TIMEOUTS
        self._sending = self._chunked = False
        self._announced: Sequence[bytes] = ()
        """Names of the trailers that may follow the chunks."""
        self._unsent = b""
        """A whole request that goes out at the end of the turn."""
        self._held = b""
        """What of the request's body waits until unread input has been looked at."""

    def _with_body(
        self, exchange: Exchange, body: RequestBody, target: str, host: str
    ) -> tuple[bytes, bool]:
        """The head and the body, as far as that is here, and whether `write` and `end` follow."""
        whole = body.complete
        if whole is not None:
            return request_head(
                exchange, target, host, b"Content-Length: %d\r\n" % len(whole)
            ) + whole, False
        length = body.length
        self._chunked = length is None
        if length is None:
            framing, self._announced = chunked_framing(exchange)
        else:
            framing = b"Content-Length: %d\r\n" % length
        return request_head(exchange, target, host, framing), True

    def write(self, chunk: bytes) -> Wait[None] | None:
        """Send more of the request's body. A Wait is to be awaited before the next `write` or
        `end`.

        What waits in the socket is read first: an early answer, or the connection's end. Writing to
        a socket that the endpoint has closed would lose its answer.
        """
        if self.closed:
            return None
        data = b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk
        self._extend(True)
        if not self._reading_paused and self.has_unread_input():
            self._held = data
            return self._wait_for_room()
        self._transport.write(data)
        if len(data) < CRUMB:
            self.count_crumb(self._transport)
        return self._wait_for_room() if self._writing_paused else None

    def end(self, trailers: Sequence[Pair] = ()) -> None:
        """The request's body is complete; of `trailers`, those that were announced go behind it
        where it is chunked."""
        if self.closed:
            return
        if self._chunked:
            lines = [b"%b: %b\r\n" % pair for pair in trailers if lower(pair[0]) in self._announced]
            self._transport.write(b"0\r\n%b\r\n" % b"".join(lines))
        self._sending = False
        self._extend(False)

    def hold(self) -> None:
        """Stop the deadline while the next part of the body is awaited from the client, whose
        slowness is not the endpoint's."""
        self.deadline = NEVER

    def _extend(self, sending: bool) -> None:
        """Put the deadline off. A time of 0 is no limit."""
        timeouts = self._timeouts
        self.deadline = self._owner.now + ((timeouts.write if sending else timeouts.read) or NEVER)

    def resume_reading(self) -> None:
        if self._reading_paused and not self.closed:
            self._extend(False)
        super().resume_reading()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self.crumbs_taken(self._transport)
        if not self._held:
            self._wake_writer()

    def _write_held(self) -> None:
        """Go on with the request's body: what had come meanwhile has been looked at."""
        held, self._held = self._held, b""
        self._transport.write(held)
        if not self._writing_paused:
            self._wake_writer()
