"""Following something in Redis that changes: pushed as it happens, compared every few seconds.

A change counts a version up and is published with its number, in one step. A follower reads
everything once; then messages come in order. A gap, a lost subscription or another version than
expected has everything read again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

import hiredis
from redis.exceptions import RedisError

from gateway.lifetime.supervised import Supervised
from gateway.store.redis.client import RedisClient
from gateway.store.redis.link import AGAIN
from gateway.store.redis.topology import CONNECT
from gateway.store.stores import StoreDown

log = logging.getLogger("gateway.store")

EVERY = 5.0
"""Seconds between two comparisons of the version: how long a change takes at most while the
subscription is broken."""
LATE = 2 * EVERY
"""Seconds without a comparison after which what is known counts as unconfirmed."""
SOON = 0.5
"""Seconds to the next comparison after one that failed."""
GRACE = 0.25
"""Seconds in which a message may still come whose version has been read already."""
SILENCE = 5.0
"""Seconds of silence after which a subscription is asked whether it lives; it is given up after as
many again."""


class Follower(Protocol):
    """What wants to know of changes."""

    async def load(self) -> None:
        """Read everything anew. Raises StoreDown."""

    def take(self, change: bytes) -> None:
        """Take one change, as it was published. After any exception everything is read anew."""

    def unconfirmed(self) -> None:
        """Note that the store has not answered for LATE seconds."""


class Feed:
    """Follows `name` in a store: the channel NAME:changes (StoreUrl.channel) and the number
    NAME:version.

    version: the one that is known, None before the first. subscribed: whether changes are pushed.
    """

    def __init__(self, store: RedisClient, name: bytes, follower: Follower) -> None:
        self.version: int | None = None
        self.subscribed = False
        self._store = store
        self._channel = store.url.channel(name.decode()).encode()
        self._key = name + b":version"
        self._follower = follower
        self._confirmed = store.clock.monotonic()
        self._reported = False
        self._held: list[bytes] | None = None
        self._pause, _ = AGAIN
        channel = self._channel.decode()
        self._comparing = Supervised("store_feed", self._compare, every=EVERY, of=channel)
        self._listening = Supervised(
            "store_subscription", self._subscribe, every=EVERY, of=channel, jitter=0.5
        )
        self._comparing.start()
        self._listening.start()

    def __repr__(self) -> str:
        return (
            f"<Feed {self._channel.decode()} version "
            f"{self.version}{'' if self.subscribed else ', not subscribed'}>"
        )

    @property
    def confirmed(self) -> bool:
        """Whether what is known was compared lately."""
        return self.version is not None and self._store.clock.monotonic() - self._confirmed < LATE

    def close(self) -> None:
        self._comparing.close()
        self._listening.close()

    # Comparing.

    async def _compare(self) -> float | None:
        try:
            await self._catch_up()
        except StoreDown:
            if not self._reported and self._store.clock.monotonic() - self._confirmed >= LATE:
                self._reported = True
                self._follower.unconfirmed()
            return SOON
        self._confirmed = self._store.clock.monotonic()
        self._reported = False
        return None

    async def _catch_up(self) -> None:
        version = await self._version()
        if version == self.version:
            return
        if self.version is not None and self.version >= 0 and self.subscribed:
            await asyncio.sleep(GRACE)
            version = await self._version()
            if version == self.version:
                return
        self._held = []
        try:
            await self._follower.load()
        finally:
            held, self._held = self._held, None
        self.version = version
        for message in held:
            self._heard(message)

    async def _version(self) -> int:
        return int(await self._store.command(b"GET", self._key) or 0)

    def _heard(self, message: bytes) -> None:
        if self._held is not None:
            self._held.append(message)
            return
        word, _, change = message.partition(b" ")
        number = int(word) if word.isdigit() else 0
        if self.version is None or 0 < number <= self.version:
            return
        try:
            if number != self.version + 1:
                raise LookupError(f"change {self.version} was followed by {number}")
            self.version = number
            self._follower.take(change)
        except Exception as error:
            log.warning("%s: %r; everything is read anew", self._channel.decode(), error)
            self.version = -1
            self._comparing.wake()

    # Subscribing.

    async def _subscribe(self) -> float:
        first, longest = AGAIN
        why = "the connection was lost"
        try:
            await self._listen()
        except (
            OSError,
            TimeoutError,
            RedisError,
            StoreDown,
            ValueError,
            hiredis.HiredisError,
        ) as error:
            why = str(error) or type(error).__name__
        if self.subscribed:
            self._pause = first
            if self.version is not None:
                # The server may come back without its data, and count up to the same version again.
                self.version = -1
            log.warning(
                "%s is not pushed at the moment (%s): asked for every %.0f s",
                self._channel.decode(),
                why,
                EVERY,
            )
        self.subscribed = False
        pause, self._pause = self._pause, min(longest, 2 * self._pause)
        return pause

    async def _listen(self) -> None:
        async with asyncio.timeout(CONNECT):
            host, port = await self._store.anywhere()
            reader, writer = await asyncio.open_connection(host, port, ssl=self._store.tls)
        try:
            commands: list[Any] = [*self._store.identification, (b"SUBSCRIBE", self._channel)]
            writer.write(b"".join(hiredis.pack_command(command) for command in commands))
            parser, asked = hiredis.Reader(), False
            while True:
                try:
                    async with asyncio.timeout(SILENCE):
                        data = await reader.read(65536)
                except TimeoutError:
                    if asked:
                        raise
                    asked = True
                    writer.write(hiredis.pack_command((b"PING",)))
                    continue
                if not data:
                    return
                asked = False
                parser.feed(data)
                while (answer := parser.gets()) is not False:
                    self._answered(answer)
        finally:
            writer.close()

    def _answered(self, answer: object) -> None:
        if isinstance(answer, hiredis.ReplyError):
            raise StoreDown(str(answer))
        if isinstance(answer, list) and answer[0] == b"message":
            self._heard(answer[2])
        elif isinstance(answer, list) and answer[0] == b"subscribe":
            self.subscribed = True
            self._comparing.wake()  # What was published before now has not been heard.
