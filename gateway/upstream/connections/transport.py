"""Connections to endpoints: opening them, keeping idle ones, sweeping deadlines.

`Transport` takes idle connections from their endpoint last in, first out, so that surplus ones age
out, and sweeps deadlines instead of setting a timer per request. Health and balancing live in
pool/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from gateway.core.clock import REAL, Clock
from gateway.lifetime.supervised import Supervised
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.opening import Opener, Opening, open_socket
from gateway.upstream.pool.endpoint import Endpoint

if TYPE_CHECKING:
    from gateway.upstream.connections.tls import UpstreamTls

SWEEP = 0.1
"""Seconds between two looks at the deadlines; deadlines are this exact."""


class Transport:
    """Opens connections and watches their deadlines. `now` is clock.monotonic as of the last sweep,
    good for deadlines only."""

    def __init__(self, clock: Clock = REAL, opener: Opener | None = None) -> None:
        self.clock = clock
        self.now = clock.monotonic()
        self.open: set[Connection] = set()
        self._opening: set[Opening[Connection]] = set()
        self._opener = opener or self._open
        self._tls: dict[str, UpstreamTls] = {}
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
        for connection in tuple(self.open):
            connection.give_up()
        for endpoint in self._keepalive:
            endpoint.close_idle()
        self._keepalive.clear()

    def take(self, endpoint: Endpoint) -> Connection | None:
        """The usable connection to `endpoint` that has been idle for the shortest time, if there is
        one.

        One with unread input, which the loop has not seen yet, is closed and not used: an answer
        that was not asked for would be taken for that of the next request. Then no other is tried
        either, since an endpoint that closes one usually closes all.
        """
        idle = endpoint.idle
        while idle:
            connection: Connection = idle.pop()
            if connection.closed:
                continue
            poll = connection.poll  # has_unread_input, without the call.
            if poll is not None and poll.poll(0):
                connection.close()
                return None
            return connection
        return None

    async def connect(
        self, endpoint: Endpoint, timeout: float, max_idle: int = 0, keepalive: float = 60.0
    ) -> Connection:
        """A new connection within `timeout` seconds, in steps of SWEEP.

        Raises Failed: CONNECT_FAILED, CONNECT_TIMEOUT, DNS_FAILED, TLS_FAILED, or OVERLOADED when
        this process has no descriptors left.
        """
        self._keepalive[endpoint] = keepalive
        tls = self._tls.get(endpoint.upstream)
        made = Connection(self, endpoint, max_idle)
        connection = await Opening(
            self._opener, made, self._opening, self.clock.monotonic(), timeout
        )
        if self._tls.get(endpoint.upstream) is not tls:
            connection.retire()
        return connection

    def secure(self, upstream: str, endpoints: Iterable[Endpoint], tls: UpstreamTls | None) -> None:
        """Use `tls` for connections to this upstream from now on; existing ones are not used
        again."""
        if self._tls.get(upstream) is tls:
            return
        if tls is None:
            del self._tls[upstream]
        else:
            self._tls[upstream] = tls
        for endpoint in endpoints:
            endpoint.close_idle()
        for connection in self.open:
            if connection.endpoint.upstream == upstream:
                connection.retire()

    def retain(self, upstreams: Collection[str]) -> None:
        """Forget the TLS of all other upstreams."""
        for name in self._tls.keys() - set(upstreams):
            del self._tls[name]

    async def _open(self, factory: Callable[[], asyncio.Protocol], endpoint: Endpoint) -> object:
        return await open_socket(factory, endpoint, self._tls.get(endpoint.upstream))

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
