"""What is kept in Redis and looked up, such as keys: single commands, with the breaker and deadline of redis_store.

It has a connection of its own: neither a flood of limits delays a look-up, nor the other way round.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

from gateway.core.clock import Clock
from gateway.core.hooks import Context
from gateway.core.telemetry import Telemetry
from gateway.store import stores
from gateway.store.redis.link import Ask
from gateway.store.redis.server import Link
from gateway.store.redis.store import RedisStore
from gateway.store.redis.topology import Address
from gateway.store.stores import StoreUrl

log = logging.getLogger("gateway.state")

STEP = b"1000"
"""Fields asked for at a time when everything is read."""


class RedisReader(RedisStore):
    """A RedisStore that answers commands instead of counting. A lost server is looked for in the background."""

    def __init__(self, url: StoreUrl, deadline: float, clock: Clock, telemetry: Telemetry) -> None:
        super().__init__(url, deadline, clock, telemetry)
        self.greeting = self.greeting[:-1]  # without the limits' script
        self.probe = (b"PING",)
        self.tag = f"{hash((url, deadline)):x}"
        """Tells it from others of the same name, in this process."""

    def command(self, *words: bytes, key: bytes = b"") -> asyncio.Future[Any]:
        """One command, whose second word is its key unless `key` says which. The future fails with StoreDown, at once while the
        server is down."""
        ask = Ask(words, key or words[1])
        self._send(ask)
        return ask

    async def scan(self, key: bytes) -> AsyncIterator[list[bytes]]:
        """A hash's fields and values, in turn, some at a time; each at least once. Raises StoreDown."""
        cursor = b"0"
        while True:
            cursor, found = await self.command(b"HSCAN", key, cursor, b"COUNT", STEP)
            yield found
            if cursor == b"0":
                return

    async def anywhere(self) -> Address:
        """A server that hears what is published; in a Cluster any of them. Raises what looking for it does."""
        if self._one is not None:
            return await self._server()
        return random.choice([*self._links] or list(self.url.hosts))  # noqa: S311

    def changed(self, link: Link, why: str) -> None:
        """A server is down, or back."""
        self._up.set((f"{link.label} (look-ups)",), int(link.up))
        if link.up:
            log.warning("store %s is %s: it is asked for keys and revocations again", link.label, why)
        else:
            log.warning("store %s is down: %s. What was looked up before goes on as on_store_failure says", link.label, why)


def reader_of(url: str, deadline: float, context: Context) -> RedisReader:
    """The one for a URL, shared by all that use it; "redis" is what `[store] url` names.

    Raises BadUrl, LookupError when there is no such store, and ImportError without the package redis.
    """
    if url == "redis":
        if context.store is None:
            raise LookupError('"redis" is what [store] url names, and that is no Redis')
        parsed: StoreUrl = context.store.url
    else:
        parsed = stores.parse(url)
    kept: RedisReader = context.keep(
        ("reader", str(parsed), f"{hash((parsed, deadline)):x}"),
        (parsed, deadline),
        lambda: RedisReader(parsed, deadline, context.clock, context.telemetry),
    )
    return kept
