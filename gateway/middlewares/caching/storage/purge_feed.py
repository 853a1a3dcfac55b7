"""Purges told to all gateways by Redis: remembered there, pushed as they happen.

    gateway:{cache}:purges    a hash: versions by what `Purges.fields` names
    gateway:{cache}:stamp     the latest version: microseconds since 1970, by Redis' clock
    gateway:{cache}:version   how many purges there were; the channel gateway:{cache}:changes has
                              them (see feed.py): the version, a space, and the fields

Versions go by Redis' clock, so that they grow on after the store has lost its data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson

from gateway.core.wait import Wait
from gateway.store.purges import Purge, Purges
from gateway.store.redis.client import RedisClient
from gateway.store.redis.connection import Script
from gateway.store.redis.feed import LATE, Feed

log = logging.getLogger("gateway.cache")

NAME = b"gateway:{cache}"
RECORDS, STAMP, VERSION = (NAME + part for part in (b":purges", b":stamp", b":version"))

PURGE = Script(
    b"""
local time = redis.call("TIME")
local stamp = time[1] * 1000000 + time[2]
local last = tonumber(redis.call("GET", KEYS[2]) or "0")
if stamp <= last then stamp = last + 1 end
stamp = string.format("%.0f", stamp)
redis.call("SET", KEYS[2], stamp)
for place = 2, #ARGV do redis.call("HSET", KEYS[1], ARGV[place], stamp) end
local version = redis.call("INCR", KEYS[3])
local fields = {}
for place = 2, #ARGV do fields[place - 1] = ARGV[place] end
redis.call("PUBLISH", ARGV[1], version .. " " .. stamp .. " " .. cjson.encode(fields))
return stamp"""
)


class PurgeFeed:
    """Follows what is purged in one store, and tells it what is purged here."""

    def __init__(self, client: RedisClient, purges: Purges) -> None:
        self._client = client
        self._purges = purges
        self._channel = client.url.channel(NAME.decode()).encode()
        self._feed: Feed | None = None
        self._before: Callable[[Purge], object] | None = None

    def __repr__(self) -> str:
        return f"<PurgeFeed {self._feed!r}>"

    @property
    def known(self) -> bool:
        """Return True once what was purged before has been read."""
        return self._feed is not None and self._feed.version is not None

    def follow(self) -> None:
        """Begin; harmless twice."""
        if self._feed is None:
            self._before, self._purges.tell = self._purges.tell, self.tell
            self._feed = Feed(self._client, NAME, self)

    def close(self) -> None:
        if self._feed is not None:
            self._feed.close()
            self._purges.tell = self._before

    def tell(self, purge: Purge) -> Wait[bytes]:
        """Purge at all gateways. Awaiting it gives the version, or raises StoreDown.

        Whom it was told before is told as well: the workers beside this one hear of it whatever
        becomes of the store.
        """
        if self._before is not None:
            self._before(purge)
        fields = [field.encode("utf-8", "surrogatepass") for field in Purges.fields(purge)]
        return self._client.run(PURGE, (RECORDS, STAMP, VERSION), (self._channel, *fields))

    # A Follower (feed.py).

    async def load(self) -> None:
        async for found in self._client.scan(RECORDS):
            for field, stamp in zip(found[::2], found[1::2], strict=True):
                self._purges.restore(field.decode("utf-8", "surrogatepass"), int(stamp))

    def take(self, change: bytes) -> None:
        stamp, _, fields = change.partition(b" ")
        for field in orjson.loads(fields):
            self._purges.restore(field, int(stamp))

    def unconfirmed(self) -> None:
        log.warning(
            "%s has not been heard of for %.0f s: what other gateways purge is not known here",
            self._client.name,
            LATE,
        )
