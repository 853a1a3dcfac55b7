"""A tunnel: two sockets whose bytes are handed from one to the other untouched, until both are
closed.

Each side is an `End`, the protocol of its own socket, so a chunk costs one call from the event loop
and one write. A socket that takes bytes too slowly keeps the other from being read. What becomes of
one side becomes of the other: the end of its data is passed on as that, a reset as a reset. Of what
passes only the boundaries of WebSocket frames are followed, because a tunnel that the gateway
itself must end is to say so with a Close frame (RFC 6455 section 7.4.1: 1001, or 1008 when its
credentials are no longer good), which may stand only between frames.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from gateway.protocols.crumbs import CRUMB, CrumbProtocol
from gateway.protocols.websocket import GOING_AWAY, Frames, close_frame

SWEEP = 1.0
"""Seconds between two looks at the idle ones; idle timeouts are this exact."""
CLOSING = 5.0
"""Seconds a side has to answer the gateway's Close frame."""
LINGER = 30.0
"""Seconds a side has to take what is left for it once the other has gone."""

_NEVER = float("inf")
_NO_LINGER = struct.pack("ii", 1, 0)


class End(CrumbProtocol):
    """One side's socket. What comes from it goes to `peer`.

    frames: those that came from here; count: their bytes. moved: some came since the last sweep.
    told:   the gateway has said Close here, so nothing of `peer` goes here any more.
    ending: `peer` is to be told once the frame that is passing to it has passed.
    eof:    no more will come from here. lost: the socket is closed.
    """

    __slots__ = (
        "_masks",
        "_tunnel",
        "count",
        "ending",
        "eof",
        "frames",
        "lost",
        "moved",
        "name",
        "peer",
        "told",
        "transport",
    )

    peer: End
    transport: asyncio.Transport

    def __init__(self, tunnel: Tunnel, name: str, masks: bool) -> None:
        super().__init__()
        self.name = name
        self.frames = Frames()
        self.count = 0
        self.moved = self.told = self.ending = self.eof = self.lost = False
        self._masks = masks
        self._tunnel = tunnel

    def __repr__(self) -> str:
        state = "closed" if self.lost else "half-closed" if self.eof else "open"
        return f"<End {self.name} {state}, {self.count} bytes>"

    # asyncio.Protocol.

    def data_received(self, data: bytes) -> None:
        self.moved = True
        self.count += len(data)
        peer = self.peer
        if self.ending or peer.told:
            self._last(data)
            return
        self.frames.feed(data)
        if not peer.lost:
            peer.transport.write(data)
            if len(data) < CRUMB:
                peer.count_crumb(peer.transport)

    def eof_received(self) -> bool:
        """Return True if this side stays open because `peer` may still send."""
        self.eof = True
        peer = self.peer
        if self.told or peer.told or peer.lost or peer.eof or not peer.transport.can_write_eof():
            return False
        peer.transport.write_eof()
        return (
            self.transport.can_write_eof()
        )  # Not over TLS: asyncio has no half-closed connections there.

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._tunnel.lost(self, exc)

    def pause_writing(self) -> None:
        peer = self.peer
        if not self.told and not peer.lost:
            peer.transport.pause_reading()

    def resume_writing(self) -> None:
        self.crumbs_taken(self.transport)
        self.peer.resume()

    def resume(self) -> None:
        """Reads on."""
        if not self.lost and not self.eof:
            self.transport.resume_reading()

    # How it ends when the gateway wants it to.

    def go_away(self) -> None:
        """Nothing more is to pass from here: tells `peer`, as soon as no frame is in the way."""
        if self.frames.at_boundary:
            self.peer.tell()
        else:
            self.ending = True

    def tell(self) -> None:
        """Says Close here, in place of `peer`."""
        self.told = True
        peer = self.peer
        if not self.lost and not peer.frames.closed:
            if peer.eof:
                self.transport.close()  # It has been told that nothing will follow.
                return
            self.transport.write(close_frame(self._tunnel.code, self._masks))
        self._settle()
        # It may have been held back for the sake of this side, which gets nothing more of it.
        peer.resume()

    def _last(self, data: bytes) -> None:
        """Handle data while the tunnel ends: pass the rest of a frame, then only look for a Close
        frame."""
        if self.ending:
            size = self.frames.feed_frame(data)
            if not self.peer.lost:
                self.peer.transport.write(data[:size])
            if not self.frames.at_boundary:
                return
            self.ending = False
            self.peer.tell()
            data = data[size:]
        self.frames.feed(data)
        self._settle()

    def _settle(self) -> None:
        """Closes the socket once both have said Close."""
        if self.told and self.frames.closed and not self.lost:
            self.transport.close()

    def reset(self) -> None:
        """Closes it as abruptly as the other side was closed."""
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()


class Tunnel:
    """A client's and an endpoint's socket, joined.

    idle:  seconds without a byte in either direction after which it is ended.
    ended: called once, when both sockets are closed.
    `reason` is why it did not end by itself, for the access log, or ""; `code` is what the Close
    frames of the gateway say (RFC 6455 section 7.4.1).
    """

    __slots__ = (
        "_ended",
        "_idle",
        "_last",
        "_loop",
        "_over",
        "_until",
        "client",
        "code",
        "reason",
        "upstream",
    )

    def __init__(
        self, idle: float, loop: asyncio.AbstractEventLoop, ended: Callable[[Tunnel], None]
    ) -> None:
        self._idle = idle
        self._loop = loop
        self._last = loop.time()
        self._until = _NEVER
        self._ended = ended
        self._over = False
        self.reason = ""
        self.code = GOING_AWAY
        self.client = End(self, "client", masks=False)
        self.upstream = End(self, "upstream", masks=True)
        self.client.peer = self.upstream
        self.upstream.peer = self.client

    def __repr__(self) -> str:
        return f"<Tunnel {self.client!r} {self.upstream!r}>"

    def go_away(self, reason: str, code: int = GOING_AWAY) -> None:
        """Ends it as politely as the state of both streams allows, within CLOSING seconds."""
        ending = self._until != _NEVER
        self._until = min(self._until, self._loop.time() + CLOSING)
        if ending:
            return
        self.reason, self.code = reason, code
        # Else the two are at it already.
        if not self.client.frames.closed and not self.upstream.frames.closed:
            self.upstream.go_away()
            self.client.go_away()

    def abort(self) -> None:
        """Ends it at once."""
        for end in (self.client, self.upstream):
            if not end.lost:
                end.transport.abort()

    def lost(self, end: End, exc: Exception | None) -> None:
        """One side is closed: so will be the other."""
        peer = end.peer
        if peer.lost:
            if not self._over:
                self._over = True
                self._ended(self)
        elif peer.told:
            pass  # It may still answer the gateway's Close frame.
        elif exc is not None and not end.frames.closed:
            self.reason = self.reason or f"{end.name}_reset"
            peer.reset()
        else:
            self._until = min(self._until, self._loop.time() + LINGER)
            peer.transport.close()

    def check(self, now: float) -> None:
        """Ends it when it has been idle for too long, or is taking too long to end."""
        if now >= self._until:
            self.abort()
        elif self.client.moved or self.upstream.moved:
            self.client.moved = self.upstream.moved = False
            self._last = now
        elif now - self._last >= self._idle:
            self.go_away("idle_timeout")


class Tunnels:
    """All tunnels of a listener. One sweep watches them instead of a timer each."""

    def __init__(self) -> None:
        self._live: set[Tunnel] = set()
        self._due = 0.0

    def __len__(self) -> int:
        return len(self._live)

    def add(self, tunnel: Tunnel) -> None:
        self._live.add(tunnel)

    def discard(self, tunnel: Tunnel) -> None:
        self._live.discard(tunnel)

    def sweep(self, now: float) -> None:
        """Looks at them all, if SWEEP seconds have passed since the last time. `now` is the loop's
        time."""
        if now >= self._due:
            self._due = now + SWEEP
            for tunnel in tuple(self._live):
                tunnel.check(now)

    def abort(self) -> None:
        """Ends them all, at once."""
        for tunnel in tuple(self._live):
            tunnel.abort()

    def go_away(self, reason: str) -> None:
        """Ends them all, politely."""
        for tunnel in tuple(self._live):
            tunnel.go_away(reason)
