"""What an endpoint's answer says: its fields understood in one pass, and a long body as it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import HOP_BY_HOP, Memo, Pair, lower, tokens

if TYPE_CHECKING:
    from gateway.upstream.connection import Connection

HIGH_WATER = 256 * 1024
"""Bytes of a streamed body that may wait for a slow client before reading from the endpoint stops."""
MAX_HEAD = 64 * 1024
"""Bytes an answer's status line and headers may take."""
MAX_LENGTH = 2**63 - 1
"""What a Content-Length may say; beyond it the others on the way may count otherwise (RFC 9110 section 8.6)."""

_NOT_COPIED = HOP_BY_HOP | {b"content-length"}
_COPIED = Memo(lambda name: b"" if name.lower() in _NOT_COPIED else name.lower())
"""The lower case of a name that goes on to the client, b"" for one that is only understood."""


class AnswerStream:
    """A body arriving from an endpoint (a core ReplyStream). Reading it more slowly than it arrives pauses the socket."""

    __slots__ = ("_chunks", "_connection", "_ended", "_failed", "_paused", "_size", "_waiter", "taken", "trailers")

    def __init__(self, connection: Connection) -> None:
        self.taken = 0
        """Bytes that have come in all."""
        self.trailers: tuple[Pair, ...] = ()
        """The fields that came after the body, once that has ended; they are no headers, and change none."""
        self._connection: Connection | None = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failed: Failed | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        while not self._chunks:
            if self._failed is not None:
                raise self._failed
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._paused and self._size <= HIGH_WATER // 2 and self._connection is not None:
            self._paused = False
            self._connection.resume_reading()
        return chunk

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.give_up()

    def feed(self, chunk: bytes) -> None:
        """More of the body, from the connection."""
        self._chunks.append(chunk)
        self.taken += len(chunk)
        self._size += len(chunk)
        if self._size > HIGH_WATER and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause_reading()
        self._wake()

    def end(self, failed: Failed | None) -> None:
        """No more will come; what is here can still be read."""
        self._ended = True
        self._failed = failed
        self._connection = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


Understood = tuple[list[Pair], dict[bytes, bytes], tuple[int, bytes], int | None, bytes, bytes]
"""Fields that go on to the client, their index, their lines; Content-Length, Transfer-Encoding and Connection (lower case)."""


def understand(fields: list[Pair]) -> Understood:
    """One pass over an answer's fields: hop-by-hop ones and framing are understood and dropped, the rest is kept as it came.

    Endpoints repeat themselves; a connection remembers what the last answer's fields came to.
    """
    length: int | None = None
    coding = connection = b""
    headers: list[Pair] = []
    index: dict[bytes, bytes] = {}
    parts: list[bytes] = []
    for pair in fields:
        raw, value = pair
        name = _COPIED[raw]
        if not name:
            name = raw.lower()
            if name == b"content-length":
                length = int(value)
                if length > MAX_LENGTH:
                    raise Failed(Failure.BAD_RESPONSE, why=f"a Content-Length of {length}")
            elif name == b"transfer-encoding":
                # Not tabs: behind one the parser no longer knows its "chunked", so that must not be read here either.
                value = value.strip(b" ").lower()
                coding = coding + b"," + value if coding else value
            elif name == b"connection" or (name == b"proxy-connection" and b"close" in value.lower()):
                connection = connection + b"," + value.lower() if connection else value.lower()
            continue
        headers.append(pair)
        parts += (raw, b": ", value, b"\r\n")
        index[name] = value if name not in index else index[name] + b", " + value
    if connection and connection not in (b"close", b"keep-alive"):
        named = tokens(connection)  # RFC 9110 section 7.6.1: what Connection names is hop-by-hop too.
        headers = [pair for pair in headers if lower(pair[0]) not in named]
        index = {name: value for name, value in index.items() if name not in named}
        parts = [b"%b: %b\r\n" % pair for pair in headers]
    lines = b"".join(parts)
    if len(lines) > MAX_HEAD:
        raise Failed(Failure.BAD_RESPONSE, why=f"a head of over {MAX_HEAD} bytes")
    return headers, index, (len(headers), lines), length, coding, connection


class Repeat:
    """An answer that came in one piece, as what the next may repeat: with its head, byte for byte, only the body is another.

    Endpoints repeat themselves: the same resource within the second that Date names, or all the time without one. The parser has
    read these very bytes from the same state; Content-Length is among them, so it is known where the body ends.
    """

    __slots__ = ("_reply", "head", "size")

    def __init__(self, head: bytes, size: int, reply: Reply) -> None:
        self.head = head
        self.size = size
        self._reply = reply

    def reply(self, data: bytes) -> Reply:
        """The answer that `data` is, which begins with `head` and is `size` bytes."""
        like = self._reply
        reply = Reply.known(like.status, like.headers.copy(), like.index.copy(), like.joined, like.length)
        reply.body = data[len(self.head) :]
        return reply
