"""Sending a request on an HTTP/2 connection: its head, its body as the endpoint takes it, and the
deadlines meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.content.grpc import CALL, DEADLINE
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.wait import Wait
from gateway.protocols.http2.session import Session
from gateway.upstream.connections.http1.headers import TIED
from gateway.upstream.connections.http2.fields import request_fields, trailer_fields
from gateway.upstream.connections.interfaces import NEVER, Owner, ResponseHandler
from gateway.upstream.pool.endpoint import Endpoint

_DEFAULT_TIMEOUTS = TimeoutsConfig()


class Carrier(Protocol):
    """The connection, as its streams see it."""

    endpoint: Endpoint
    owner: Owner
    session: Session

    def begin(self, stream: Any, fields: Sequence[Pair], end: bool) -> int: ...

    def reset(self, number: int, code: int) -> None: ...

    def over(self, number: int) -> None: ...

    def room_for(self, stream: Any) -> Wait[None] | None: ...

    def suspect(self, since: float) -> None: ...

    def flush(self) -> None: ...

    def write_soon(self) -> None: ...

    def retire(self) -> None: ...


class RequestSender:
    """A place on a connection, for one exchange.

    kept: the connection was there before the request: where that had been refused, or not been
          answered, it may go out again on a new one.
    deadline, limit: as in EndpointSocket.
    """

    __slots__ = (
        "_call",
        "_connection",
        "_handler",
        "_head_only",
        "_holding",
        "_overdue",
        "_paused",
        "_sending",
        "_since",
        "_timeouts",
        "closed",
        "deadline",
        "kept",
        "limit",
        "number",
    )

    def __init__(self, connection: Carrier, kept: bool) -> None:
        self._connection = connection
        self.kept = kept
        self.number = 0
        self.closed = False
        self.deadline = self.limit = NEVER
        self._handler: ResponseHandler | None = None
        self._timeouts = _DEFAULT_TIMEOUTS
        self._sending = self._head_only = self._paused = False
        self._holding = False
        self._call: Exchange | None = None
        self._overdue = Failure.TIMEOUT
        self._since = 0.0

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self.number else "unused"
        return f"<{type(self).__name__} {self.number} to {self._connection.endpoint.name} {state}>"

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint of its connection."""
        return self._connection.endpoint

    # The exchange, from the sender's side: interfaces.Stream.

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
        connection, body, left = self._connection, exchange.body, None
        if CALL in exchange.notes:
            self._call = exchange
            exchange.notes[CALL] = True
            exchange.reason = ""  # Of an attempt before this one.
            if limit != NEVER:
                left = limit - connection.owner.clock.monotonic()
            if exchange.notes.get(DEADLINE) == limit:
                self._overdue = Failure.DEADLINE_EXCEEDED
        scheme = b"https" if connection.endpoint.scheme == "https" else b"http"
        fields = request_fields(exchange, target, host, scheme, left)
        if TIED in exchange.memo:
            # What others send on this connection would count as this client's.
            detail = "Credentials that authenticate a connection cannot be used here."
            handler.failed(Failed(Failure.FORBIDDEN, detail), False)
            return False
        whole = b"" if body is None else body.complete
        length = None if body is None else len(whole) if whole is not None else body.length
        if length is not None:
            fields.append((b"content-length", b"%d" % length))
        head_only = exchange.method == "HEAD"
        self.start(fields, whole, handler, timeouts, head_only, limit)
        return whole is None

    def start(
        self,
        fields: Sequence[Pair],
        body: bytes | None,
        handler: ResponseHandler,
        timeouts: TimeoutsConfig,
        head_only: bool = False,
        limit: float = NEVER,
    ) -> None:
        """Start an exchange with `fields`. body: all of it; None when `write` and `end` follow."""
        connection, more = self._connection, body is None
        number = connection.begin(self, fields, body == b"")
        if not number:
            self.closed = True
            why = f"{connection.endpoint.name} takes no more requests on this connection"
            handler.failed(Failed(Failure.NOT_RECEIVED, why=why), self.kept)
            return
        self.number = number
        self._handler = handler
        self._timeouts = timeouts
        self._sending = more
        self._head_only = head_only
        self.limit = limit
        self._extend(more)
        connection.owner.open.add(self)
        if body:
            connection.session.send(number, body, end=True)

    def write(self, chunk: bytes) -> Wait[None] | None:
        """Send more of the body. A Wait is to be awaited before the next `write` or `end`."""
        if self.closed:
            return None
        connection = self._connection
        self._holding = False
        self._extend(True)
        connection.session.send(self.number, chunk)
        connection.flush()
        return None if self.closed else connection.room_for(self)

    def end(self, trailers: Sequence[Pair] = ()) -> None:
        """The request's body is complete."""
        if self.closed:
            return
        connection, passing = self._connection, trailer_fields(trailers) if trailers else ()
        if passing:
            connection.session.trailers(self.number, passing)
        else:
            connection.session.send(self.number, b"", end=True)
        self._sending = self._holding = False
        self._extend(False)
        connection.write_soon()

    def hold(self) -> None:
        """Stop the deadline while the next part of the body is awaited from the client. A call of
        gRPC, whose messages may be far between, ends then when neither side says anything."""
        self._holding = True
        self._extend(True)

    def _extend(self, sending: bool) -> None:
        """Put the deadline off. A time of 0 is no limit."""
        timeouts, now = self._timeouts, self._connection.owner.now
        self._since = now
        if self._holding:
            self.deadline = NEVER if self._call is None else now + timeouts.call
        else:
            self.deadline = now + ((timeouts.write if sending else timeouts.read) or NEVER)
