"""An HTTP/2 connection to an endpoint, on which many exchanges go on at a time.

The codec (protocols/http2) keeps the state of frames; an exchange is a RequestStream (stream.py);
which connections are offered to requests stands in sharing.py. Here bytes go in and out, streams
begin, and what concerns all of them is decided: how many the endpoint takes, whether it is still
there, and what becomes of them when the connection ends.

A connection is offered once the endpoint's SETTINGS are here, so that no more streams are begun
than it takes. What comes before is part of connecting, and a request has not been sent yet.
"""

from __future__ import annotations

import asyncio

from gateway.core.failures import Failed, Failure
from gateway.protocols.http2.session import (
    ConnectionClosed,
    DataReceived,
    ErrorCode,
    Event,
    GoAwayReceived,
    InformationalResponseReceived,
    PingAcknowledged,
    ResponseReceived,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
)
from gateway.protocols.http2.session import Failed as SessionFailed
from gateway.upstream.connections.endpoint_socket import TURN_EVENTS
from gateway.upstream.connections.http2.fields import Answers
from gateway.upstream.connections.http2.socket import (
    MAX_STREAMS,
    PING_AFTER,
    PING_PATIENCE,
    Http2Socket,
    Offers,
)
from gateway.upstream.connections.http2.stream import ERROR_NAMES, RequestStream
from gateway.upstream.connections.interfaces import Owner
from gateway.upstream.pool.endpoint import Endpoint

IDLE_FRAMES = 10_000
"""Frames in a row that bring nothing to any exchange: settings, pings, window updates, empty DATA.
More end the connection, unless they are due."""
SENT_PER_FRAME, IDLE_SECONDS = 32, 100.0
"""Bytes sent for each of them, as bodies are that windows are opened for, and seconds for all, as
with signs of life: with either they are due. To acknowledge a PING takes 17 bytes."""
PIECE, MAX_EVENTS = 16 * 1024, 64
"""Bytes that are decoded at a time, and events that wait for the rest. HPACK makes a field of 4,000
bytes of one byte, so that heads may be far larger than what came."""


class Http2Connection(Http2Socket):
    """A connection: bytes in, and what they mean for its exchanges."""

    __slots__ = ("_answers", "_idle_frames", "_idle_since", "_rest", "_told")

    def __init__(
        self, owner: Owner, endpoint: Endpoint, keepalive: float, offers: Offers | None = None
    ) -> None:
        super().__init__(owner, endpoint, keepalive, offers)
        self._answers = Answers()
        self._idle_frames = 0
        self._idle_since = (0, owner.now)  # By `sent` and time, at the latest.
        self._rest = b""
        self._told = False  # That the endpoint takes no more.

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.heard = self.owner.now
        if self._rest:
            self._rest += data
        else:
            self._decode(data)

    def _decode(self, data: bytes) -> None:
        """Act on what has come. Of very many events the rest is left for the next turn."""
        events: list[Event] = []
        acted = 0
        for start in range(0, len(data), PIECE):
            if self.closed:
                return
            if acted > TURN_EVENTS:
                self._rest = data[start:]
                self.pause_reading()
                asyncio.get_running_loop().call_soon(self._go_on)
                return
            events += self.session.receive(data[start : start + PIECE])
            if len(events) > MAX_EVENTS:
                self._act(events)
                acted += len(events)
                events = []
        self._act(events)
        if self._reading_paused:
            self.resume_reading()

    def _go_on(self) -> None:
        rest, self._rest = self._rest, b""
        self._decode(rest)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._writing_paused = True  # Nothing can be written any more, not even GOAWAY.
        while self._rest and not self.closed:
            self._go_on()
        why = f"{self.endpoint.name} closed the connection"
        self.fail(Failure.CONNECTION_RESET, why)

    # Events.

    def _act(self, events: list[Event]) -> None:
        """Act on what has come, and send what that brings about."""
        if self.closed:
            return
        self.corked = True
        try:
            self._take(events)
        finally:
            self.corked = False
        self.flush()

    def _take(self, events: list[Event]) -> None:
        """Act on what has come: first what belongs to streams, then what waits for it."""
        streams, touched = self.streams, {}
        gone: SessionFailed | ConnectionClosed | None = None
        idle = self._idle_frames + len(events)
        for event in events:
            kind = event.__class__
            if kind is DataReceived:
                number, size = event.stream_id, len(event.data)  # type: ignore[attr-defined]
                stream = streams.get(number)
                if stream is None:
                    self.session.consumed(number, size)
                    continue
                idle = idle if not size else 0
                stream.take_data(event.data, event.end_stream)  # type: ignore[attr-defined]
            elif kind in _OF_STREAMS:
                stream = streams.get(event.stream_id)  # type: ignore[attr-defined]
                if stream is None:
                    continue
                idle = 0
                self._of_stream(stream, event)
            elif kind is SessionFailed or kind is ConnectionClosed:
                gone = event  # type: ignore[assignment]
                continue
            else:
                self._of_connection(event)
                continue
            touched[stream] = True
        self._idle_frames = idle
        for stream in touched:
            stream.settle()
        if gone is not None:
            self._ended(gone)
        elif idle > IDLE_FRAMES and self._is_flood():
            self.session.terminate(ErrorCode.ENHANCE_YOUR_CALM)
            self.fail(
                Failure.BAD_RESPONSE, f"{self.endpoint.name} sent {idle} frames that say nothing"
            )
        elif self._greeted and not self.ready.done:
            self.ready.wake()

    def _is_flood(self) -> bool:
        """Judge the idle frames so far, and begin to count anew."""
        sent, since = self._idle_since
        self._idle_since = self.sent, self.owner.now
        due = self.sent - sent >= SENT_PER_FRAME * self._idle_frames
        self._idle_frames = 0
        return not due and self.owner.now - since < IDLE_SECONDS

    def _of_stream(self, stream: RequestStream, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            stream.take_head(self._answers, event.headers, event.end_stream)
        elif isinstance(event, StreamClosed):
            stream.take_reset(event.error_code, False)
        elif isinstance(event, TrailersReceived):
            stream.take_trailers(event.headers)
        elif isinstance(event, InformationalResponseReceived):
            stream.take_interim(event.headers)
        elif isinstance(event, StreamReset):
            stream.take_reset(event.error_code, True)

    def _of_connection(self, event: Event) -> None:
        if isinstance(event, SettingsReceived):
            self._settled()
        elif isinstance(event, PingAcknowledged):
            if self._pinged:
                self._pinged = False
                now = self.owner.now
                self.deadline = now + (PING_AFTER if self.streams else self._keepalive)
                self.offer_room()
        elif isinstance(event, GoAwayReceived):
            # Streams that the endpoint has not begun are closed as refused (RFC 9113 section 6.8).
            self._told = True
            self._leave()

    def _settled(self) -> None:
        """The endpoint's SETTINGS: how many exchanges it takes may have changed."""
        self._most = min(self.session.peer_streams, MAX_STREAMS)
        if not self._greeted:
            self._greeted = True
            self.deadline = self.owner.now + self._keepalive
        elif not self._most:
            self.retire()  # Its place is taken by others: kept, such would grow ever more.
        elif self.room <= 0 and self._offers is not None:
            self._offers.withdraw(self)
        else:
            self.offer_room()

    def _ended(self, gone: SessionFailed | ConnectionClosed) -> None:
        name = self.endpoint.name
        if isinstance(gone, SessionFailed):
            self.fail(Failure.BAD_RESPONSE, f"{name} broke the protocol: {gone.why}")
        elif self._told or gone.error_code == ErrorCode.NO_ERROR:
            self.fail(Failure.CONNECTION_RESET, f"{name} ended the connection")
        else:
            what = ERROR_NAMES.get(gone.error_code, gone.error_code)
            self.fail(Failure.BAD_RESPONSE, f"{name} broke the protocol: {what}")

    # Ends.

    def retire(self) -> None:
        self._leave()
        if not self.streams and self.ready.done:
            self.close()

    def give_up(self) -> None:
        """Close it, and give up every exchange on it."""
        for stream in tuple(self.streams.values()):
            stream.give_up()
        self.close()

    def expire(self, now: float) -> None:
        """Called by the sweep when the deadline has passed."""
        name = self.endpoint.name
        if not self.ready.done:
            self.fail(Failure.CONNECT_TIMEOUT, f"{name} sent no SETTINGS in time")
        elif self._pinged:
            self.fail(
                Failure.CONNECTION_RESET, f"{name} gave no sign of life for {PING_PATIENCE:g} s"
            )
        elif not self.streams:
            self.close()
        elif now - self.heard < PING_AFTER:
            self.deadline = self.heard + PING_AFTER
        else:
            self._ask()

    def close(self) -> None:
        if self.closed:
            return
        self._leave()
        if getattr(self, "_transport", None) is not None and not self._writing_paused:
            self.session.goaway()
            self._transport.write(self.session.pending())
        super().close()

    def fail(self, failure: Failure, why: str) -> None:
        """Close it; whatever goes on on it has failed."""
        self.close()
        streams, self.streams = tuple(self.streams.values()), {}
        if not self.ready.done:
            if failure is not Failure.CONNECT_TIMEOUT:
                failure, why = Failure.CONNECT_FAILED, f"no HTTP/2: {why}"
            self.ready.fail(Failed(failure, why=why))
        for stream in streams:
            stream.lost(failure, why)


_OF_STREAMS = frozenset(
    (
        ResponseReceived,
        TrailersReceived,
        InformationalResponseReceived,
        StreamReset,
        StreamClosed,
    )
)
