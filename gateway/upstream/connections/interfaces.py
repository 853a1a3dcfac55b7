"""Interfaces between forwarding and connections: requests in, answers out.

forward.py and attempt.py know a connection only as a `Stream`, and a connection knows them only as
a `ResponseHandler`. HTTP/1.1 has one Stream per connection, used again and again (http1/); a
protocol that multiplexes has many. Neither side sees the other's framing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.headers import Pair
from gateway.core.wait import Wait

NEVER: Final = float("inf")


class ResponseHandler(Protocol):
    """Gets the answer to one request. Exactly one of `answered` and `failed` is called, once,
    unless the exchange is given up first. A call may run the rest of the request: it comes last,
    when the connection's own state is consistent.
    """

    accept: bytes
    """For a WebSocket's handshake, the Sec-WebSocket-Accept that is due; else b""."""

    def interim(self, status: int, fields: Sequence[Pair]) -> None:
        """A 1xx answer (RFC 9110 section 15.2) has come; the final one follows."""

    def answered(self, reply: Reply, counts_as: int = 0) -> None:
        """The answer's head is here; its body is complete (bytes) or still arriving (a stream).
        counts_as: the status that says whether it blames the endpoint, 0 for its own."""

    def failed(self, failed: Failed, stale: bool) -> None:
        """There will be no answer. `stale`: a kept connection was closed before any byte of an
        answer came."""

    def ended(self, failed: Failed | None, counts_as: int = 0) -> None:
        """After `answered` with a stream: the body has ended, broke off (`failed`), or was given
        up. counts_as: as with `answered`."""


class Stream(Protocol):
    """The place for one exchange on a connection to an endpoint."""

    closed: bool

    def send(
        self,
        exchange: Exchange,
        target: str,
        host: str,
        handler: ResponseHandler,
        timeouts: TimeoutsConfig,
        limit: float = NEVER,
    ) -> bool:
        """Start an exchange: the head, and the body if all of it is here. True when `write` and
        `end` follow.

        target: in origin-form, as it is to be sent. host: the endpoint's authority.
        limit:  the moment (clock.monotonic) by which all of it must be over.
        """

    def write(self, chunk: bytes) -> Wait[None] | None:
        """Send more of the body. A Wait is to be awaited before the next `write` or `end`."""

    def end(self, trailers: Sequence[Pair] = ()) -> None:
        """The request's body is complete."""

    def hold(self) -> None:
        """Stop the deadline while the client is awaited, whose slowness is not the endpoint's."""

    def give_up(self) -> None:
        """Nothing wants the answer any more: let the endpoint stop working for it."""

    def break_off(self, failed: Failed) -> None:
        """End the exchange because of what happened elsewhere. A body that is arriving ends with
        `failed`."""


class Owner(Protocol):
    """The part of the transport that its connections use."""

    clock: Clock
    now: float
    """clock.monotonic as of the last sweep."""
    open: set[Any]
    """Connections whose deadlines are swept."""

    def write_later(self, connection: Any) -> None:
        """Call its `write_request` at the end of the event loop's turn."""
