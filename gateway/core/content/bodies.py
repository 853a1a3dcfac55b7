"""Bodies that hooks put in place of those that came."""

from __future__ import annotations

from gateway.core.content.replies import ReplyStream
from gateway.core.failures import Failed, Failure


class ReplacedBody:
    """A request's body that is known: a RequestBody.

    It stands in for one of which all has been read.
    """

    __slots__ = ("_data", "_read", "length", "limit")

    received = True

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._read = False
        self.length: int | None = len(data)
        self.limit: int | None = None

    def __repr__(self) -> str:
        return f"<ReplacedBody {self.length} bytes>"

    @property
    def complete(self) -> bytes | None:
        return self._data

    async def read(self) -> bytes:
        if self._read:
            return b""
        self._read = True
        return self._data

    async def whole(self, at_most: int) -> bytes:
        if len(self._data) > at_most:
            raise Failed(
                Failure.BODY_TOO_LARGE, f"The request's body may have at most {at_most} bytes."
            )
        return self._data


class ResumedStream:
    """A reply's body of which the beginning has been read: a ReplyStream that gives it all."""

    __slots__ = ("_begun", "_rest")

    def __init__(self, begun: bytes, rest: ReplyStream) -> None:
        self._begun = begun
        self._rest = rest

    @property
    def trailers(self) -> object:
        return getattr(self._rest, "trailers", ())

    async def read(self) -> bytes:
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        return await self._rest.read()

    def abort(self) -> None:
        self._rest.abort()
