"""Connections to endpoints: opening them, keeping idle ones, writing to them, sweeping deadlines.

`Transport` takes idle connections from their endpoint last in, first out, so that surplus ones age
out, and sweeps deadlines instead of setting a timer per request. What one turn of the event loop
has to send goes out at its end: the endpoints, or the links to them, are woken once and not for
each request in between, which is a sixth of a request's cost. Health and balancing live in pool/.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from mypy_extensions import mypyc_attr

from gateway.core.clock import REAL, Clock
from gateway.lifetime.supervised import Supervised
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.interfaces import NEVER, Stream
from gateway.upstream.connections.opening import Opener, Opening, open_socket
from gateway.upstream.pool.endpoint import Endpoint

if TYPE_CHECKING:
    from gateway.upstream.connections.http2.sharing import Shared
    from gateway.upstream.connections.http2.stream import RequestStream
    from gateway.upstream.connections.tls import UpstreamTls

log = logging.getLogger("gateway.upstream")

SWEEP = 0.1
"""Seconds between two looks at the deadlines; deadlines are this exact."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Transport:
    """Opens connections and watches their deadlines. `now` is clock.monotonic as of the last sweep,
    good for deadlines only."""

    def __init__(self, clock: Clock = REAL, opener: Opener | None = None) -> None:
        self.clock = clock
        self.now = clock.monotonic()
        self.open: set[Any] = set()
        self._opening: set[Any] = set()
        self._unsent: list[Any] = []
        """Connections that write at the end of this turn."""
        self._opener = opener
        self._tls: dict[str, UpstreamTls] = {}
        self._protocols: dict[str, str] = {}
        """Of upstreams whose `protocol` is not "http1"."""
        self._keepalive: dict[Endpoint, float] = {}
        """Endpoints that may have idle connections: after how many seconds those are closed."""
        self._sweeps = Supervised("upstream deadlines", self.sweep, every=SWEEP)

    def start(self) -> None:
        """Begin to sweep; call it once the loop runs."""
        self._sweeps.start()

    def close(self) -> None:
        """Stop sweeping and close every connection, in use or not."""
        self._sweeps.close()
        for opening in tuple(self._opening):
            opening.cancel()
        for endpoint in self._keepalive:
            if endpoint.shared is not None:
                endpoint.shared.close()
        for connection in tuple(self.open):
            connection.give_up()
        for endpoint in self._keepalive:
            endpoint.close_idle()
        self._keepalive.clear()

    def take(self, endpoint: Endpoint, *, look: bool) -> Stream | None:
        """The usable connection to `endpoint` that has been idle for the shortest time, if there is
        one; or a place on one that requests share.

        look: one with unread input, which the loop has not seen yet, is closed and not used, for
              what cannot be sent again: an answer that was not asked for would be taken for that of
              the next request. Then no other is tried either, since an endpoint that closes one
              usually closes all. Without it, `write_request` looks.
        """
        idle = endpoint.idle
        while idle:
            connection: Connection = idle.pop()
            if connection.closed:
                continue
            if look and connection.has_unread_input():
                connection.close()
                return None
            return connection
        shared: Shared | None = endpoint.shared
        return None if shared is None else shared.take()

    def write_later(self, connection: Connection) -> None:
        """Call its `write_request` at the end of this turn."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write_unsent)
        self._unsent.append(connection)

    def _write_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        for connection in unsent:
            try:
                connection.write_request()
            except Exception:  # The others write nevertheless.
                log.exception("cannot send a request to %s", connection.endpoint.name)
                connection.close()

    async def connect(
        self, endpoint: Endpoint, timeout: float, max_idle: int = 0, keepalive: float = 60.0
    ) -> Stream:
        """A new connection within `timeout` seconds, in steps of SWEEP; or a place on one that
        requests share.

        Raises Failed: CONNECT_FAILED, CONNECT_TIMEOUT, DNS_FAILED, TLS_FAILED, NOT_RECEIVED, or
        OVERLOADED when this process has no descriptors left.
        """
        deadline = NEVER
        while self._protocols and (protocol := self.protocol(endpoint)) != "http1":
            self._keepalive[endpoint] = keepalive
            now = self.clock.monotonic()
            deadline = min(deadline, now + timeout)
            place = await self._shared(endpoint, protocol).connect(
                max(0.0, deadline - now), max_idle, keepalive
            )
            if place is not None:
                return place
        return await self.connect_http1(endpoint, timeout, max_idle, keepalive)

    async def connect_http1(
        self, endpoint: Endpoint, timeout: float, max_idle: int = 0, keepalive: float = 60.0
    ) -> Connection:
        """A new HTTP/1.1 connection, whatever the protocol; as `connect`."""
        self._keepalive[endpoint] = keepalive
        tls = self._tls.get(endpoint.upstream)
        made = Connection(self, endpoint, max_idle)
        connection: Connection = await Opening(
            self._opener or self._open, made, self._opening, self.clock.monotonic(), timeout
        )
        if self._tls.get(endpoint.upstream) is not tls:
            connection.retire()
        return connection

    async def connect_apart(self, endpoint: Endpoint, timeout: float) -> Connection | RequestStream:
        """A new connection by the endpoint's protocol that nothing else uses; as `connect`."""
        protocol = self.protocol(endpoint)
        if protocol == "http1":
            return await self.connect_http1(endpoint, timeout)
        return await self._shared(endpoint, protocol).connect_apart(timeout)

    def protocol(self, endpoint: Endpoint) -> str:
        """The protocol of connections to `endpoint`: "http1", "h2" (over TLS, or in clear text), or
        "auto" (by ALPN)."""
        protocol = self._protocols.get(endpoint.upstream, "http1")
        if protocol == "auto":
            return "auto" if endpoint.scheme == "https" else "http1"
        return "h2" if protocol == "h2c" else protocol

    def secure(
        self,
        upstream: str,
        endpoints: Iterable[Endpoint],
        tls: UpstreamTls | None,
        protocol: str = "http1",
    ) -> None:
        """Use `tls` and `protocol` for connections to this upstream from now on; existing ones are
        not used again."""
        if self._tls.get(upstream) is tls and self._protocols.get(upstream, "http1") == protocol:
            return
        self._tls.pop(upstream, None)
        self._protocols.pop(upstream, None)
        if tls is not None:
            self._tls[upstream] = tls
        if protocol != "http1":
            self._protocols[upstream] = protocol
        for endpoint in endpoints:
            endpoint.close_idle()
            endpoint.shared = None
        for connection in self.open:
            if connection.endpoint.upstream == upstream:
                connection.retire()

    def retain(self, upstreams: Collection[str]) -> None:
        """Forget the TLS and the protocols of all other upstreams."""
        for name in self._tls.keys() - set(upstreams):
            del self._tls[name]
        for name in self._protocols.keys() - set(upstreams):
            del self._protocols[name]

    def _shared(self, endpoint: Endpoint, protocol: str) -> Shared:
        """The connections to `endpoint` that requests share."""
        shared: Shared | None = endpoint.shared
        if shared is None:
            from gateway.upstream.connections.http2.sharing import Shared

            opener = self._opener or partial(self._open, protocol=protocol)
            shared = endpoint.shared = Shared(self, endpoint, opener, self._opening, protocol)
        return shared

    async def _open(
        self,
        factory: Callable[[], asyncio.Protocol],
        endpoint: Endpoint,
        protocol: str = "http1",
    ) -> object:
        tls = self._tls.get(endpoint.upstream)
        return await open_socket(factory, endpoint, tls, protocol)

    def sweep(self) -> None:
        """End what is past its deadline, close what has been idle for too long."""
        now = self.now = self.clock.monotonic()
        odd: Exception | None = None
        for connection in tuple(self.open):
            if now >= connection.deadline or now >= connection.limit:
                try:
                    connection.expire(now)
                except Exception as error:
                    odd = error  # The others end nevertheless.
                    connection.close()
        for opening in tuple(self._opening):
            if now >= opening.deadline:
                opening.expire()
        gone = []
        for endpoint, keepalive in self._keepalive.items():
            idle = endpoint.idle  # The longest idle stand first.
            while idle and now - idle[0].idle_since > keepalive:
                idle.pop(0).close()
            if endpoint.retired:
                gone.append(endpoint)
        for endpoint in gone:
            del self._keepalive[endpoint]
        if odd is not None:
            raise odd
