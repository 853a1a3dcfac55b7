"""Clients that are slow: heads, bodies and answers that do not get on. One sweep over all
connections, no timer per request.

A body, and an answer on its way to the client, must get on by PROGRESS bytes within each
`body_timeout` or `write_timeout`, or come to its end: a byte now and then is how slowloris holds
connections. Only waiting counts: while it is the upstream that is slow, no client is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gateway.config.tables.server import ServerConfig
from gateway.core.failures import Failed, Failure
from gateway.serving.http1.connection import Http1Connection

PROGRESS = 1024
"""Bytes."""
SELDOM = 1.0
"""Seconds between two looks at what has not been sent yet, at the most."""

Mark = tuple[float, int]
"""Since when, and where it was then."""


class Deadlines:
    """Looks at connections of a listener. What it has to remember is about those alone that are
    waited for."""

    def __init__(self, count: Callable[[str], None]) -> None:
        """count: told the name of each limit that ended something."""
        self._count = count
        self._bodies: dict[Http1Connection, Mark] = {}
        self._unsent: dict[Http1Connection, Mark] = {}
        self._looked = 0.0
        self.configure(ServerConfig())

    def configure(self, config: ServerConfig) -> None:
        self._head = config.header_timeout
        self._body = config.body_timeout
        self._idle = config.idle_timeout
        self._write = config.write_timeout
        self._rest = min(SELDOM, config.write_timeout / 4)

    def sweep(self, connections: Sequence[Http1Connection], now: float) -> None:
        """Ends what is past its time; `now` in the loop's seconds. There may be thousands: know
        what every line costs."""
        slowest, longest = now - self._head, now - self._idle
        bodies: dict[Http1Connection, Mark] = {}
        for connection in connections:
            if 0.0 < connection.head_since < slowest and connection.awaiting_head:
                self._count("header_timeout")
                failed = Failed(
                    Failure.REQUEST_TIMEOUT, "The request's head took too long to arrive."
                )
                connection.refuse(failed, linger=False)
            elif 0.0 < connection.idle_since < longest or 0.0 < connection.linger_until < now:
                connection.close()
            if connection.holds:
                connection.look_for_end()
            body = connection.body
            if body is not None and body.waiting:
                self._look_at_body(connection, body.arrived, now, bodies)
        self._bodies = bodies
        if now - self._looked < self._rest:
            return
        self._looked = now
        unsent: dict[Http1Connection, Mark] = {}
        for connection in connections:
            transport = connection.transport
            if transport is not None and (left := transport.get_write_buffer_size()):
                self._look_at_unsent(connection, transport, left, now, unsent)
        self._unsent = unsent

    def _look_at_body(
        self,
        connection: Http1Connection,
        arrived: int,
        now: float,
        marks: dict[Http1Connection, Mark],
    ) -> None:
        since, mark = self._bodies.get(connection, (now, arrived))
        if arrived - mark >= PROGRESS or arrived < mark:  # Fewer: it is another request's.
            since, mark = now, arrived
        elif now - since > self._body:
            self._count("body_timeout")
            connection.give_up_body(
                Failed(Failure.REQUEST_TIMEOUT, "The request's body took too long to arrive.")
            )
            return
        marks[connection] = since, mark

    def _look_at_unsent(
        self,
        connection: Http1Connection,
        transport: asyncio.Transport,
        left: int,
        now: float,
        marks: dict[Http1Connection, Mark],
    ) -> None:
        since, mark = self._unsent.get(connection, (now, left))
        if mark - left >= PROGRESS:
            since, mark = now, left
        elif now - since > self._write:
            self._count("write_timeout")
            transport.abort()
            return
        marks[connection] = since, max(mark, left)
