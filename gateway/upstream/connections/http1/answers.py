"""What an endpoint's answer says: its fields understood in one pass, and a long body as it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import compress, count
from operator import ne
from typing import TYPE_CHECKING

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import HOP_BY_HOP, PLAIN_FIELD, Memo, Pair, lower, tokens

if TYPE_CHECKING:
    from gateway.upstream.connections.http1.connection import Connection

HIGH_WATER = 256 * 1024
"""Bytes of a streamed body that may wait for a slow client before reading from the endpoint stops."""
MAX_HEAD = 64 * 1024
"""Bytes an answer's status line and headers may take."""
END = b"\r\n\r\n"
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


_PLAIN_HEAD = 8192
"""Bytes of a head that is looked at here at all; the parser judges longer ones."""
_LENGTH = -1
"""The slot of Content-Length."""


class Repeat:
    """An answer that came in one piece, as what the next may repeat: its head byte for byte, or all but some fields' values.

    Endpoints repeat themselves: between two answers Date may differ, the body and its length, an entity tag. The parser has read
    these very lines from the same state; another value of a plain field changes nothing but that field, another Content-Length
    where the body ends. Other names, another order, other hop-by-hop fields, a body that is not all there: the parser reads it.
    `used`: whether any answer has.
    """

    __slots__ = ("_headers", "_index", "_joined", "_length", "_lines", "_parts", "_slots", "_status", "head", "size", "used")

    def __init__(self, head: bytes, status: int, headers: list[Pair], index: dict[bytes, bytes], length: int) -> None:
        """head: with the empty line. headers, index: what goes on to the client, in the order of the head."""
        self.used = False
        self._status = status
        self._headers = headers
        self._index = index
        self._lines = head[: -len(END)].split(b"\r\n")
        self._parts = [b"%b: %b\r\n" % pair for pair in headers]
        self._slots = self._find_slots()
        self._take(head, length)

    def _find_slots(self) -> list[int | None]:
        """By line: its place among the headers, or _LENGTH; None for one that must not differ."""
        slots: list[int | None] = []
        names = [lower(name) for name, _ in self._headers]
        place = 0
        for line in self._lines:
            name = line.partition(b":")[0].lower()
            if place < len(names) and name == names[place]:
                slots.append(place if names.count(name) == 1 else None)
                place += 1
            else:
                slots.append(_LENGTH if name == b"content-length" else None)
        return slots if place == len(names) else [None] * len(slots)

    def _take(self, head: bytes, length: int) -> None:
        self.head = head
        self.size = len(head) + length
        self._length = length
        self._joined = (len(self._headers), b"".join(self._parts))

    def reply(self, data: bytes) -> Reply:
        """The answer that `data` is, which begins with `head` and is `size` bytes."""
        reply = Reply.known(self._status, self._headers.copy(), self._index.copy(), self._joined, self._length)
        reply.body = data[len(self.head) :]
        return reply

    def varied(self, data: bytes) -> bool:
        """Whether `data` is one whole answer that differs in plain values only; it is then what the next is held against."""
        end = data.find(END)
        if not 0 < end <= _PLAIN_HEAD:
            return False
        lines, known = data[:end].split(b"\r\n"), self._lines
        if len(lines) != len(known):
            return False
        headers, index, parts, length = self._headers.copy(), self._index.copy(), self._parts.copy(), self._length
        for place in compress(count(), map(ne, lines, known)):
            slot = self._slots[place]
            plain = PLAIN_FIELD.fullmatch(lines[place])
            if slot is None or plain is None:
                return False
            name, value = plain.groups()
            if slot == _LENGTH:
                if not known[place].startswith(name + b":") or not value.isdigit() or len(value) > 9:
                    return False
                length = int(value)
                continue
            if name != headers[slot][0]:
                return False
            headers[slot] = (name, value)
            index[lower(name)] = value
            parts[slot] = lines[place] + b"\r\n"
        head = data[: end + len(END)]
        if len(data) != len(head) + length:
            return False
        self._lines, self._headers, self._index, self._parts = lines, headers, index, parts
        self._take(head, length)
        return True
