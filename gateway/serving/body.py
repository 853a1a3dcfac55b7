"""A client's request body: fed by the connection as it arrives, read by hooks and by the upstream.
A core RequestBody.

It knows no protocol. Reading it more slowly than it arrives makes it ask for a pause above
`high_water` bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.core.content.grpc import CALL
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.wait import Wait

HIGH_WATER = 128 * 1024
"""Bytes that may wait for their reader."""
PIECE = 32 * 1024
"""Bytes from which on a piece is handed on without copying it."""
CRUMB, CRUMBS = 512, 256
"""Pieces of fewer bytes than CRUMB are put together when CRUMBS of them have come: each takes some
fifty bytes beside its own, so that bodies sent in crumbs would take many times their limit."""


class Source(Protocol):
    """The source of a body: a connection, or a stream of HTTP/2."""

    def hold(self, held: bool) -> None:
        """Read no more of it for now (True), or go on (False)."""


class ClientBody:
    """A body as it arrives.

    `waiting`: something waits for more of it, so that it is the client that is slow; not of a call
    of gRPC that has been passed on, which may be silent. `arrived`: bytes that have come, read or
    not. `go_ahead`: called before the first read, where the client
    waits for 100 (Continue).
    """

    __slots__ = (
        "_chunks",
        "_crumbs",
        "_discarded",
        "_ended",
        "_failed",
        "_held",
        "_high_water",
        "_read",
        "_size",
        "_source",
        "_wait",
        "_whole",
        "arrived",
        "exchange",
        "go_ahead",
        "length",
        "limit",
        "trailers",
    )

    exchange: Exchange
    """Whose it is; set before anything reads it."""

    def __init__(
        self, source: Source, whole: bytes | None = None, *, high_water: int = HIGH_WATER
    ) -> None:
        """high_water: bytes that may wait for their reader before the source is held."""
        self._source = source
        self._high_water = high_water
        self._chunks: list[bytes] = [whole] if whole else []
        self._size = self.arrived = 0 if whole is None else len(whole)
        self._read = self._crumbs = 0
        self._ended = whole is not None
        self._discarded = self._held = False
        self._failed: Failed | None = None
        self._wait: Wait[None] | None = None
        self._whole: bytes | None = None
        self.length: int | None = None
        self.limit: int | None = None
        self.go_ahead: Callable[[], None] | None = None
        self.trailers: Sequence[Pair] = ()

    def __repr__(self) -> str:
        state = (
            "complete"
            if self._ended
            else "broken"
            if self._failed
            else "waited for"
            if self.waiting
            else "arriving"
        )
        return f"<ClientBody {state}, {self.arrived} bytes>"

    # For the connection.

    def feed(self, data: bytes) -> None:
        """More of it. What waits for it goes on with `wake`."""
        self.arrived += len(data)
        if self._discarded or not data:  # An empty DATA frame; to a reader b"" is the end.
            return
        chunks, size = self._chunks, len(data)
        chunks.append(data)
        self._size += size
        if size < CRUMB:
            self._crumbs += 1
            if self._crumbs == CRUMBS:
                self._crumbs = 0
                chunks[-CRUMBS:] = [b"".join(chunks[-CRUMBS:])]
        if self._size > self._high_water and not self._held and self._wait is None:
            self._held = True
            self._source.hold(True)

    def end(self, trailers: Sequence[Pair] = ()) -> None:
        """All of it is here."""
        self._ended = True
        self.trailers = trailers

    def fail(self, failed: Failed) -> None:
        """There will be no more of it: what reads it gets this failure."""
        if self._failed is None:
            self._failed = failed

    def wake(self) -> None:
        """Let its reader look at what has come."""
        wait = self._wait
        if wait is not None:
            self._wait = None
            wait.wake()

    def discard(self) -> None:
        """Nothing reads it any more; drops what is here and what comes."""
        self._discarded = True
        self._chunks.clear()
        self._size = 0
        self._release()

    @property
    def waiting(self) -> bool:
        return self._wait is not None and not self.exchange.notes.get(CALL)

    # For its reader: a RequestBody.

    @property
    def complete(self) -> bytes | None:
        """The whole body if it is here already: read by a hook, or small enough to have come with
        the head."""
        whole = self._whole
        if (
            whole is None
            and self._ended
            and self.length is not None
            and not self._read
            and self.go_ahead is None
        ):
            if self.limit is not None and self.length > self.limit:
                self._refuse_beyond(self.length)
            whole = self._keep()
        return whole

    async def read(self) -> bytes:
        if self._whole is not None:
            return b""
        self._begin()
        while not self._chunks:
            if self._failed is not None:
                raise self._failed
            if self._ended:
                return b""
            await self._more()
        chunk = self._piece()
        self._size -= len(chunk)
        self._read += len(chunk)
        self.exchange.bytes_in = self._read
        self._refuse_beyond(self._read)
        if self._size <= self._high_water // 2:
            self._release()
        return chunk

    def _piece(self) -> bytes:
        """The next of what has come: as it came, or PIECE bytes and more of what came in crumbs."""
        chunks = self._chunks
        count = size = 0
        while size < PIECE and count < len(chunks):
            size += len(chunks[count])
            count += 1
        piece = chunks[0] if count == 1 else b"".join(chunks[:count])
        del chunks[:count]
        return piece

    async def whole(self, at_most: int) -> bytes:
        self.limit = at_most if self.limit is None else min(self.limit, at_most)
        if self.complete is None:
            self._begin()
            while not self._ended:
                # What has come stays where it is until all is here, so a cancelled call loses
                # nothing.
                if self._failed is not None:
                    raise self._failed
                self._refuse_beyond(self._read + self._size)
                self._release()
                await self._more()
            self._keep()
        assert self._whole is not None
        self._refuse_beyond(len(self._whole))
        return self._whole

    @property
    def received(self) -> bool:
        """Return True if all of it has arrived, so that the connection can be used for another
        request."""
        return self._ended

    def _begin(self) -> None:
        if self.go_ahead is not None:
            go_ahead, self.go_ahead = self.go_ahead, None
            go_ahead()
        if self.length is not None:
            self._refuse_beyond(self.length)

    async def _more(self) -> None:
        wait: Wait[None] = Wait()
        self._wait = wait
        try:
            await wait
        finally:
            self._wait = None

    def _keep(self) -> bytes:
        chunks = self._chunks
        whole = self._whole = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        self.length = len(whole)
        self.exchange.bytes_in = self._read + self.length
        if self._held:
            self._release()
        return whole

    def _release(self) -> None:
        if self._held:
            self._held = False
            self._source.hold(False)

    def _refuse_beyond(self, size: int) -> None:
        if self.limit is not None and size > self.limit:
            raise Failed(
                Failure.BODY_TOO_LARGE,
                f"The request's body may have at most {self.limit} bytes.",
                why=f"{size} bytes have come, more than max_body, {self.limit} bytes",
            )
