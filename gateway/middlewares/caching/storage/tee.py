"""A reply's body kept while it passes: stored only if all of it came and it is not too large.

It passes as the client takes it. Once others wait for it (`hurry`), it is read as fast as the
origin sends it, and the client follows: no one else waits for a slow client.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.core.drive import Drive
from gateway.core.exchange import ReplyStream
from gateway.core.headers import Pair
from gateway.core.wait import Wait, own

MAX_AHEAD = 256
"""Pieces that may wait as they came: each takes some fifty bytes beside its own."""


class Tee:
    """The stream it wraps, unchanged.

    `over(body)` is called once: after the last byte, if there were at most `limit`; with None as
    soon as it is known that the body will not be kept.
    """

    __slots__ = (
        "_ahead",
        "_complete",
        "_drive",
        "_error",
        "_hurried",
        "_inner",
        "_kept",
        "_limit",
        "_more",
        "_over",
        "_reading",
    )

    def __init__(
        self, inner: ReplyStream, limit: int, over: Callable[[bytes | None], object]
    ) -> None:
        self._inner = inner
        self._limit = limit
        self._over = over
        self._kept: bytearray | None = bytearray()
        self._ahead: deque[bytes] = deque()
        self._drive: Drive | None = None
        self._error: BaseException | None = None
        self._more: Wait[None] | None = None
        self._reading = self._hurried = self._complete = False

    async def read(self) -> bytes:
        """The next bytes; b"" at the end. Raises what the inner stream raises."""
        while self._drive is not None and not self._ahead:
            self._more = Wait()
            await self._more
        if self._ahead:
            return self._ahead.popleft()
        if self._error is not None:
            raise self._error
        if self._complete:
            return b""
        self._reading = True
        try:
            data = await self._read()
        finally:
            self._reading = False
        if self._hurried and self._kept is not None:
            self.hurry()
        return data

    def hurry(self) -> None:
        """Read on whether the client does or not, as long as the body can be kept."""
        self._hurried = True
        if self._kept is not None and self._drive is None and not self._reading:
            self._drive = Drive(self._read_ahead(), self._ended)
            self._drive.start()

    @own
    async def _read_ahead(self) -> None:
        while self._kept is not None:
            data = await self._read()
            if data:
                self._ahead.append(data)
                if len(self._ahead) > MAX_AHEAD:
                    self._ahead = deque((b"".join(self._ahead),))
                self._tell()

    def _ended(self, value: object, error: BaseException | None) -> None:
        self._drive = None
        self._error = error
        self._tell()

    def _tell(self) -> None:
        more, self._more = self._more, None
        if more is not None:
            more.wake()

    async def _read(self) -> bytes:
        try:
            data = await self._inner.read()
        except BaseException:
            self._lose()
            raise
        kept = self._kept
        if kept is not None:
            if data:
                kept += data
                if len(kept) > self._limit:
                    self._lose()
            else:
                self._kept, self._complete = None, True
                self._over(bytes(kept))
        return data

    def _lose(self) -> None:
        if self._kept is not None:
            self._kept = None
            self._over(None)

    @property
    def trailers(self) -> tuple[Pair, ...]:
        """Trailers of the body passing through; they are not kept.

        RFC 9111 section 3.1 leaves that open.
        """
        inner: tuple[Pair, ...] = getattr(self._inner, "trailers", ())
        return inner

    def abort(self) -> None:
        """Gives up both the body and keeping it."""
        self._lose()
        if self._drive is not None:
            self._drive.cancel()
        self._inner.abort()
