"""A socket to an endpoint, below any protocol: back-pressure, unread input, keep-alive, its end."""

from __future__ import annotations

import asyncio
import os
import select
import ssl

from mypy_extensions import mypyc_attr

from gateway.core.wait import Wait
from gateway.protocols.crumbs import CrumbProtocol
from gateway.upstream.connections.interfaces import NEVER, Owner
from gateway.upstream.pool.endpoint import Endpoint

TURN_EVENTS = 1000
"""Parts of answers after which the event loop has its turn. uvloop reads up to 8 MiB of one socket
in a turn, which may be a million parts of a byte."""
SALVAGE = 256 * 1024
"""Bytes read at most from a socket on which a write has failed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class EndpointSocket(CrumbProtocol):
    """A socket to `endpoint`, among its owner's open ones from when it is connected until it is
    closed.

    deadline: when the sweep calls `expire` (clock.monotonic). limit: likewise, for all of an
    exchange.
    """

    __slots__ = (
        "_max_idle",
        "_owner",
        "_reading_paused",
        "_room",
        "_transport",
        "_writing_paused",
        "closed",
        "deadline",
        "endpoint",
        "idle_since",
        "limit",
        "poll",
    )

    _transport: asyncio.Transport

    def __init__(self, owner: Owner, endpoint: Endpoint, max_idle: int) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.closed = False
        self.idle_since = 0.0
        self.deadline = self.limit = NEVER
        self._owner = owner
        self._max_idle = max_idle
        self.poll: select.poll | None = None
        self._writing_paused = self._reading_paused = False
        self._room: Wait[None] | None = None

    def close(self) -> None:
        """Close the socket at once. What waits for an answer must have its outcome already."""
        self.closed = True
        self.deadline = self.limit = NEVER
        self._owner.open.discard(self)
        transport: asyncio.Transport | None = getattr(self, "_transport", None)
        if transport is not None:
            transport.abort()

    def has_unread_input(self) -> bool:
        """Return True if bytes or the end of the connection are waiting in the socket."""
        poll = self.poll
        return poll is not None and bool(poll.poll(0))

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._reading_paused and not self.closed:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on after `pause_reading`."""
        if self._reading_paused and not self.closed:
            self._reading_paused = False
            self._transport.resume_reading()

    def yield_turn(self) -> None:
        """Read on in the loop's next turn, if not paused for longer."""
        if not self._reading_paused and not self.closed:
            self.pause_reading()
            asyncio.get_running_loop().call_soon(self.resume_reading)

    def retire(self) -> None:
        """Do not keep it: it closes after the answer that is under way."""
        self._max_idle = 0

    def keep(self) -> None:
        """Add it to the endpoint's idle ones if there is room, else close it."""
        endpoint = self.endpoint
        idle = endpoint.idle
        if self._writing_paused or self.closed or len(idle) >= self._max_idle or endpoint.retired:
            self.close()
            return
        self.deadline = self.limit = NEVER
        self.idle_since = self._owner.now
        idle.append(self)

    def leave(self) -> None:
        """Take it out of the idle ones."""
        try:
            self.endpoint.idle.remove(self)
        except ValueError:
            pass

    def salvage(self) -> bytes:
        """Read what came before a write failed.

        An endpoint that answers early and closes resets what is still being sent, and the event
        loop may report that before it reads the answer. Not over TLS, whose state is the loop's.
        """
        transport = self._transport
        if self._reading_paused or transport.get_extra_info("ssl_object") is not None:
            return b""
        try:
            return os.read(transport.get_extra_info("socket").fileno(), SALVAGE)
        except (OSError, AttributeError):  # Closed, or no socket of the kernel's.
            return b""

    def ended_by_peer(self) -> bool:
        """Return True if the end of what came is the sender's own. RFC 9112 section 9.8: over TLS
        only close_notify says so."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return bool(tls.read(1) == b"")
        except ssl.SSLError:
            # Nothing to read and no close_notify: anyone on the path can end a TCP connection.
            return False

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._owner.open.add(self)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            # Made once: a poll object for every look costs ten times as much as the look.
            self.poll = select.poll()
            self.poll.register(raw.fileno(), select.POLLIN)

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self.crumbs_taken(self._transport)
        self._wake_writer()

    def _wait_for_room(self) -> Wait[None]:
        if self._room is None:
            self._room = Wait()
        return self._room

    def _wake_writer(self) -> None:
        """Resume what waits for room to write; last, for it may write at once."""
        room, self._room = self._room, None
        if room is not None:
            room.wake()
