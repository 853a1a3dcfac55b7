"""A socket with HTTP/2 on it: room for exchanges, what is sent, and signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from gateway.core.headers import Pair
from gateway.core.wait import Wait
from gateway.protocols.http2.allowance import Allowance
from gateway.protocols.http2.session import Event, Limits, Session
from gateway.upstream.connections.endpoint_socket import EndpointSocket
from gateway.upstream.connections.http1.fields import MAX_FIELDS, MAX_HEAD
from gateway.upstream.connections.http2.sending import RequestSender
from gateway.upstream.connections.interfaces import Owner
from gateway.upstream.pool.endpoint import Endpoint

WINDOW = 256 * 1024
"""Bytes of one answer that may come before any is consumed."""
MAX_STREAMS = 1000
"""Exchanges at a time on one connection, however many more the endpoint takes."""
PING_AFTER = 330.0
"""Seconds without a byte, while exchanges go on, after which the endpoint is asked for a sign of
life. Servers of gRPC end connections that ask more often than every five minutes (gRPC proposal
A8)."""
PING_PATIENCE = 10.0
"""Seconds in which it has to give one."""
RESETS = (100, 3)
"""Exchanges that may be broken off on one connection: at once, and a second. Servers end
connections with more, and with them what other clients have on them: Netty after 200 within 30 s,
nghttp2 after 1,000 and 33 a second."""

_LIMITS = Limits(
    window=WINDOW,
    # Each stream's own window bounds it; one for all of them would let a slow client stop others.
    connection_window=2**31 - 1,
    # A list that is longer ends the connection; one beyond MAX_HEAD only its exchange.
    header_list=4 * MAX_HEAD,
    header_count=4 * MAX_FIELDS,
    advertised=MAX_HEAD,
)


class Offers(Protocol):
    """Where connections with room are found. spare: how many more may be without exchanges."""

    spare: int

    def offer(self, connection: Any) -> None: ...

    def withdraw(self, connection: Any) -> None: ...


class Http2Socket(EndpointSocket):
    """A socket with HTTP/2 on it.

    ready: over when the endpoint's SETTINGS are here; raises Failed if they never come.
    streams: by number, those that are open. heard: when bytes came last (`owner.now`). sent: bytes.
    corked: events are being acted on: what is to be sent goes out together behind them.
    offered: it is among those that `Offers` has.
    """

    __slots__ = (
        "_flushing",
        "_greeted",
        "_keepalive",
        "_leaving",
        "_most",
        "_offers",
        "_pinged",
        "_resets",
        "_writers",
        "corked",
        "heard",
        "offered",
        "owner",
        "ready",
        "sent",
        "session",
        "streams",
    )

    def __init__(
        self, owner: Owner, endpoint: Endpoint, keepalive: float, offers: Offers | None = None
    ) -> None:
        super().__init__(owner, endpoint, 0)
        self.owner = owner
        self.session = Session(_LIMITS, client=True)
        self.streams: dict[int, Any] = {}
        self.ready: Wait[None] = Wait()
        self.heard = owner.now
        self.sent = 0
        self.corked = self.offered = False
        self._offers = offers
        self._keepalive = keepalive
        self._most = 0
        self._leaving = self._pinged = False
        self._flushing = self._greeted = False
        self._resets = Allowance(*RESETS, owner.now)
        self._writers: dict[RequestSender, Wait[None]] = {}

    def __repr__(self) -> str:
        state = "closed" if self.closed else "leaving" if self._leaving else "open"
        return f"<{type(self).__name__} {self.endpoint.name} {state}, {len(self.streams)} streams>"

    @property
    def room(self) -> int:
        """How many more exchanges may begin."""
        return 0 if self._leaving or self._pinged else self._most - len(self.streams)

    # Exchanges.

    def begin(self, stream: RequestSender, fields: Sequence[Pair], end: bool) -> int:
        """Begin an exchange; its number, 0 where none can begin any more."""
        number = 0 if self.closed or self._leaving else self.session.request(fields, end=end)
        if not number:
            self._leave()
            return 0
        if not self.streams and not self._pinged:
            self.heard = self.owner.now
            self.deadline = self.heard + PING_AFTER
        self.streams[number] = stream
        if self.room <= 0 and self._offers is not None:
            self._offers.withdraw(self)
        self.write_soon()
        return number

    def reset(self, number: int, code: int) -> None:
        """Break an exchange off. A connection on which that was often begins no others: they go to
        a new one, and the endpoint has no reason to end those that are left."""
        self.session.reset(number, code)
        if not self._resets.spend(1, self.owner.now):
            self._leave()

    def over(self, number: int) -> None:
        """An exchange has ended: there is room for another."""
        stream = self.streams.pop(number, None)
        if stream is None or self.closed:
            return
        self._writers.pop(stream, None)
        if not self.streams:
            offers = self._offers
            surplus = offers is not None and offers.spare + self.offered < 1
            if self._leaving or not self._keepalive or surplus:
                self.flush()  # The reset of that exchange, if it was broken off.
                self.close()
                return
            if not self._pinged:
                self.deadline = self.owner.now + self._keepalive
        self.offer_room()

    def room_for(self, stream: RequestSender) -> Wait[None] | None:
        """A Wait until what a stream has queued has been sent; None when it has been."""
        if not self._writing_paused and not self.session.queued(stream.number):
            return None
        wait = self._writers[stream] = Wait()
        return wait

    def suspect(self, since: float) -> None:
        """An exchange has run out of time. If nothing has come since then, ask whether the endpoint
        is still there, and begin no other exchange meanwhile."""
        if self.heard <= since and not self._pinged and not self.closed:
            self._ask()

    def _ask(self) -> None:
        self._pinged = True
        self.deadline = self.owner.now + PING_PATIENCE
        if self._offers is not None:
            self._offers.withdraw(self)
        self.session.ping()
        self.write_soon()

    def offer_room(self) -> None:
        """Let requests find it, if there is room."""
        if not self.offered and self._offers is not None and self.room > 0 and not self.closed:
            self._offers.offer(self)

    # Sending.

    def write_soon(self) -> None:
        """Send what is pending in the loop's next turn, together with what comes until then."""
        if not self._flushing and not self.corked:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._flushing = False
        self.flush()

    def flush(self) -> None:
        """Send what is pending, as far as the socket takes it, and act on what that brings."""
        if self.closed or self.corked or self._writing_paused:
            return
        data = self.session.pending()
        if data:
            self.sent += len(data)
            self._transport.write(data)
        events = self.session.events()
        if events:
            self._take(events)
        for stream in [*self._writers] if self._writers else ():
            if not self._writing_paused and not self.session.queued(stream.number):
                wait = self._writers.pop(stream, None)
                if wait is not None:
                    wait.wake()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self.flush()

    def _leave(self) -> None:
        """Begin no more exchanges; close when the last has ended."""
        self._leaving = True
        if self._offers is not None:
            self._offers.withdraw(self)

    def _take(self, events: list[Event]) -> None:
        """Act on what has come, or has been brought about by sending."""
        raise NotImplementedError
