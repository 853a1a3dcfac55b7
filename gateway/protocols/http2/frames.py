"""The heads of the frames that a client sends: whose stream, and what they cost. Pure.

libnghttp2 ignores frames for streams that have ended, and says nothing of those that it drops. So
the heads, nine bytes each, are read here as well: to hold a client to RFC 9113 section 5.1 where
libnghttp2 lets it pass, to know that a header block has not come to its end, and to count the
frames that bring no work. What is in a frame, and its size, are libnghttp2's to judge.
"""

from __future__ import annotations

import struct

DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION = 0, 1, 2, 3, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
PROTOCOL_ERROR, STREAM_CLOSED = 1, 5
KEPT = 256
"""Streams that are remembered: those that were opened, and those that their client has ended."""

_HEAD = struct.Struct("!HBBBI")
_SIZE = 9
_NUMBER = 0x7FFFFFFF
_PADDING = {length: bytes((length - 1,)) for length in range(1, 257)}
"""By the length of a frame: how its payload begins where all the rest is padding (section 6.1)."""


class FrameHeads:
    """Of one client. in_head: a header block has begun and not ended. workless: frames that were
    neither a request, nor its body, nor its end."""

    __slots__ = ("_ended", "_last", "_left", "_opened", "_partial", "in_head", "workless")

    def __init__(self, skip: int) -> None:
        """skip: bytes in front of the first frame."""
        self._left = skip
        self._partial = b""
        self._last = 0
        self._opened: dict[int, None] = {}
        self._ended: dict[int, None] = {}
        self.in_head = False
        self.workless = 0

    def feed(self, data: bytes) -> tuple[int, int]:
        """Return the code of the connection error that `data` is, or 0, and how many of its bytes
        come before that."""
        partial = len(self._partial)
        if partial:
            data = self._partial + data
        at, size = self._left, len(data)
        unpack = _HEAD.unpack_from
        while at + _SIZE <= size:
            high, low, kind, flags, stream = unpack(data, at)
            code = self._see(kind, flags, stream & _NUMBER, high << 8 | low, data, at + _SIZE)
            if code:
                return code, max(at - partial, 0)
            at += _SIZE + (high << 8 | low)
        self._partial = data[at:]
        self._left = max(at - size, 0)
        return 0, size - partial

    def _see(self, kind: int, flags: int, stream: int, length: int, data: bytes, at: int) -> int:
        """One frame's head; its payload begins at `at`. Return the code of an error, or 0."""
        if kind == HEADERS:
            self.in_head = not flags & END_HEADERS
            self.workless += 1  # Until it turns out to be a request.
            if stream in self._ended:
                return STREAM_CLOSED
            if stream > self._last:
                self._last = stream
                _remember(self._opened, stream)
            elif stream not in self._opened and (
                len(self._opened) < KEPT or stream > next(iter(self._opened))
            ):
                return PROTOCOL_ERROR  # Section 5.1.1: numbers only grow.
            if flags & END_STREAM:
                _remember(self._ended, stream)
        elif kind == DATA:
            if stream in self._ended:
                return STREAM_CLOSED
            if flags & END_STREAM:
                _remember(self._ended, stream)
            elif not length or (flags & PADDED and data[at : at + 1] == _PADDING.get(length)):
                self.workless += 1  # Nothing, or nothing but padding.
        elif kind == CONTINUATION:
            if flags & END_HEADERS:
                self.in_head = False
        elif kind == RST_STREAM:
            self.workless += 1  # It may be one of many for a stream that has ended.
            _remember(self._ended, stream)
        else:
            self.workless += 1
            if kind == PRIORITY:
                # Section 5.3.2 has done away with priorities, not with these two rules.
                if not stream:
                    return PROTOCOL_ERROR
                depends = data[at : at + 4]
                if len(depends) == 4 and int.from_bytes(depends, "big") & _NUMBER == stream:
                    return PROTOCOL_ERROR
        return 0


def _remember(streams: dict[int, None], stream: int) -> None:
    if len(streams) >= KEPT:
        del streams[next(iter(streams))]
    streams[stream] = None
