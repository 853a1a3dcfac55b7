"""A client's connection in HTTP/2: many requests at a time, each on a stream of its own.

It feeds its session (protocols/http2), begins what has come, and sends what the session has: once
for all that one piece of the socket's bytes brought about. What a slow client does not take stays
in the session, where no stream has more than a piece. Deadlines are the sweep's
(net/deadlines.py).

What an honest client seldom does has a budget; one that goes beyond it is told so by GOAWAY with
ENHANCE_YOUR_CALM and counted in `gateway_http2_ended_total`:

- streams that are reset before their answer, by the client or for its mistakes (rapid reset,
  CVE-2023-44487; made-you-reset, CVE-2025-8671),
- frames that bring no work: PING, SETTINGS, PRIORITY_UPDATE, empty DATA, RST_STREAM of what is
  gone, those that are ignored, requests beyond the streams that are allowed, and WINDOW_UPDATE
  beyond what the answers explain.

HPACK's bombs, CONTINUATION floods and acknowledgements that are not read are the session's, streams
at once the protocol's own limit.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence
from typing import Any, Final

from gateway.core.failures import Failed
from gateway.protocols.http2.allowance import Allowance
from gateway.protocols.http2.session import (
    ConnectionClosed,
    DataReceived,
    ErrorCode,
    GoAwayReceived,
    PingAcknowledged,
    RequestReceived,
    Session,
    StreamClosed,
    TrailersReceived,
)
from gateway.protocols.http2.session import Failed as SessionFailed
from gateway.serving.admission import Admission
from gateway.serving.body import ClientBody
from gateway.serving.http2.head import HeadReader, Http2Head
from gateway.serving.http2.sending import Sending
from gateway.serving.http2.stream import Http2Stream
from gateway.serving.server import Server

STREAMS = 100
"""Streams that a client may have open at once (RFC 9113 section 6.5.2 advises no fewer)."""
WINDOW = 128 * 1024
"""Bytes of a request's body that may wait for their reader; CONNECTION_WINDOW: of all together."""
CONNECTION_WINDOW = 1024 * 1024
SLICE: Final = 16 * 1024
"""Bytes taken at once, so that a flood is noticed within it."""
RESETS = (200, 20)
"""Streams that may be reset before their answer: at once, and a second."""
FRAMES = (1000, 100)
"""Frames that bring no work, likewise; beside PER_PIECE for each piece of an answer."""
PER_PIECE = 3
ROUND_TRIP = 1.0
"""Seconds for streams on their way when the client is told that no more are wanted."""
LINGER = 1.0
"""Seconds a client has to close the connection after GOAWAY, before it is closed here."""
DROPPED = 64 * 1024
"""Bytes taken of a client that has been told the end."""
_NOTICED = b"goaway.."


class State(enum.Enum):
    """The states of a connection."""

    OPEN = enum.auto()
    LEAVING = enum.auto()
    """GOAWAY has announced the end; streams on their way are still taken."""
    LAST = enum.auto()
    """The last GOAWAY has been sent; streams that are there are served to their end."""
    ENDED = enum.auto()
    """Nothing is read any more; the client is given time to read the end."""


class Http2Connection(Sending):
    """One client's socket; `peer` is its address.

    head_since: when a head that has not come to its end began, else 0. idle_since: when the last
    stream ended, 0 while there is one. linger_until: when the socket closes, 0 while it is used.
    """

    __slots__ = (
        "_allowed_frames",
        "_allowed_resets",
        "_count",
        "_dropped",
        "_frames",
        "_heads",
        "_leaving_since",
        "admission",
        "head_since",
        "idle_since",
        "linger_until",
        "peer",
        "pieces",
        "scheme",
        "state",
    )

    body: ClientBody | None = None
    holds: int = 0
    """Bodies are its streams'."""

    def __init__(self, server: Server, heads: HeadReader, session: Session, peer: str = "") -> None:
        super().__init__(server, session)
        self.admission: Admission = server.admission
        self.peer = peer
        self.scheme = "http"
        self.state = State.OPEN
        self.head_since = self.idle_since = self.linger_until = 0.0
        self._heads = heads
        self._allowed_frames = Allowance(*FRAMES, server.now)
        self._allowed_resets = Allowance(*RESETS, server.now)
        assert session.heads is not None
        self._frames = session.heads
        self._count = self.pieces = self._dropped = 0
        self._leaving_since = 0.0

    def __repr__(self) -> str:
        state = "closed" if self.transport is None else self.state.name.lower()
        return f"<Http2Connection {self.peer} {state}, {len(self.streams)} streams>"

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.idle_since = self.server.now
        self.server.opened(self)
        self.flush()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.transport = None
        self.state = State.ENDED
        self.server.closed(self)
        self._close_streams()

    def data_received(self, data: bytes) -> None:
        if self.state is State.ENDED:
            self._drop(len(data))
            return
        self._handling = True
        if len(data) <= SLICE:
            self._receive(data)
        else:
            for at in range(0, len(data), SLICE):
                self._receive(data[at : at + SLICE])
                if self.linger_until:
                    break
        self._handling = False
        if self._again or self.session.has_pending:
            self.flush()

    def _drop(self, size: int) -> None:
        """Bytes behind the end: what was on its way is taken, for a socket with unread bytes is
        closed by a reset, which may overtake the last words. More is left to the kernel."""
        before, self._dropped = self._dropped, self._dropped + size
        if before <= DROPPED < self._dropped and self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """A client that sends nothing more has left: it could not acknowledge anything."""
        return False

    # What comes.

    def _receive(self, data: bytes) -> None:
        events = self.session.receive(data)
        if events:
            self._take(events)
        heads = self._frames
        if heads.in_head:
            self.head_since = self.head_since or self.server.now
            self.idle_since = 0.0
        elif self.head_since:
            self.head_since = 0.0
            if not self.streams:  # Else nothing would say so of a head that belongs to no stream.
                self.idle_since = self.server.now
        workless, heads.workless = heads.workless, 0
        if workless > 0:
            self._spend(workless)

    def _spend(self, frames: int) -> None:
        """So many frames have brought no work."""
        allowed = self._allowed_frames
        allowed.credit(PER_PIECE * self.pieces)
        self.pieces = 0
        if not allowed.spend(frames, self.server.now):
            self._calm("frames")

    def _take(self, events: Sequence[Any]) -> None:
        """Everything the events say first; what waits for it goes on after that."""
        begun: list[Http2Stream] = []
        fed: list[Http2Stream] = []
        streams = self.streams
        for event in events:
            kind = event.__class__
            if kind is RequestReceived:
                begun.append(self._open(event))
            elif kind is StreamClosed:
                self._closed(event.stream_id, event.error_code)
            elif kind is DataReceived:
                stream = streams.get(event.stream_id)
                if stream is None:
                    self.session.consumed(event.stream_id, len(event.data))
                else:
                    stream.feed(event.data, event.end_stream)
                    fed.append(stream)
            elif kind is TrailersReceived:
                stream = streams.get(event.stream_id)
                if stream is not None:
                    stream.feed_trailers(event.headers)
                    fed.append(stream)
            elif kind is PingAcknowledged:
                if self.state is State.LEAVING and event.opaque_data == _NOTICED:
                    self._take_no_more()
            elif kind is GoAwayReceived:
                if event.error_code and self.state is not State.ENDED:
                    self._finish()  # It closes the connection (RFC 9113 section 5.4.1).
            elif kind is ConnectionClosed:
                self._end(event.error_code)
            elif kind is SessionFailed:
                self._end(event.code)
        if begun and self.state is not State.ENDED:
            self._begin(begun)
        elif begun:
            self._close_streams()  # Some came behind the end.
        for stream in fed:
            if stream.body is not None:
                stream.body.wake()

    def _open(self, event: Any) -> Http2Stream:
        number: int = event.stream_id
        head: Http2Head | Failed
        try:
            head = self._heads.read(event.headers, self.server.runtime.snapshot.number)
        except Failed as failed:
            head = failed
        stream = self.streams[number] = Http2Stream(self, number, head, not event.end_stream)
        return stream

    def _begin(self, begun: Sequence[Http2Stream]) -> None:
        """Run the requests that have come, but for those that have been reset already."""
        count, server = len(begun), self.server
        self._count += count
        self.pieces += count
        self._frames.workless -= count
        server.http2_requests.level += count
        if self.streams:
            self.idle_since = 0.0
        if self._count >= server.max_requests:
            self.leave()
        for stream in begun:
            if stream.open:
                stream.run()

    def _closed(self, number: int, code: int) -> None:
        """A stream has ended, in whatever way."""
        stream = self.streams.pop(number, None)
        if stream is None:
            cut_short = code != ErrorCode.NO_ERROR  # It was malformed, and never begun.
        else:
            cut_short = stream.closed(code)
            self._frames.workless -= 1
            if self._waiting or self._cutting:
                self._forget(stream)
        if not self.streams and self.state is not State.ENDED:
            self.idle_since = self.server.now
        if cut_short and not self._allowed_resets.spend(1, self.server.now):
            self._calm("resets")

    # How it ends.

    def leave(self) -> None:
        """Take no new streams, after those that are on their way (RFC 9113 section 6.8)."""
        if self.state is State.OPEN:
            self.state = State.LEAVING
            self._leaving_since = asyncio.get_running_loop().time()
            # The answer to the PING comes behind all that the client sent before it knew.
            self.session.announce_end()
            self.session.ping(_NOTICED)
            self.flush()

    def _take_no_more(self) -> None:
        self.state = State.LAST
        self.session.goaway()
        self.flush()

    def _calm(self, reason: str) -> None:
        """The client has gone beyond a budget."""
        if self.state is not State.ENDED:
            self.server.count_http2_end(reason, self.peer)
            self._terminate()

    def _terminate(self) -> None:
        self.session.terminate(ErrorCode.ENHANCE_YOUR_CALM)
        self._finish()

    def _end(self, code: int) -> None:
        """The session has ended; its last words are still to be sent."""
        if self.state is not State.ENDED:
            if code != ErrorCode.NO_ERROR:
                self.server.count_http2_end(_NAMES.get(code, "other"), self.peer)
            self._finish()

    def _finish(self) -> None:
        """Send the last words, and give the client time to read them."""
        self.state = State.ENDED
        self._close_streams()
        self._writing_paused = False
        self._write()
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.linger_until = asyncio.get_running_loop().time() + LINGER
        if transport.can_write_eof():
            try:
                transport.write_eof()
            except OSError:  # The client has reset the connection meanwhile.
                transport.abort()
        else:
            transport.close()

    def _close_streams(self) -> None:
        streams = tuple(self.streams.values())
        self.streams.clear()
        for stream in streams:
            self._forget(stream)
            stream.closed(ErrorCode.CANCEL)

    # For the listener and its deadlines.

    @property
    def busy(self) -> bool:
        """Return True while there are requests, or a client that is about to leave."""
        return bool(self.streams) or self.state is not State.OPEN

    @property
    def awaiting_head(self) -> bool:
        """Return True if the next that comes may be a request's head."""
        return self.state is not State.ENDED

    def check(self, now: float) -> None:
        """Called by the sweep: `now` in the loop's seconds."""
        if self.server.draining and (self._count or self.idle_since):
            self.leave()
        if self.state is State.LEAVING and now - self._leaving_since > ROUND_TRIP:
            self._take_no_more()

    def close(self) -> None:
        """Close once all streams have ended."""
        if self.state is not State.ENDED:
            self.leave()
        elif self.transport is not None and asyncio.get_running_loop().time() > self.linger_until:
            self.transport.close()

    def look_for_end(self) -> None:
        """Nothing: it is always read."""

    def give_up_body(self, failed: Failed) -> None:
        """Nothing: bodies are its streams'."""

    def refuse(self, failed: Failed, *, linger: bool = True) -> None:
        """End what never became a request: log it, and tell the client by GOAWAY."""
        if self.state is not State.ENDED:
            self.server.refuse(self.peer, failed)
            self._terminate()

    def abort(self) -> None:
        """Break the connection off."""
        if self.transport is not None:
            self.transport.abort()


_NAMES = {code.value: code.name.lower() for code in ErrorCode}
