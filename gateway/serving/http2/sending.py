"""The writing half of a connection in HTTP/2: what its streams send goes through here.
connection.py is the other half.

Answers that are ready in the same turn of the loop go out together: a write to the socket, a record
of TLS, and waking the client cost as much as a good part of a request.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from gateway.core.wait import Wait
from gateway.protocols.crumbs import CRUMB, CrumbProtocol
from gateway.protocols.http2.session import ErrorCode, Session
from gateway.serving.http2.stream import Http2Stream
from gateway.serving.server import Server

PIECE = 64 * 1024
"""Bytes handed to the socket at once."""


class Sending(CrumbProtocol):
    """Writes what `session` has to send, as long as the socket takes it.

    transport: None once the connection is lost.
    """

    __slots__ = (
        "_again",
        "_cutting",
        "_handling",
        "_soon",
        "_waiting",
        "_writing_paused",
        "server",
        "session",
        "streams",
        "transport",
    )

    def __init__(self, server: Server, session: Session) -> None:
        super().__init__()
        self.server = server
        self.session = session
        self.transport: asyncio.Transport | None = None
        self.streams: dict[int, Http2Stream] = {}
        self._again = self._handling = self._soon = self._writing_paused = False
        self._waiting: set[Http2Stream] = set()
        self._cutting: set[Http2Stream] = set()

    @abstractmethod
    def _take(self, events: Sequence[Any]) -> None:
        """Handle what has happened while bytes were sent."""

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self.transport is not None:
            self.crumbs_taken(self.transport)
        self.flush()

    def flush(self) -> None:
        """Send what there is to send; do what can be done then. Within `data_received`, later."""
        self._again = True
        if self._handling:
            return
        self._handling = True
        session = self.session
        while self._again:
            self._again = False
            self._write()
            events = session.events()
            if events:
                self._take(events)
            if self._waiting and self._wake_writers():
                self._again = True
        self._handling = False
        if self._cutting:
            self._cut()

    def flush_together(self) -> None:
        """The same for an answer that is complete: at the end of this turn of the loop, unless no
        other request is under way."""
        if self._handling:
            self._again = True
        elif self.server.in_flight.level == 1:
            self.flush()
        elif not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._soon = False
        if self.session.has_pending:
            self.flush()

    def _write(self) -> None:
        transport, pending = self.transport, self.session.pending
        while transport is not None and not self._writing_paused:
            data = pending(PIECE)
            if data:
                transport.write(data)
            if len(data) < PIECE:
                if 0 < len(data) < CRUMB:
                    self.count_crumb(transport)
                return

    def _wake_writers(self) -> bool:
        """Let those go on whose pieces have gone out; return True if there were any."""
        queued = self.session.queued
        woken = [stream for stream in self._waiting if not queued(stream.number)]
        for stream in woken:
            self._waiting.discard(stream)
            room, stream.room = stream.room, None
            if room is not None:
                room.wake()
        return bool(woken)

    def wait_for_room(self, stream: Http2Stream) -> Wait[None] | None:
        if not self.session.queued(stream.number) and not self._writing_paused:
            return None
        room: Wait[None] = Wait()
        stream.room = room
        self._waiting.add(stream)
        return room

    def cut(self, stream: Http2Stream) -> None:
        self._cutting.add(stream)
        if not self._handling:
            self._cut()

    def _cut(self) -> None:
        """Of requests whose answers have gone out whole, stop the bodies (RFC 9113 section 8.1)."""
        session = self.session
        done = [stream for stream in self._cutting if session.has_sent(stream.number)]
        for stream in done:
            self._cutting.discard(stream)
            session.reset(stream.number, ErrorCode.NO_ERROR)
        if done:
            self.flush()

    def _forget(self, stream: Http2Stream) -> None:
        """Nothing of this stream will be sent any more."""
        self._waiting.discard(stream)
        self._cutting.discard(stream)
