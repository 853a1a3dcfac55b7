"""A client whose side of a connection has ended: does it wait for its answer, or has it left?

On the wire both begin alike, with a FIN. The kernel of a client that has left answers everything
that is sent to it with a reset. So it is sent what means nothing to one that waits: before the
answer 100 (Continue), which RFC 9110 section 15.2.1 has clients discard that have not asked for
it; within a chunked answer "0", a first digit of the next chunk's size (RFC 9112 section 7.1).
Where nothing can be sent, to HTTP/1.0 and within an answer of known length, a client whose answer
does not get on for QUIET seconds has left.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol

from gateway.core.exchange import Exchange
from gateway.serving.body import ClientBody

GRACE = 0.25
"""Seconds between two looks."""
REPLY = 0.05
"""Seconds for a reset to come back, before the first look at it."""
QUIET = 1.0
"""Seconds without a byte of the answer, where nothing can be sent."""
MAX_LOOKS = 512
"""Looks after which nothing is sent any more: a chunk's size must not get too many digits."""
_ENDED = getattr(select, "POLLRDHUP", 0)
_LEFT = select.POLLERR | select.POLLHUP


class Connection(Protocol):
    """The connection, as this sees it.

    probe: what may be sent now to find out, b"" for nothing.
    """

    transport: asyncio.Transport | None
    exchange: Exchange | None
    body: ClientBody | None
    given_away: bool

    @property
    def probe(self) -> bytes: ...


class Departure:
    """Looks after one connection until it is closed; closes it when the client has left."""

    __slots__ = ("_connection", "_looks", "_quiet_since", "_sent")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._looks = self._sent = 0
        loop = asyncio.get_running_loop()
        self._quiet_since = loop.time()
        # An answer that is under way can be probed at once; before it, one that comes soon spares
        # simple clients a 100.
        begun = connection.exchange is not None and connection.exchange.written
        loop.call_later(0 if begun else GRACE, self._look)

    def _look(self) -> None:
        connection = self._connection
        transport, exchange = connection.transport, connection.exchange
        if transport is None or connection.given_away:
            return
        loop = asyncio.get_running_loop()
        if exchange is not None and exchange.bytes_out != self._sent:
            self._sent = exchange.bytes_out
            self._looks = 0
        if not self._looks or exchange is None or self._is_read(exchange):
            self._quiet_since = loop.time()
        probe = connection.probe
        quiet = not probe and loop.time() - self._quiet_since >= QUIET
        if quiet or _events(transport) & _LEFT:
            transport.abort()
            return
        # Ever more seldom, for one that waits: after 1, 2, 4, 8 ... looks.
        self._looks += 1
        sent = probe and self._looks <= MAX_LOOKS and not self._looks & (self._looks - 1)
        if sent:
            transport.write(probe)
        loop.call_later(REPLY if sent else GRACE, self._look)

    def _is_read(self, exchange: Exchange) -> bool:
        """Return True while its body may be on its way to an upstream that reads slowly."""
        body = self._connection.body
        return not exchange.written and body is not None and not body.received


def has_ended(transport: asyncio.Transport) -> bool:
    """Return True if the client sends nothing more, although not all has been read of it."""
    return bool(_events(transport) & (_ENDED | _LEFT))


def _events(transport: asyncio.Transport) -> int:
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), _ENDED)
    found = poll.poll(0)
    return found[0][1] if found else 0
