"""A client of HTTP/2 in memory, for bench/budget.py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gateway.core.headers import Pair
from gateway.protocols.http2.session import Limits, ResponseReceived, Session

WINDOW = 2**31 - 1
OK = (b":status", b"200")


class Http2Client:
    """Sends one request again and again, `at_once` streams of it in one piece of bytes.

    What is counted is the gateway: a request that repeats the one before differs from it in its
    stream's number alone, so its frame is made once.
    """

    def __init__(self, connection: Any, down: Any, fields: Sequence[Pair], at_once: int) -> None:
        self._connection = connection
        self._written = down.written
        self._fields = fields
        self._at_once = at_once
        self._session = Session(Limits(window=WINDOW, connection_window=WINDOW), client=True)
        self._number, self._frame = 0, b""
        connection.connection_made(down)

    async def run(self, count: int, asked: list[Any], answer: bytes) -> None:
        """`count` requests. asked: connections of endpoints that wait for `answer`."""
        written, streams = self._written, self._connection.streams
        for _ in range(0, count, self._at_once):
            made = bool(self._frame)
            self._connection.data_received(self._next() if made else self._first())
            while asked or streams:
                while asked:
                    asked.pop().data_received(answer)
                if streams:
                    await asyncio.sleep(0)
            if not made:
                events = self._session.receive(b"".join(written))
                heads = [one.headers[0] for one in events if one.__class__ is ResponseReceived]
                assert heads == [OK] * (self._number // 2 + 1), heads
            written.clear()

    def _first(self) -> bytes:
        """The first requests. HPACK knows their fields from the second on."""
        pieces = []
        for _ in range(max(self._at_once, 2)):
            self._number = self._session.request(self._fields, end=True)
            pieces.append(self._session.pending())
        self._frame = pieces[-1]
        return b"".join(pieces)

    def _next(self) -> bytes:
        first = self._number + 2
        self._number += 2 * self._at_once
        head, block = self._frame[:5], self._frame[9:]
        numbers = range(first, self._number + 2, 2)
        return b"".join([b"%b%b%b" % (head, one.to_bytes(4, "big"), block) for one in numbers])
