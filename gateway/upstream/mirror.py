"""Mirroring: a share of the requests goes to a second upstream as well, whose answers are dropped.

The client never waits for it: the copy is sent after the first upstream has answered or failed.
What is kept for copies is bounded in number, in bytes and in time; a request beyond that is not
mirrored, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from gateway.config.tables.targets import MirrorConfig
from gateway.core.drive import Drive
from gateway.core.exchange import Exchange, Reply, RequestBody
from gateway.core.failures import Failed
from gateway.core.headers import Pair
from gateway.core.telemetry import Family
from gateway.core.wait import own
from gateway.protocols.websocket import UPGRADE
from gateway.upstream.shares import Target

log = logging.getLogger("gateway.upstream")

ANSWER_MAX = 1 << 20
"""Bytes of an answer that are read so that its connection can be kept; more is broken off."""


class Mirrored:
    """Asks `first`, whose answer counts, and then often `second`.

    dropped: counts by (route, reason) what was to be mirrored and was not.
    """

    def __init__(
        self,
        first: Target,
        second: Target,
        config: MirrorConfig,
        dropped: Family,
        rng: random.Random | None = None,
    ) -> None:
        self.first = first
        self._second = second
        self._config = config
        self._dropped = dropped
        self._random = (rng or random.Random()).random  # noqa: S311 - takes a sample
        self._under_way: set[Drive] = set()

    def __repr__(self) -> str:
        return f"<Mirrored {self.first!r} to {self._second!r}, {len(self._under_way)} under way>"

    def __call__(self, exchange: Exchange) -> Any:
        if self._random() >= self._config.share or UPGRADE in exchange.notes:
            return self.first(exchange)
        return self._both(exchange)

    @own
    async def _both(self, exchange: Exchange) -> Reply:
        copy, kept = _copied(exchange), None
        if exchange.body is not None:
            exchange.body = kept = _Kept(exchange.body, self._config.max_body)
        try:
            reply = await self.first(exchange)
        except Failed:
            self._mirror(copy, kept)
            raise
        self._mirror(copy, kept)
        return reply

    def _mirror(self, copy: Exchange, kept: _Kept | None) -> None:
        """Send the copy once the loop comes to it: the client's answer goes first."""
        if kept is not None:
            copy.body = kept.copied()
        if kept is not None and copy.body is None:
            self._dropped.add((copy.route.name, "body"))
        elif len(self._under_way) >= self._config.limit:
            self._dropped.add((copy.route.name, "limit"))
        else:
            drive = Drive(self._ask(copy), lambda _, error: self._over(drive, error))
            self._under_way.add(drive)
            asyncio.get_running_loop().call_soon(drive.start)

    async def _ask(self, copy: Exchange) -> None:
        try:
            reply = await self._second(copy)
        except Failed:
            return  # Counted by the upstream's own metrics.
        body, left = reply.body, ANSWER_MAX
        if isinstance(body, bytes):
            return
        try:
            while left > 0 and (chunk := await body.read()):
                left -= len(chunk)
        except Failed:
            return
        finally:
            body.abort()

    def _over(self, drive: Drive, error: BaseException | None) -> None:
        self._under_way.discard(drive)
        if isinstance(error, Exception):
            log.error("mirroring a request went wrong", exc_info=error)


def _copied(exchange: Exchange) -> Exchange:
    """The request as it stands before it is sent, without its body."""
    copy = exchange.beside(exchange.method, exchange.target, exchange.raw_headers)
    copy.params, copy.trace = exchange.params, None  # It is sent when the trace has ended.
    copy.forward_headers, copy.drop_headers = exchange.forward_headers, exchange.drop_headers
    return copy


class _Whole:
    """A RequestBody that is here."""

    limit: int | None = None
    received = True

    def __init__(self, complete: bytes) -> None:
        self.complete: bytes | None = complete
        self.length: int | None = len(complete)

    async def read(self) -> bytes:
        return b""

    async def whole(self, at_most: int) -> bytes:
        return self.complete or b""


class _Kept:
    """The RequestBody it wraps; up to `most` bytes of what is read of it are kept."""

    def __init__(self, inner: RequestBody, most: int) -> None:
        self._inner = inner
        self._most = most
        self._kept = bytearray()
        self._size = 0
        self._ended = False
        self.length = inner.length

    def copied(self) -> _Whole | None:
        """The whole body; None if not all of it was read, or it is too long."""
        whole = self._inner.complete
        if whole is None and self._ended and self._size <= self._most:
            whole = bytes(self._kept)
        return None if whole is None or len(whole) > self._most else _Whole(whole)

    @property
    def limit(self) -> int | None:
        return self._inner.limit

    @limit.setter
    def limit(self, most: int | None) -> None:
        self._inner.limit = most

    async def read(self) -> bytes:
        chunk = await self._inner.read()
        self._size += len(chunk)
        if self._size <= self._most:
            self._kept += chunk  # As pieces they would take some fifty bytes more each.
        else:
            self._kept.clear()
        self._ended = not chunk
        return chunk

    async def whole(self, at_most: int) -> bytes:
        return await self._inner.whole(at_most)

    @property
    def complete(self) -> bytes | None:
        return self._inner.complete

    @property
    def received(self) -> bool:
        return self._inner.received

    @property
    def trailers(self) -> tuple[Pair, ...]:
        """Of the body that passes; copies go without."""
        found: tuple[Pair, ...] = tuple(getattr(self._inner, "trailers", ()))
        return found
