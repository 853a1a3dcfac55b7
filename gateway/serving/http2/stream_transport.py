"""A stream that carries a WebSocket (RFC 8441), as the transport of a tunnel's end."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from gateway.core.wait import Wait

HIGH_WATER = 64 * 1024
"""Bytes that may wait for the client's window before the other side is read no more."""


class Carried(Protocol):
    """The stream, as its transport sees it."""

    @property
    def unsent(self) -> int: ...

    def hold(self, held: bool) -> None: ...

    def send_bytes(self, data: bytes) -> Wait[None] | None:
        """Send; a Wait is over when all has gone out."""

    def send_end(self) -> None:
        """Nothing more will be sent."""

    def finish(self) -> None:
        """End the stream once all has gone out, whatever the client still sends."""

    def reset(self) -> None:
        """Break the stream off."""


class StreamTransport(asyncio.Transport):
    """What arrives while reading is paused is handed on all the same: no more than the stream's
    window, since it is not acknowledged."""

    def __init__(self, stream: Carried, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._ended = self._closing = self._full = False

    def __repr__(self) -> str:
        return f"<StreamTransport {self._stream!r}>"

    # For the stream.

    def receive(self, data: bytes, end: bool) -> None:
        """More has come from the client."""
        if data:
            self._protocol.data_received(data)
        if end and not self._closing and not self._protocol.eof_received():
            self.close()

    def lost(self, why: Exception | None) -> None:
        """The stream has ended."""
        self._closing = True
        self._protocol.connection_lost(why)

    def _emptied(self, _: Any) -> None:
        self._full = False
        if not self._closing:
            self._protocol.resume_writing()

    # For the tunnel.

    def write(self, data: Any) -> None:
        if self._ended or self._closing:
            return
        room = self._stream.send_bytes(bytes(data))
        if room is not None and not self._full and self._stream.unsent > HIGH_WATER:
            self._full = True
            room.add_done_callback(self._emptied)
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._ended and not self._closing:
            self._ended = True
            self._stream.send_end()

    def close(self) -> None:
        if not self._closing:
            self.write_eof()
            self._closing = True
            self._stream.finish()

    def abort(self) -> None:
        self._closing = True
        self._stream.reset()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._stream.hold(True)

    def resume_reading(self) -> None:
        self._stream.hold(False)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing: the session puts together what waits."""

    def get_write_buffer_size(self) -> int:
        return self._stream.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default
