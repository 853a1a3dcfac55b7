"""An endpoint's 101 (Switching Protocols): the answer to an upgrade, with its socket."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import HOP_BY_HOP, lower, tokens
from gateway.protocols.websocket import fault
from gateway.upstream.connections.http1.codec import Upgraded
from gateway.upstream.connections.interfaces import ResponseHandler
from gateway.upstream.pool.endpoint import Endpoint


class Detachable(Protocol):
    """A connection whose socket can be taken over."""

    endpoint: Endpoint

    def hand_over(self, protocol: asyncio.Protocol) -> asyncio.Transport | None: ...

    def close(self) -> None: ...


class Switched(Reply):
    """A 101 without a body, for response hooks; for serving the way to the socket. It is ended
    exactly once:

    by `abort`, or by `take_over` and, when the tunnel has ended, `over`; both are harmless twice.
    idle: seconds without a byte after which the tunnel is to end. rest: bytes that came right
          behind the answer.
    """

    __slots__ = ("_connection", "_handler", "idle", "rest")

    def __init__(
        self, connection: Detachable, handler: ResponseHandler, upgraded: Upgraded, idle: float
    ) -> None:
        """Raises Failed(BAD_RESPONSE) unless the fields answer the handshake with the handler's
        `accept`."""
        pairs = upgraded.fields
        wrong = fault(pairs, handler.accept)
        if wrong is not None:
            raise Failed(
                Failure.BAD_RESPONSE,
                why=f"{connection.endpoint.name} switched protocols, but {wrong}",
            )
        named = {
            name for pair in pairs if lower(pair[0]) == b"connection" for name in tokens(pair[1])
        }
        dropped = HOP_BY_HOP | named | {b"content-length"}
        super().__init__(101, [pair for pair in pairs if lower(pair[0]) not in dropped])
        self.length = None
        self.idle = idle
        self.rest = upgraded.rest
        self._connection: Detachable | None = connection
        self._handler: ResponseHandler | None = handler

    def take_over(self, protocol: asyncio.Protocol) -> asyncio.Transport | None:
        """The socket, which `protocol` hears from now on; reading is paused. None when the endpoint
        has closed it already."""
        connection, self._connection = self._connection, None
        return None if connection is None else connection.hand_over(protocol)

    def over(self) -> None:
        """The tunnel has ended: lets go of the endpoint."""
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.ended(None)

    def abort(self) -> None:
        """There will be no tunnel: closes the socket and lets go of the endpoint."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self.over()
