"""The heads of the frames that a client sends: whose stream, and what they cost. Pure.

libnghttp2 ignores frames for streams that have ended, and says nothing of those that it drops. So
the heads, nine bytes each, are read here as well: to hold a client to RFC 9113 section 5.1 where
libnghttp2 lets it pass, to know that a header block has not come to its end, and to count the
frames that bring no work. What is in a frame, and its size, are libnghttp2's to judge.
"""

from __future__ import annotations

import struct
from typing import Final

DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION = 0, 1, 2, 3, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
PROTOCOL_ERROR, STREAM_CLOSED = 1, 5
KEPT: Final = 256
"""Streams that are remembered after their clients have ended them, at least."""

_HEAD: Final = struct.Struct("!HBHI")
"""A frame's head (section 4.1): length in two parts, type and flags, stream."""
_SIZE: Final = 9
_TYPE_AND_END = 0xFF00 | END_HEADERS
_WHOLE_HEADERS = HEADERS << 8 | END_HEADERS
_NUMBER: Final = 0x7FFFFFFF
_PADDING = {length: bytes((length - 1,)) for length in range(1, 257)}
"""By the length of a frame: how its payload begins where all the rest is padding (section 6.1)."""


class FrameHeads:
    """Of one client. last: its latest stream. in_head: a header block has begun and not ended.

    workless: frames that were no body. Whoever knows which of them began or ended a stream takes
    those off.
    """

    __slots__ = (
        "_ended",
        "_ended_before",
        "_forgotten",
        "_left",
        "_open",
        "_partial",
        "in_head",
        "last",
        "workless",
    )

    def __init__(self, skip: int) -> None:
        """skip: bytes in front of the first frame."""
        self._left = skip
        self._partial = b""
        # Streams that the client has not ended, and those that it has, in two generations.
        self._open: dict[int, None] = {}
        self._ended: set[int] = set()
        self._ended_before: set[int] = set()
        self._forgotten = 0  # The highest stream that was in either.
        self.last = 0
        self.in_head = False
        self.workless = 0

    def feed(self, data: bytes) -> tuple[int, int]:
        """Return the code of the connection error that `data` is, or 0, and how many of its bytes
        come before that."""
        partial = 0
        if self._partial:
            partial = len(self._partial)
            data = self._partial + data
        at, size = self._left, len(data)
        while at + _SIZE <= size:
            high, low, what, stream = _HEAD.unpack_from(data, at)
            if what & _TYPE_AND_END == _WHOLE_HEADERS and self.last < stream <= _NUMBER:
                # A request, as nearly all frames are.
                self.workless += 1
                self.last = stream
                if what & END_STREAM:
                    self._ended.add(stream)
                else:
                    self._open[stream] = None
            else:
                code = self._see(what, stream & _NUMBER, high << 8 | low, data, at + _SIZE)
                if code:
                    return code, max(at - partial, 0)
            at += _SIZE + (high << 8 | low)
        if at < size or partial:
            self._partial = data[at:]
        self._left = at - size if at > size else 0
        if len(self._ended) >= KEPT or len(self._open) > KEPT:
            self._forget()
        return 0, size - partial

    def _see(self, what: int, stream: int, length: int, data: bytes, at: int) -> int:
        """One frame's head; its payload begins at `at`. Return the code of an error, or 0."""
        kind, flags = what >> 8, what & 0xFF
        if kind == HEADERS:
            self.in_head = not flags & END_HEADERS
            self.workless += 1
            if self._has_ended(stream):
                return STREAM_CLOSED
            if stream > self.last:
                self.last = stream
                self._open[stream] = None
            elif stream not in self._open and stream > self._forgotten:
                return PROTOCOL_ERROR  # Section 5.1.1: numbers only grow.
            if flags & END_STREAM:
                self._end(stream)
        elif kind == DATA:
            if self._has_ended(stream):
                return STREAM_CLOSED
            if flags & END_STREAM:
                self._end(stream)
            elif not length or (flags & PADDED and data[at : at + 1] == _PADDING.get(length)):
                self.workless += 1  # Nothing, or nothing but padding.
        elif kind == CONTINUATION:
            if flags & END_HEADERS:
                self.in_head = False
        elif kind == RST_STREAM:
            self.workless += 1  # It may be one of many for a stream that has ended.
            self._end(stream)
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

    def _has_ended(self, stream: int) -> bool:
        return stream in self._ended or stream in self._ended_before

    def _end(self, stream: int) -> None:
        self._open.pop(stream, None)
        self._ended.add(stream)

    def _forget(self) -> None:
        """Let go of the oldest: for their streams libnghttp2 has the last word."""
        if len(self._ended) >= KEPT:
            self._forgotten = max(self._forgotten, *self._ended_before, 0)
            self._ended_before, self._ended = self._ended, set()
        while len(self._open) > KEPT:
            oldest = next(iter(self._open))
            del self._open[oldest]
            self._forgotten = max(self._forgotten, oldest)
