"""An endpoint's 101 (Switching Protocols): the answer to an upgrade, and the socket that has stopped speaking HTTP with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import HOP_BY_HOP, Pair, lower, tokens
from gateway.protocols.websocket import fault

if TYPE_CHECKING:
    from gateway.upstream.connections.http1.connection import Connection, Flight


class Switched(Reply):
    """A 101 without a body, for response hooks; for serving the way to the socket. Whoever has it ends it exactly once:

    by `abort`, or by `take_over` and, when the tunnel has ended, `over`; both are harmless twice.
    idle: seconds without a byte after which the tunnel is to end. rest: bytes that came right behind the answer.
    """

    __slots__ = ("_connection", "_flight", "idle", "rest")

    def __init__(self, connection: Connection, flight: Flight, pairs: Sequence[Pair], expected: bytes, idle: float) -> None:
        """Raises Failed(BAD_RESPONSE) unless the fields answer the handshake; `expected` is the Sec-WebSocket-Accept due."""
        wrong = fault(pairs, expected)
        if wrong is not None:
            raise Failed(Failure.BAD_RESPONSE, why=f"{connection.endpoint.name} switched protocols, but {wrong}")
        named = {name for pair in pairs if lower(pair[0]) == b"connection" for name in tokens(pair[1])}
        dropped = HOP_BY_HOP | named | {b"content-length"}
        super().__init__(101, [pair for pair in pairs if lower(pair[0]) not in dropped])
        self.length = None
        self.idle = idle
        self.rest = b""
        self._connection: Connection | None = connection
        self._flight: Flight | None = flight

    def take_over(self, protocol: asyncio.Protocol) -> asyncio.Transport | None:
        """The socket, which `protocol` hears from now on; reading is paused. None when the endpoint has closed it already."""
        connection, self._connection = self._connection, None
        return None if connection is None else connection.hand_over(protocol)

    def over(self) -> None:
        """The tunnel has ended: lets go of the endpoint."""
        flight, self._flight = self._flight, None
        if flight is not None:
            flight.ended(None)

    def abort(self) -> None:
        """There will be no tunnel: closes the socket and lets go of the endpoint."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self.over()
