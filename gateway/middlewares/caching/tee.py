"""A reply's body kept while it passes: stored only if all of it came and it is not too large."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.exchange import ReplyStream
from gateway.core.headers import Pair


class Tee:
    """The stream it wraps, unchanged.

    `complete(body)` is called once, after the last byte, if there were at most `limit`.
    """

    __slots__ = ("_chunks", "_complete", "_inner", "_limit", "_size")

    def __init__(self, inner: ReplyStream, limit: int, complete: Callable[[bytes], object]) -> None:
        self._inner = inner
        self._limit = limit
        self._complete = complete
        self._size = 0
        self._chunks: list[bytes] | None = []

    async def read(self) -> bytes:
        """The next bytes; b"" at the end. Raises what the inner stream raises."""
        try:
            data = await self._inner.read()
        except BaseException:
            self._chunks = None
            raise
        chunks = self._chunks
        if chunks is not None:
            if data:
                chunks.append(data)
                self._size += len(data)
                if self._size > self._limit:
                    self._chunks = None
            else:
                self._chunks = None
                self._complete(b"".join(chunks))
        return data

    @property
    def trailers(self) -> tuple[Pair, ...]:
        """Trailers of the body passing through; they are not kept.

        RFC 9111 section 3.1 leaves that open.
        """
        inner: tuple[Pair, ...] = getattr(self._inner, "trailers", ())
        return inner

    def abort(self) -> None:
        """Gives up both the body and keeping it."""
        self._chunks = None
        self._inner.abort()
