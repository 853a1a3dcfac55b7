"""Clients that are slow: heads, bodies and answers that do not get on. One sweep over all
connections, no timer per request.

A body, and an answer on its way to the client, must get on by PROGRESS bytes within each
`body_timeout` or `write_timeout`, or come to its end: a byte now and then is how slowloris holds
connections. Only waiting counts: while it is the upstream that is slow, no client is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.config.tables.server import ServerConfig
from gateway.core.failures import Failed, Failure
from gateway.serving.body import ClientBody

PROGRESS = 1024
"""Bytes."""
SELDOM = 1.0
"""Seconds between two looks at what has not been sent yet, at the most."""

Mark = tuple[float, int]
"""Since when, and where it was then."""


class Slow(Protocol):
    """What waits for a client: a connection of HTTP/1.1, or a stream of HTTP/2."""

    body: ClientBody | None

    def give_up_body(self, failed: Failed) -> None:
        """The request's body comes too slowly."""

    def abort(self) -> None:
        """The answer is taken too slowly: break it off."""


class Connection(Slow, Protocol):
    """A connection, as the deadlines see it; see Http1Connection and Http2Connection.

    streams: those of HTTP/2, else None.
    """

    transport: asyncio.Transport | None
    head_since: float
    idle_since: float
    linger_until: float
    holds: int

    @property
    def awaiting_head(self) -> bool: ...

    @property
    def streams(self) -> Mapping[int, Stream] | None: ...

    def check(self, now: float) -> None:
        """HTTP/2's own deadlines."""

    def refuse(self, failed: Failed, *, linger: bool = True) -> None: ...

    def close(self) -> None: ...

    def look_for_end(self) -> None: ...


class Stream(Slow, Protocol):
    """A stream of HTTP/2. unsent: bytes of its answer that its client has no window for; not 0
    either while its end cannot be sent."""

    @property
    def unsent(self) -> int: ...


class Deadlines:
    """Looks at connections of a listener. What it has to remember is about those alone that are
    waited for."""

    def __init__(self, count: Callable[[str], None]) -> None:
        """count: told the name of each limit that ended something."""
        self._count = count
        self._bodies: dict[Slow, Mark] = {}
        self._unsent: dict[Slow, Mark] = {}
        self._looked = 0.0
        self.configure(ServerConfig())

    def configure(self, config: ServerConfig) -> None:
        self._head = config.header_timeout
        self._body = config.body_timeout
        self._idle = config.idle_timeout
        self._write = config.write_timeout
        self._rest = min(SELDOM, config.write_timeout / 4)

    def sweep(self, connections: Sequence[Connection], now: float) -> None:
        """Ends what is past its time; `now` in the loop's seconds. There may be thousands: know
        what every line costs."""
        slowest, longest = now - self._head, now - self._idle
        bodies: dict[Slow, Mark] = {}
        for connection in connections:
            if 0.0 < connection.head_since < slowest and connection.awaiting_head:
                self._count("header_timeout")
                failed = Failed(
                    Failure.REQUEST_TIMEOUT,
                    "The request's head took too long to arrive.",
                    why=f"no whole head within header_timeout, {self._head:g} s",
                    at=("server", "header_timeout"),
                )
                connection.refuse(failed, linger=False)
            elif 0.0 < connection.idle_since < longest or 0.0 < connection.linger_until < now:
                connection.close()
            if connection.holds:
                connection.look_for_end()
            body = connection.body
            if body is not None and body.waiting:
                self._look_at_body(connection, body.arrived, now, bodies)
            streams = connection.streams
            if streams is not None:
                connection.check(now)
                for stream in tuple(streams.values()):
                    body = stream.body
                    if body is not None and body.waiting:
                        self._look_at_body(stream, body.arrived, now, bodies)
        self._bodies = bodies
        if now - self._looked < self._rest:
            return
        self._looked = now
        unsent: dict[Slow, Mark] = {}
        for connection in connections:
            transport = connection.transport
            if transport is not None and (left := transport.get_write_buffer_size()):
                self._look_at_unsent(connection, left, now, unsent)
            for stream in tuple((connection.streams or {}).values()):
                if left := stream.unsent:
                    self._look_at_unsent(stream, left, now, unsent)
        self._unsent = unsent

    def _look_at_body(self, slow: Slow, arrived: int, now: float, marks: dict[Slow, Mark]) -> None:
        since, mark = self._bodies.get(slow, (now, arrived))
        if arrived - mark >= PROGRESS or arrived < mark:  # Fewer: it is another request's.
            since, mark = now, arrived
        elif now - since > self._body:
            self._count("body_timeout")
            detail = "The request's body took too long to arrive."
            why = f"less than {PROGRESS} bytes within body_timeout, {self._body:g} s"
            slow.give_up_body(Failed(Failure.REQUEST_TIMEOUT, detail, why=why))
            return
        marks[slow] = since, mark

    def _look_at_unsent(self, slow: Slow, left: int, now: float, marks: dict[Slow, Mark]) -> None:
        since, mark = self._unsent.get(slow, (now, left))
        if mark - left >= PROGRESS:
            since, mark = now, left
        elif now - since > self._write:
            self._count("write_timeout")
            slow.abort()
            return
        marks[slow] = since, max(mark, left)
