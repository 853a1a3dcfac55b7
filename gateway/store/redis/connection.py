"""One connection to one Redis server: a write for all commands of a loop turn, answers in order.

No retries and no pool. A batch without an answer at its deadline fails as a whole; answers that
come later are dropped. Whether a server is up, and finding it again, is link.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, Self, cast

import hiredis

from gateway.core.wait import Wait
from gateway.store.stores import StoreDown

GRACE = 0.001
"""Seconds that a late batch gets in addition: after a busy turn of the event loop, timers run
before the answers that have already arrived are read."""


class Script:
    """A Lua script, and the name by which Redis knows it once it is loaded."""

    __slots__ = ("sha", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.sha = sha1(text, usedforsecurity=False).hexdigest().encode()


class Command(Wait[Any]):
    """One command. Awaiting it gives Redis' answer, or raises StoreDown.

    `key` decides which server of a Cluster is asked. `script` is sent whole if Redis has lost it.
    """

    __slots__ = ("key", "script", "tries", "words")

    def __init__(
        self, words: tuple[bytes, ...], key: bytes = b"", script: Script | None = None
    ) -> None:
        super().__init__()
        self.words = words
        self.key = key
        self.script = script
        self.tries = 0

    @classmethod
    def of(cls, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Self:
        """The call of a script that is loaded."""
        return cls((b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *args), keys[0], script)


class Answered(Command):
    """A command whose outcome goes to a callback: Redis' answer, or None when there is none."""

    __slots__ = ("callback",)

    callback: Callable[[Any], None]

    def wake(self, value: Any = None) -> None:
        if not self.done:
            super().wake(value)
            self.callback(value)


class Connection(asyncio.Protocol):
    """Made by `loop.create_connection`.

    answered: called with a command and Redis' answer or error.
    late: called once for every batch past the `deadline`, in seconds.
    lost: called when the connection has ended.
    """

    def __init__(
        self,
        deadline: float,
        answered: Callable[[Command, Any], None],
        late: Callable[[], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self.deadline = deadline
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._on_answer = answered
        self._on_late = late
        self._on_lost = lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Command] = deque()
        self._batch: list[bytes] = []
        self._sent = 0
        self._answers = 0
        self._transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<Connection {len(self._waiting)} waiting{' closed' if self.closed else ''}>"

    def send(self, command: Command) -> None:
        """Send with everything else of this turn of the event loop."""
        if self.closed:
            fail(command, "the connection is closed")
            return
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(hiredis.pack_command(command.words))  # type: ignore[arg-type]
        self._waiting.append(command)

    def close(self) -> None:
        """Drop the connection; what waits fails."""
        if self._transport is not None:
            self._transport.abort()
        self._end("the connection was closed")

    def _flush(self) -> None:
        if self.closed or self._transport is None:
            return
        batch, self._batch = self._batch, []
        self._transport.write(b"".join(batch))
        self._sent += len(batch)
        self._loop.call_later(self.deadline, self._due, self._sent, self.deadline)

    def _due(self, mark: int, deadline: float) -> None:
        if self._answers < mark and not self.closed:
            self._loop.call_later(GRACE, self._give_up, mark, deadline)

    def _give_up(self, mark: int, deadline: float) -> None:
        missing = mark - self._answers
        if missing <= 0 or self.closed:
            return
        late = [command for _, command in zip(range(missing), self._waiting, strict=False)]
        for command in late:
            fail(command, f"no answer within {deadline * 1000:.0f} ms")
        self._on_late()

    def _end(self, why: str) -> None:
        if not self.closed:
            self.closed = True
            waiting, self._waiting = self._waiting, deque()
            for command in waiting:
                fail(command, why)

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
            command = waiting.popleft()
            if not command.done:
                self._on_answer(command, answer)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed:
            self._end("the connection was lost")
            self._on_lost(self)


def fail(command: Command, why: str) -> None:
    """End a command with StoreDown."""
    if not command.done:
        command.fail(StoreDown(why))
