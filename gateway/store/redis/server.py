"""The way to one Redis server: open, closed while it is down, and opened again by a task that looks for it in the background.

A lost connection, or BREAKS late batches in a row, close it. It is open again once the server has done what the store's probe
asks within the deadline, so neither an outage nor its end costs requests anything, and gateways come back one by one (jitter).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from gateway.store.redis.link import Ask, Pipe, fail
from gateway.store.redis.topology import CONNECT, Address
from gateway.store.stores import StoreDown

if TYPE_CHECKING:
    from gateway.store.redis.store import RedisStore

BREAKS = 3
"""Late batches in a row after which a server is taken for down."""
FIRST = 0.25
"""Seconds that requests wait for a server's first connection at most."""
AGAIN = (0.05, 1.0)
"""The first and the longest wait between two tries to reach a server that is down, in seconds."""


class Link:
    """The way to one server, wherever `resolve` finds it: down, connecting, or up with a Pipe."""

    def __init__(self, store: RedisStore, resolve: Callable[[], Awaitable[Address]], label: str) -> None:
        self.store = store
        self.resolve = resolve
        self.label = label
        self.pipe: Pipe | None = None
        self.up = True
        self._early: list[Ask] | None = []
        self._late = 0
        self._task: asyncio.Task[None] | None = None
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Link {self.label} {'up' if self.up else 'down'} {self.pipe}>"

    def send(self, ask: Ask) -> None:
        """Sends, or fails at once when the server is down."""
        if self.pipe is not None:
            self.pipe.send(ask)
        elif self._early is None:
            fail(ask, "the server is down")
        else:
            self._early.append(ask)
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._start())

    def down(self, why: str) -> None:
        """Closes the way, and begins to look for the server."""
        if self._early is None or self.store.closed:
            return
        early, self._early = self._early, None
        self.up = False
        self._since = self.store.clock.monotonic()
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            pipe.close()
        for ask in early:
            fail(ask, why)
        self.store.changed(self, why)
        self._task = asyncio.get_running_loop().create_task(self._recover())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self.pipe is not None:
            self.pipe.close()
        for ask in self._early or ():
            fail(ask, "the store was closed")

    async def _start(self) -> None:
        """The first connection, for which requests wait a little."""
        try:
            async with asyncio.timeout(FIRST):
                pipe = await self._open()
        except (OSError, TimeoutError, RedisError, StoreDown) as error:
            self._task = None
            self.down(f"cannot connect: {error or type(error).__name__}")
            return
        self._take(pipe)

    async def _recover(self) -> None:
        wait, longest = AGAIN
        while True:
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311
            wait = min(longest, wait * 2)
            pipe = None
            try:
                async with asyncio.timeout(CONNECT):
                    pipe = await self._open()
                    ask = Ask(self.store.probe, b"")
                    pipe.send(ask)
                    await ask
                break
            except (OSError, TimeoutError, RedisError, StoreDown):
                if pipe is not None:
                    pipe.close()
        self._take(pipe)
        seconds = self.store.clock.monotonic() - self._since
        self.store.changed(self, f"back after {seconds:.1f} s")

    def _take(self, pipe: Pipe) -> None:
        if pipe.closed:
            self.down("the connection was lost")
            return
        early, self._early = self._early or [], []
        self.pipe, self.up, self._late, self._task = pipe, True, 0, None
        for ask in early:
            pipe.send(ask)

    async def _open(self) -> Pipe:
        """A connection on which the scripts are loaded, or will be when what is sent next is read."""
        store = self.store
        host, port = await self.resolve()
        _, pipe = await asyncio.get_running_loop().create_connection(
            lambda: Pipe(store.deadline, store.answered, self._on_late, self._on_lost), host, port, ssl=store.tls
        )
        for command in store.greeting:
            pipe.send(Ask(command, b"greeting"))
        return pipe

    def on_time(self) -> None:
        self._late = 0

    def _on_late(self) -> None:
        self._late += 1
        self.store.failures.add(("late",))
        if self._late >= BREAKS:
            self.down(f"{BREAKS} times no answer within {self.store.deadline * 1000:.0f} ms")

    def _on_lost(self, pipe: Pipe) -> None:
        if pipe is self.pipe:
            self.store.failures.add(("lost",))
            self.down("the connection was lost")
