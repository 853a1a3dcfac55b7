"""The body of an endpoint's answer while it arrives, with back-pressure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from gateway.core.failures import Failed
from gateway.core.headers import Pair
from gateway.core.wait import Wait
from gateway.protocols.crumbs import CRUMB

HIGH_WATER = 256 * 1024
"""Bytes that may wait for a slow client before reading from the endpoint stops."""
PIECE = 32 * 1024
"""Bytes from which on no more crumbs are put together for one read."""
MAX_CHUNKS = 256
"""Chunks that may wait as they came. More are put together: each takes some fifty bytes beside its
own, so that answers sent in crumbs would take many times HIGH_WATER."""


class Source(Protocol):
    """Where a body comes from."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def give_up(self) -> None: ...


class AnswerStream:
    """A body arriving from an endpoint (a core ReplyStream). Reading more slowly than it arrives
    pauses the source."""

    __slots__ = ("_chunks", "_ended", "_failed", "_paused", "_size", "_source", "_wait", "trailers")

    def __init__(self, source: Source) -> None:
        self.trailers: tuple[Pair, ...] = ()
        """The fields that came after the body, once it has ended. They are no headers, and change
        none."""
        self._source: Source | None = source
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failed: Failed | None = None
        self._paused = False
        self._wait: Wait[None] | None = None

    async def read(self) -> bytes:
        """The next bytes, as they came; crumbs together, since each would be coded and framed for
        itself. b"" at the end. Raises Failed when the body broke off."""
        while not self._chunks:
            if self._failed is not None:
                raise self._failed
            if self._ended:
                return b""
            self._wait = Wait()
            await self._wait
        chunk = self._chunks.popleft()
        if len(chunk) < CRUMB and self._chunks:
            together, size = [chunk], len(chunk)
            while self._chunks and size < PIECE:
                together.append(self._chunks.popleft())
                size += len(together[-1])
            chunk = b"".join(together)
        self._size -= len(chunk)
        if self._paused and self._size <= HIGH_WATER // 2 and self._source is not None:
            self._paused = False
            self._source.resume_reading()
        return chunk

    def abort(self) -> None:
        """Give the rest up: closes what it came from. Harmless after the end, and twice."""
        if self._source is not None:
            self._source.give_up()

    def feed(self, chunks: Iterable[bytes]) -> None:
        """Take more of the body; `wake` is to follow."""
        for chunk in chunks:
            self._chunks.append(chunk)
            self._size += len(chunk)
        if len(self._chunks) > MAX_CHUNKS:
            self._chunks = deque((b"".join(self._chunks),))
        if self._size > HIGH_WATER and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause_reading()

    def end(self, failed: Failed | None, trailers: tuple[Pair, ...] = ()) -> None:
        """No more will come; what is here can still be read. Resumes the reader."""
        self._ended = True
        self._failed = failed
        self.trailers = trailers
        self._source = None
        self.wake()

    def wake(self) -> None:
        """Resume the reader, which may run to its end and give the stream up."""
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.wake()
