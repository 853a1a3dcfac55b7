"""One HTTP/2 connection without its socket, as server or client: bytes in, events out, and back.

The only module that knows ngh2, a binding of libnghttp2, which keeps the state of streams, HPACK
and windows and checks frames and messages (RFC 9113). ngh2 is young: its version is pinned, and
nothing else may import it. The events are its own classes, with plain attributes.

Rules for those who drive a session:

- `receive` what the socket brings, handle `events`, then write `pending` until it is b"", and
  handle the events of that too: a stream that has been answered closes there.
- A peer that breaks the rules of a stream has it reset (`StreamClosed`); one that breaks those of
  the connection is told by GOAWAY in what `pending` gives, and `ConnectionClosed` or `Failed`
  follows, after which the socket is to be closed.
- Nothing is acknowledged by itself: a peer may send more only as `consumed` is called, so what is
  not read stays with it. What is sent waits inside until the peer's windows have room; `queued`
  says how much of a stream does.
- Calls for a stream or a connection that has ended do nothing and return False: the event that says
  so may still be on its way to the caller.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    ConnectionClosingError,
    ConnectionProtocolError,
    ConnectionStateError,
    DataReceived,
    DenialOfServiceError,
    ErrorCode,
    Event,
    GoAwayReceived,
    InformationalResponseReceived,
    NeverIndexedHeader,
    NGH2Error,
    NoAvailableStreamIDError,
    PingAcknowledged,
    PingReceived,
    Priority,
    PriorityUpdateReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    Setting,
    SettingsAcknowledged,
    SettingsReceived,
    StreamClosed,
    StreamProtocolError,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

from gateway.core.headers import Pair
from gateway.protocols.http2.frames import FrameHeads

__all__ = [
    "PREFACE",
    "ConnectionClosed",
    "DataReceived",
    "ErrorCode",
    "Event",
    "Failed",
    "GoAwayReceived",
    "InformationalResponseReceived",
    "Limits",
    "NeverIndexed",
    "PingAcknowledged",
    "PingReceived",
    "PriorityUpdateReceived",
    "RequestReceived",
    "ResponseReceived",
    "Session",
    "SettingsAcknowledged",
    "SettingsReceived",
    "StreamClosed",
    "StreamReset",
    "TrailersReceived",
    "WindowUpdated",
    "unindexed",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client's connection begins with (RFC 9113 section 3.4)."""
NeverIndexed: Final = NeverIndexedHeader
"""A field that HPACK must not remember (RFC 7541 section 7.1.3)."""
unindexed = NeverIndexedHeader
"""A field, as (name, value), that HPACK is to keep out of its table (RFC 7541 section 7.1.3)."""
_UNLIMITED = (2**32, 2**32)
_IN_TURN = Priority(incremental=True)
_GONE = (ConnectionStateError, ConnectionClosingError, StreamProtocolError)


@dataclass(frozen=True)
class Limits:
    """What the peer may do.

    streams: streams that it may have open at once; none for a client's peer, which must not push.
    window, connection_window: bytes of bodies that it may send before any is consumed.
    header_list: bytes of a message's fields, each with 32 more (RFC 9113 section 6.5.2).
    header_count: their number. A list that is longer ends the connection. advertised: what the peer
    is told of header_list.
    continuations: frames after HEADERS. acks: PING and SETTINGS answers that may wait to be sent.
    glitches: streams that may be malformed or refused, at once and a second.
    """

    streams: int = 100
    window: int = 65535
    connection_window: int = 65535
    header_list: int = 65536
    header_count: int = 256
    advertised: int = 65536
    continuations: int = 8
    acks: int = 100
    glitches: tuple[int, int] = (1000, 100)


class Failed(Event):
    """The peer broke the connection's rules so that nothing can go on; `pending` has the GOAWAY."""

    def __init__(self, code: int, why: str) -> None:
        self.code = code
        self.why = why

    def __repr__(self) -> str:
        return f"<Failed {self.code}: {self.why}>"


class Session:
    """One connection's state. Its preface, and its SETTINGS, are pending from the start.

    connect: as server, take extended CONNECT (RFC 8441).
    """

    __slots__ = ("_connection", "_events", "_failed", "_last_words", "client", "heads")

    def __init__(self, limits: Limits, *, client: bool = False, connect: bool = False) -> None:
        self.client = client
        self.heads = None if client else FrameHeads(len(PREFACE))
        """What the frames' heads tell of a client; see there."""
        self._connection = Connection(
            Role.CLIENT if client else Role.SERVER,
            Configuration(
                auto_window_update=False,
                max_inbound_header_list_size=limits.header_list,
                max_inbound_header_count=limits.header_count,
                max_continuations=limits.continuations,
                max_outbound_ack=limits.acks,
                # What may be received is limited, and the gateway's own fields come on top of it.
                max_send_header_block_length=2**24,
                glitch_rate_limit=limits.glitches,
                # Resets are for the caller to count, which knows those that are abuse.
                stream_reset_rate_limit=_UNLIMITED,
                max_reserved_remote_streams=0,
            ),
        )
        settings = {
            Setting.INITIAL_WINDOW_SIZE: limits.window,
            Setting.MAX_HEADER_LIST_SIZE: limits.advertised,
        }
        if client:
            settings[Setting.ENABLE_PUSH] = 0
        else:
            settings[Setting.MAX_CONCURRENT_STREAMS] = limits.streams
            settings[Setting.NO_RFC7540_PRIORITIES] = 1  # Those of RFC 9218 are heeded.
            if connect:
                settings[Setting.ENABLE_CONNECT_PROTOCOL] = 1
        self._connection.initiate_connection(settings)
        self._connection.set_local_window_size(limits.connection_window)
        self._failed = False
        self._last_words = b""
        self._events: list[Event] = []

    def __repr__(self) -> str:
        state = "failed" if self._failed else "open" if self._connection.want_read else "ending"
        return f"<Session {'client' if self.client else 'server'} {state}>"

    # Bytes and events.

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes of the peer; return what has happened since the last call."""
        heads = self.heads
        try:
            if heads is not None:
                code, sound = heads.feed(data)
                if code:
                    self._connection.receive_data(data[:sound])
                    self._connection.terminate_connection(code)
                    return self._connection.events()
            self._connection.receive_data(data)
        except ConnectionStateError:
            return []  # It has ended; this was on its way already.
        except NGH2Error as error:
            return self._fail(error)
        return self._connection.events()

    @property
    def has_pending(self) -> bool:
        """Return True if `pending` has something to give."""
        try:
            return self._connection.want_write
        except ConnectionStateError:
            return bool(self._last_words)

    def pending(self, limit: int | None = None) -> bytes:
        """Return bytes for the peer, at most `limit`; b"" when there are none for now."""
        if self._failed:
            words, self._last_words = self._last_words, b""
            return words
        try:
            return self._connection.data_to_send(limit)
        except NGH2Error as error:
            self._events += self._fail(error)
            return self.pending()

    def events(self) -> list[Event]:
        """Return what has happened while bytes were sent."""
        if not self._events:
            return self._connection.events()
        events, self._events = self._events, []
        return events + self._connection.events()

    def _fail(self, error: NGH2Error) -> list[Event]:
        """Nothing can be sent any more but GOAWAY, which ngh2 does not make in this case."""
        if isinstance(error, DenialOfServiceError):
            code = ErrorCode.ENHANCE_YOUR_CALM
        elif isinstance(error, ConnectionProtocolError):
            code = ErrorCode.PROTOCOL_ERROR
        else:
            code = ErrorCode.INTERNAL_ERROR
        events = self._connection.events()
        self._failed = True
        last = self.heads.last if self.heads is not None else 0
        self._last_words = struct.pack("!xHBBxxxxII", 8, 7, 0, last, code)
        events.append(Failed(code, str(error)))
        return events

    # Messages. Names of fields are sent in lower case, however they are given.

    def request(self, fields: Sequence[Pair], *, end: bool = False) -> int:
        """As client, begin a stream; return its number, 0 where no more can be begun."""
        try:
            return self._connection.send_request(fields, end_stream=end)
        except (*_GONE, NoAvailableStreamIDError):
            return 0

    def respond(self, stream: int, fields: Sequence[Pair], *, end: bool = False) -> bool:
        """As server, send the head of the final answer; `end`: it has no body."""
        try:
            self._connection.send_response(stream, fields, end_stream=end)
        except _GONE:
            return False
        return True

    def answer(self, stream: int, fields: Sequence[Pair], body: bytes) -> bool:
        """As server, send a final answer, whole."""
        connection = self._connection
        try:
            connection.send_response(stream, fields, end_stream=not body)
            if body:
                connection.send_data(stream, body, end_stream=True)
        except _GONE:
            return False
        return True

    def interim(self, stream: int, fields: Sequence[Pair]) -> bool:
        """As server, send an interim answer (RFC 9110 section 15.2)."""
        try:
            self._connection.send_informational_response(stream, fields)
        except _GONE:
            return False
        return True

    def send(self, stream: int, data: bytes, *, end: bool = False) -> bool:
        """Queue bytes of the body, for as long as the peer's windows have no room."""
        try:
            self._connection.send_data(stream, data, end_stream=end)
        except _GONE:
            return False
        return True

    def trailers(self, stream: int, fields: Sequence[Pair]) -> bool:
        """End the body with these fields after it."""
        try:
            self._connection.send_trailers(stream, fields)
        except _GONE:
            return False
        return True

    def reset(self, stream: int, code: int = ErrorCode.CANCEL) -> bool:
        """Break a stream off; what is queued of it is dropped."""
        try:
            self._connection.reset_stream(stream, code)
        except _GONE:
            return False
        return True

    def take_turns(self, stream: int) -> bool:
        """As server, let the stream's body take turns with others of its kind. Without this, and if
        its client has not asked for it (RFC 9218 section 4.2), it goes out before those of later
        streams."""
        try:
            return self._connection.set_stream_priority(stream, _IN_TURN)
        except _GONE:
            return False

    # Flow control.

    def queued(self, stream: int) -> int:
        """Return how many bytes of a stream's body wait to be sent."""
        return self._connection.queued_body_size(stream)

    def has_sent(self, stream: int) -> bool:
        """Return True if nothing of a stream waits for the peer's windows."""
        connection = self._connection
        try:
            return (
                not connection.queued_body_size(stream)
                and connection.remote_window_size > 0
                and connection.stream_remote_window_size(stream) > 0
            )
        except _GONE:
            return True

    def consumed(self, stream: int, size: int) -> bool:
        """So many bytes of the stream's body have been read, or dropped: the peer may send more."""
        try:
            self._connection.acknowledge_received_data(size, stream)
        except _GONE:
            return False
        return True

    # The connection.

    def ping(self, data: bytes = bytes(8)) -> bool:
        """Ask for a PingAcknowledged with these eight bytes."""
        try:
            self._connection.ping(data)
        except _GONE:
            return False
        return True

    def announce_end(self) -> bool:
        """As server, tell the client that no new streams are wanted; those on their way are still
        served (RFC 9113 section 6.8)."""
        try:
            self._connection.send_shutdown_notice()
        except _GONE:
            return False
        return True

    def goaway(self, code: int = ErrorCode.NO_ERROR) -> bool:
        """Take no new streams. ConnectionClosed follows when the last one has ended."""
        try:
            self._connection.send_goaway(code)
        except _GONE:
            return False
        return True

    def terminate(self, code: int) -> bool:
        """End the connection with this code: `pending` has the last that is sent on it."""
        try:
            self._connection.terminate_connection(code)
        except _GONE:
            return False
        return True

    @property
    def peer_streams(self) -> int:
        """How many streams the peer lets us have open at once, as client."""
        try:
            return self._connection.remote_settings[Setting.MAX_CONCURRENT_STREAMS]
        except ConnectionStateError:
            return 0

    @property
    def peer_connects(self) -> bool:
        """Return True if the server takes extended CONNECT (RFC 8441)."""
        try:
            return self._connection.remote_settings[Setting.ENABLE_CONNECT_PROTOCOL] == 1
        except ConnectionStateError:
            return False

    @property
    def can_request(self) -> bool:
        """Return True if a client may begin a stream: neither side has said that it is leaving."""
        try:
            return self._connection.can_send_request
        except ConnectionStateError:
            return False
