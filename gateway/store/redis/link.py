"""A connection to one Redis server: commands of one loop turn go out in one write, answers come back in order, none waits long.

No retries and no pool. A batch that has no answer after the deadline fails as a whole; its answers are dropped if they come after
all. Whether the server is up, and finding it again, is store.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from gateway.store.stores import StoreDown

GRACE = 0.001
"""Seconds a late batch gets in addition: when our own loop was busy, timers run before the answers that lie there are read."""


class Ask(asyncio.Future[Any]):
    """One command and its answer to be."""

    def __init__(self, command: Any, key: bytes) -> None:
        super().__init__()
        self.command = command
        self.key = key
        self.tries = 0


class Pipe(asyncio.Protocol):
    """One connection, made by `loop.create_connection`.

    answered: called with an Ask and Redis' answer or error; late: called once for every batch past the deadline; lost: called
    when the connection has ended.
    """

    def __init__(
        self,
        deadline: float,
        answered: Callable[[Ask, Any], None],
        late: Callable[[], None],
        lost: Callable[[Pipe], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._on_answer = answered
        self._on_late = late
        self._on_lost = lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Ask] = deque()
        self._batch: list[bytes] = []
        self._sent = 0
        self._answers = 0
        self._transport: asyncio.Transport | None = None
        self.closed = False

    def __repr__(self) -> str:
        return f"<Pipe {len(self._waiting)} waiting{' closed' if self.closed else ''}>"

    def send(self, ask: Ask) -> None:
        """Sends with everything else of this loop turn."""
        if self.closed:
            fail(ask, "the connection is closed")
            return
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(hiredis.pack_command(ask.command))
        self._waiting.append(ask)

    def close(self) -> None:
        """Drops the connection; what waits fails."""
        if self._transport is not None:
            self._transport.abort()
        self._end("the connection was closed")

    def _flush(self) -> None:
        if self.closed or self._transport is None:
            return
        batch, self._batch = self._batch, []
        self._transport.write(b"".join(batch))
        self._sent += len(batch)
        self._loop.call_later(self._deadline, self._due, self._sent)

    def _due(self, mark: int) -> None:
        if self._answers < mark and not self.closed:
            self._loop.call_later(GRACE, self._give_up, mark)

    def _give_up(self, mark: int) -> None:
        missing = mark - self._answers
        if missing <= 0 or self.closed:
            return
        for index, ask in enumerate(self._waiting):
            if index >= missing:
                break
            fail(ask, f"no answer within {self._deadline * 1000:.0f} ms")
        self._on_late()

    def _end(self, why: str) -> None:
        if not self.closed:
            self.closed = True
            waiting, self._waiting = self._waiting, deque()
            for ask in waiting:
                fail(ask, why)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        if self.closed:
            self._transport.abort()
        elif self._batch:
            self._flush()

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        while waiting:
            try:
                answer = reader.gets()
            except hiredis.ProtocolError:
                self.close()
                self._on_lost(self)
                return
            if answer is False:
                return
            self._answers += 1
            ask = waiting.popleft()
            if not ask.done():
                self._on_answer(ask, answer)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed:
            self._end("the connection was lost")
            self._on_lost(self)


def fail(ask: Ask, why: str) -> None:
    """Ends an Ask with StoreDown; says so quietly where nobody waits."""
    if not ask.done():
        ask.set_exception(StoreDown(why))
        ask.exception()  # looked at: a posted one is nobody's to retrieve
