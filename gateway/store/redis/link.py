"""The way to one Redis server: open, closed while it is down, and opened again in the background.

A lost connection, BREAKS late batches in a row, or an error that says so close it. It opens again
once the server has taken the greeting and done what the client's probe asks within the deadline,
so neither an outage nor its end costs requests anything. Gateways come back one by one (jitter).
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Protocol

import hiredis
from redis.exceptions import RedisError

from gateway.core.clock import Clock
from gateway.core.telemetry import Family
from gateway.lifetime.supervised import Supervised
from gateway.store.redis.connection import Command, Connection, fail
from gateway.store.redis.topology import CONNECT, Address
from gateway.store.stores import StoreDown

log = logging.getLogger("gateway.store")

BREAKS = 3
"""Late batches in a row after which a server counts as down."""
FIRST = 0.25
"""Seconds that commands wait at most for a server's first connection."""
AGAIN = (0.05, 1.0)
"""The first and the longest wait between two tries to reach a server that is down, in seconds."""

FAILED = (OSError, TimeoutError, RedisError, StoreDown)
"""What looking for a server, connecting to it and greeting it raise."""


class Owner(Protocol):
    """What a link needs of the client that it belongs to."""

    clock: Clock
    closed: bool
    deadline: float
    failures: Family
    greeting: Sequence[tuple[bytes, ...]]
    """What every connection begins with. Nothing else is sent before Redis has accepted all of
    it."""
    probe: tuple[bytes, ...]
    """A server is back when it answers this."""
    tls: ssl.SSLContext | None

    def refused(self, link: Link, command: Command, error: str) -> None:
        """Redis has answered with an error."""

    def changed(self, link: Link) -> None:
        """The link is up, or down for the reason `link.why`."""

    def searching(self, link: Link) -> None:
        """Another try to reach the server has failed."""


class Link:
    """The way to one server, wherever `resolve` finds it.

    `why`: the reason while it is down, else "". `outage`: seconds that the last one lasted.
    """

    def __init__(self, owner: Owner, resolve: Callable[[], Awaitable[Address]], label: str) -> None:
        self.owner = owner
        self.resolve = resolve
        self.label = label
        self.connection: Connection | None = None
        self.why = ""
        self.outage = 0.0
        self._early: list[Command] = []
        self._late = 0
        self._first: asyncio.Task[None] | None = None
        self._since = 0.0
        self._pause, longest = AGAIN
        self._search = Supervised(
            "store_link", self._try_again, every=longest, of=label, jitter=0.5
        )

    def __repr__(self) -> str:
        return f"<Link {self.label} {'up' if self.up else 'down'} {self.connection}>"

    @property
    def up(self) -> bool:
        return not self.why

    def send(self, command: Command) -> None:
        """Send, or fail at once while the server is down."""
        if self.connection is not None:
            self.connection.send(command)
        elif self.why:
            fail(command, f"the server is down: {self.why}")
        else:
            self._early.append(command)
            if self._first is None:
                self._first = asyncio.get_running_loop().create_task(self._start())

    def down(self, why: str) -> None:
        """Close the way, and begin to look for the server."""
        if self.why or self.owner.closed:
            return
        early, self._early = self._early, []
        connection, self.connection = self.connection, None
        self.why = why
        self._since = self.owner.clock.monotonic()
        self._pause, _ = AGAIN
        self._search.start(self._pause * random.uniform(0.5, 1.5))  # noqa: S311
        self.owner.changed(self)
        if connection is not None:
            connection.close()
        for command in early:
            fail(command, why)

    def close(self) -> None:
        self._search.close()
        if self._first is not None:
            self._first.cancel()
        if self.connection is not None:
            self.connection.close()
        for command in self._early:
            fail(command, "the store was closed")

    async def _start(self) -> None:
        """Make the first connection, for which commands wait a little."""
        try:
            connection = await self._open(FIRST)
        except FAILED as error:
            self.down(_cannot_connect(error))
            return
        except Exception as error:
            log.exception("connecting to %s failed", self.label)
            self.down(f"cannot connect: {error!r}")  # What waits must not wait for ever.
            return
        self._use(connection)

    async def _try_again(self) -> float:
        """Look for the server once. Gives the seconds to the next try, or none."""
        try:
            connection = await self._open(CONNECT, self.owner.probe)
        except FAILED as error:
            self.why = _cannot_connect(error)
            self.owner.searching(self)
            self._pause = min(AGAIN[1], self._pause * 2)
            return self._pause
        self.outage = self.owner.clock.monotonic() - self._since
        self._use(connection)
        return inf

    def _use(self, connection: Connection) -> None:
        self.connection, self.why, self._late = connection, "", 0
        if connection.closed:
            self.down("the connection was lost")
            return
        self.owner.changed(self)
        early, self._early = self._early, []
        for command in early:
            connection.send(command)

    async def _open(self, seconds: float, *last: tuple[bytes, ...]) -> Connection:
        """A connection that Redis has accepted, with an answer to `last` within the deadline.
        Raises FAILED."""
        owner, connection = self.owner, None
        try:
            async with asyncio.timeout(seconds):
                host, port = await self.resolve()
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(seconds, self._answered, self._on_late, self._on_lost),
                    host,
                    port,
                    ssl=owner.tls,
                )
                for words in owner.greeting:
                    await self._asked(connection, words)
                connection.deadline = owner.deadline
                for words in last:
                    await self._asked(connection, words)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, TimeoutError):
                what = (
                    ("TLS handshake (does the port speak TLS?)")
                    if owner.tls and connection is None
                    else "answer"
                )
                raise TimeoutError(f"no {what} within {seconds:g} s") from None
            raise
        return connection

    async def _asked(self, connection: Connection, words: tuple[bytes, ...]) -> None:
        command = Command(words)
        connection.send(command)
        await command

    # What the connection reports.

    def _answered(self, command: Command, answer: Any) -> None:
        self._late = 0
        if isinstance(answer, hiredis.ReplyError):
            if command.key:
                self.owner.refused(self, command, str(answer))
            else:
                fail(command, f"Redis refuses {command.words[0].decode()}: {answer}")
        else:
            command.wake(answer)

    def _on_late(self) -> None:
        self._late += 1
        self.owner.failures.add(("late",))
        if self._late >= BREAKS:
            self.down(f"{BREAKS} times no answer within {self.owner.deadline * 1000:.0f} ms")

    def _on_lost(self, connection: Connection) -> None:
        if connection is self.connection:
            self.owner.failures.add(("lost",))
            self.down("the connection was lost")


def _cannot_connect(error: Exception) -> str:
    return f"cannot connect: {str(error) or type(error).__name__}"
