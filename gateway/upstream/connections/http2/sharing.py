"""Connections to one endpoint over HTTP/2, shared by its requests.

A request takes a place on the connection that was offered last, so that surplus ones age out.
Where none has room, one is opened, and requests that come meanwhile wait for it instead of opening
their own. With `protocol = "auto"` TLS decides (ALPN, RFC 7301): an endpoint that chose HTTP/1.1 is
remembered as one that gives each request a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from gateway.core.drive import Drive
from gateway.core.failures import Failed, Failure
from gateway.core.wait import Wait
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.http2.connection import Http2Connection
from gateway.upstream.connections.http2.stream import RequestStream
from gateway.upstream.connections.interfaces import Owner
from gateway.upstream.connections.opening import Opener, Opening
from gateway.upstream.pool.endpoint import Endpoint

ALPN = "h2"


class Joining(Wait[Any]):
    """A request that waits for a connection: woken when there is one, failed when there is none."""

    __slots__ = ("_name", "_opening", "_timeout", "deadline")

    def __init__(
        self, name: str, opening: set[Joining | Opening[Any]], now: float, timeout: float
    ) -> None:
        super().__init__()
        self._name = name
        self._timeout = timeout
        self._opening = opening
        self.deadline = now + timeout
        opening.add(self)

    def expire(self) -> None:
        """Called by the sweep when the deadline has passed."""
        why = f"{self._name} took no connection within {self._timeout:g} s"
        self.fail(Failed(Failure.CONNECT_TIMEOUT, why=why))

    def wake(self, value: Any = None) -> None:
        self._opening.discard(self)
        super().wake(value)


class ByAlpn(asyncio.Protocol):
    """A connection that becomes one of HTTP/2 or of HTTP/1.1 when TLS has said which; in clear text
    one of HTTP/2.

    chosen: which it became. refused: TLS chose another than HTTP/2, and `http1` makes none.
    """

    def __init__(
        self, http2: Http2Connection, http1: Callable[[], Connection] | None = None
    ) -> None:
        self.endpoint = http2.endpoint
        self.chosen: Http2Connection | Connection = http2
        self.refused = False
        self._http1 = http1

    @property
    def closed(self) -> bool:
        return self.refused or self.chosen.closed

    def close(self) -> None:
        self.chosen.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != ALPN:
            if self._http1 is None:
                self.refused = True
                transport.abort()  # type: ignore[attr-defined]
                return
            self.chosen = self._http1()
        transport.set_protocol(self.chosen)
        self.chosen.connection_made(transport)


class Shared:
    """The connections to one endpoint that have room, and the one that is being opened.

    It belongs to one `protocol` and one TLS; others replace it by another.

    spare: how many more of them may be without requests (`max_idle`).
    """

    __slots__ = (
        "_drive",
        "_endpoint",
        "_http1",
        "_joined",
        "_offered",
        "_opener",
        "_opening",
        "_owner",
        "_protocol",
        "_retired",
        "spare",
    )

    def __init__(
        self,
        owner: Owner,
        endpoint: Endpoint,
        opener: Opener,
        opening: set[Any],
        protocol: str,
    ) -> None:
        """opening: what is swept while it waits for a connection. protocol: "h2" or "auto"."""
        self._owner = owner
        self._endpoint = endpoint
        self._opener = opener
        self._opening = opening
        self._protocol = protocol
        self._offered: list[Http2Connection] = []
        self._joined: list[Joining] | None = None
        self._drive: Drive | None = None
        self._http1 = self._retired = False
        self.spare = 0

    def __repr__(self) -> str:
        opening = "" if self._joined is None else f", {len(self._joined)} wait for another"
        return f"<Shared {self._endpoint.name}, {len(self._offered)} with room{opening}>"

    def offer(self, connection: Http2Connection) -> None:
        """It has room."""
        if self._retired:
            connection.retire()
        elif not connection.offered:
            connection.offered = True
            self._offered.append(connection)
            self.spare -= 1

    def withdraw(self, connection: Http2Connection) -> None:
        """It has no more room."""
        if connection.offered:
            connection.offered = False
            self._offered.remove(connection)
            self.spare += 1

    def take(self, kept: bool = True) -> RequestStream | None:
        """A place on the connection that was offered last; None where there is none.

        One without exchanges, but with unread input, is not used: the endpoint may have ended it.
        kept: as in RequestStream.
        """
        if not self._offered:
            return None
        connection = self._offered[-1]
        if not connection.streams and connection.has_unread_input():
            return None
        return RequestStream(connection, kept)

    async def connect(
        self, timeout: float, max_idle: int, keepalive: float
    ) -> RequestStream | Connection | None:
        """A place on a connection that is opened for all who wait for one; None where those before
        have taken all of them, and it is to be tried again. Raises Failed."""
        self.spare = max_idle - len(self._offered)
        if not max_idle:
            keepalive = 0.0
        if self._http1:
            opened = await self._open(timeout, max_idle, keepalive)
            if isinstance(opened, Connection):
                return opened
            self._http1 = False
            return RequestStream(opened, False)  # It is offered when that has ended.
        now = self._owner.clock.monotonic()
        waiting = Joining(self._endpoint.name, self._opening, now, timeout)
        if self._joined is not None:
            self._joined.append(waiting)
        else:
            self._joined = [waiting]
            self._drive = Drive(self._open(timeout, max_idle, keepalive), self._opened)
            self._drive.start()
        place: RequestStream | Connection | None = await waiting
        return self.take(False) if place is None else place

    async def connect_apart(self, timeout: float) -> RequestStream | Connection:
        """A place on a new connection that nothing else uses. Raises Failed."""
        opened = await self._open(timeout, 0, 0.0, offered=False)
        return opened if isinstance(opened, Connection) else RequestStream(opened, False)

    async def _open(
        self, timeout: float, max_idle: int, keepalive: float, offered: bool = True
    ) -> Http2Connection | Connection:
        """Open a connection, by HTTP/2 or what ALPN chooses. Raises Failed."""
        owner, endpoint = self._owner, self._endpoint
        http1 = partial(Connection, owner, endpoint, max_idle) if self._protocol == "auto" else None
        offers = self if offered else None
        made = ByAlpn(Http2Connection(owner, endpoint, keepalive, offers), http1)
        began = owner.clock.monotonic()
        try:
            await Opening(self._opener, made, self._opening, began, timeout)
        except Failed:
            if made.refused:
                why = f"{endpoint.name} did not choose HTTP/2 (ALPN)"
                raise Failed(Failure.TLS_FAILED, why=why) from None
            raise
        connection = made.chosen
        if isinstance(connection, Http2Connection):
            connection.deadline = began + timeout
            try:
                await connection.ready
            except BaseException:
                connection.close()
                raise
        return connection

    def _opened(self, connection: Any, error: BaseException | None) -> None:
        """Hand the outcome to all who wait. One gets a connection by HTTP/1.1 for itself."""
        joined, self._joined, self._drive = self._joined or [], None, None
        if isinstance(connection, Http2Connection):
            if connection.room <= 0:
                why = f"{self._endpoint.name} takes no requests on a new connection"
                error = Failed(Failure.NOT_RECEIVED, why=why)
                connection.retire()
        elif connection is not None:
            self._http1 = True
        for waiting in joined:
            if waiting.done:
                continue
            if isinstance(error, Failed):
                waiting.fail(Failed(error.failure, headers=error.headers, why=error.why))
            elif error is not None:
                waiting.fail(error)
            elif isinstance(connection, Http2Connection):
                has_room = connection.room > 0 and not connection.closed
                waiting.wake(RequestStream(connection, False) if has_room else None)
            else:
                own, connection = connection, None
                waiting.wake(own)
        if isinstance(connection, Connection):
            connection.keep()  # Nothing waits any more.
        elif connection is not None:
            connection.offer_room()

    def retire(self) -> None:
        """Begin nothing more on any of them; those without exchanges close."""
        self._retired = True
        for connection in tuple(self._offered):
            connection.retire()

    def close(self) -> None:
        """Open nothing more."""
        if self._drive is not None:
            self._drive.cancel()
        self.retire()
