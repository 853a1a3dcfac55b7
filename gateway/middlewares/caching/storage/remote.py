"""Stored responses in Redis, shared by workers and gateways; memory lies in front of it.

    gateway:{cache1:HASH}            a response (b"E" and packing.py's bytes), its pieces' names
                                     (b"P", JSON), or the fields that responses vary by (b"V", JSON)
    gateway:{cache1:HASH}:VARIANT    a response for certain values of such fields
    gateway:{cache1:HASH}:GENERATION:NUMBER    a piece of a large response

HASH is of the URI and of who the response is for, and the number of the format is in the name:
gateways of different versions do not read each other's. A store that is down, slow or full is a
miss: nothing here raises. Pieces are written before what names them, and it tells their checksum,
so what is put together is whole or not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable
from hashlib import blake2b
from typing import Any, TypeVar
from zlib import crc32

import orjson

from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry
from gateway.core.wait import own
from gateway.middlewares.caching.entries import Entry, Names, Values
from gateway.middlewares.caching.storage.packing import VERSION, pack, unpack_foreign
from gateway.middlewares.caching.storage.purge_feed import PURGE, PurgeFeed
from gateway.store.purges import Purges
from gateway.store.redis.client import Purpose, RedisClient
from gateway.store.redis.connection import Answered
from gateway.store.stores import SharedStore, StoreDown

R = TypeVar("R")

PIECE = 64 * 1024
"""Bytes of a value at most: a larger one would hold up what else goes over the connection."""
MAX_UNWRITTEN = 8 * 1024 * 1024
"""Bytes on their way to the store; beyond that nothing is stored there."""
PURPOSE = Purpose(
    label=" (cache)",
    back="answers are shared again",
    down="Answers are kept by each process alone",
    scripts=(PURGE,),
)
STALE_SECONDS = 60
"""Seconds for which a response stays after it has turned stale, at least: it may be confirmed."""
MAX_SECONDS = 30 * 86400


class Remote:
    """One store. All pipelines of the process that share it use one."""

    def __init__(self, client: RedisClient, feed: PurgeFeed, clock: Clock) -> None:
        self.client = client
        self.feed = feed
        self._clock = clock
        self._unwritten = 0

    def __repr__(self) -> str:
        return f"<Remote {self.client.name} {'up' if self.up else 'down'}>"

    @property
    def up(self) -> bool:
        """Return True if it makes sense to ask. Before it is known what has been purged nothing
        is read."""
        return self.client.up and self.feed.known

    @own
    async def find(
        self, uri: str, scope: Hashable, values: Callable[[R, Names], Values], request: R
    ) -> tuple[Entry, int] | None:
        """Return the response for a request, and the version of purges when its origin was asked.

        See `Memory.select`.
        """
        key = key_of(uri, scope)
        try:
            value = await self.client.command(b"GET", key)
            if value is None:
                return None
            if value[:1] != b"V":
                return await self._whole(value, key, uri, scope, (), ())
            found: list[tuple[Entry, int]] = []
            for names in _names(value):
                of_request = values(request, names)
                place = variant_key(key, names, of_request)
                value = await self.client.command(b"GET", place)
                one = value and await self._whole(value, key, uri, scope, names, of_request)
                if one:
                    found.append(one)
            return max(found, key=lambda one: one[0].date, default=None)
        except (StoreDown, ValueError, TypeError, AttributeError):
            return None

    async def _whole(
        self, value: bytes, key: bytes, uri: str, scope: Hashable, vary: Names, of_request: Values
    ) -> tuple[Entry, int] | None:
        if value[:1] == b"P":
            generation, count, checksum = orjson.loads(value[1:])
            if count > MAX_UNWRITTEN // PIECE:
                return None  # More than are ever written.
            pieces = []
            for number in range(count):
                piece = await self.client.command(b"GET", piece_key(key, generation, number))
                if piece is None:
                    return None
                pieces.append(piece)
            packed = b"".join(pieces)
            if crc32(packed) != checksum:
                return None
        else:
            packed = value[1:]
        entry, stamp = unpack_foreign(packed, uri=uri, scope=scope, vary=vary, key=of_request)
        clock = self._clock
        # Another machine's clock may be ahead of ours: nothing is younger than now.
        age = max(0.0, clock.wall() - entry.born)
        return entry._replace(born=clock.monotonic() - age), stamp

    def put(self, entry: Entry, stamp: int, varies: Iterable[Names]) -> None:
        """Store a response. varies: all the fields by which responses for its URI are known to
        vary, those of others among them."""
        if not self.up:
            return
        clock = self._clock
        age = clock.monotonic() - entry.born
        stale = max(STALE_SECONDS, entry.stale_if_error or 0)
        left = min(MAX_SECONDS, max(0.0, entry.lifetime - age) + stale)
        milliseconds = b"%d" % (left * 1000)
        packed = pack(entry._replace(born=clock.wall() - age), stamp)
        if self._unwritten + len(packed) > MAX_UNWRITTEN:
            return
        key = place = key_of(entry.uri, entry.scope)
        if entry.vary:
            names = b"V" + orjson.dumps([list(one) for one in varies])
            self._set(key, names, b"%d" % (MAX_SECONDS * 1000))
            place = variant_key(key, entry.vary, entry.key)
        if len(packed) <= PIECE:
            self._set(place, b"E" + packed, milliseconds)
            return
        generation, count = os.urandom(6).hex(), 0
        for start in range(0, len(packed), PIECE):
            piece = packed[start : start + PIECE]
            self._set(piece_key(key, generation, count), piece, milliseconds)
            count += 1
        head = orjson.dumps([generation, count, crc32(packed)])
        self._set(place, b"P" + head, milliseconds)

    def remove(self, entry: Entry) -> None:
        """Forget a response."""
        if self.up:
            key = key_of(entry.uri, entry.scope)
            place = variant_key(key, entry.vary, entry.key) if entry.vary else key
            self.client.command(b"UNLINK", place)

    def _set(self, key: bytes, value: bytes, milliseconds: bytes) -> None:
        size = len(value)
        self._unwritten += size

        def written(_: Any) -> None:
            self._unwritten -= size

        command = Answered((b"SET", key, value, b"PX", milliseconds), key)
        command.callback = written
        self.client.send(command)

    def close(self) -> None:
        """End its connections."""
        self.feed.close()
        self.client.close()


def connect(store: SharedStore, purges: Purges, clock: Clock, telemetry: Telemetry) -> Remote:
    """Return the remote of a store; it connects when it is first asked."""
    client = RedisClient(store.url, store.deadline, clock, telemetry, PURPOSE)
    return Remote(client, PurgeFeed(client, purges), clock)


def key_of(uri: str, scope: Hashable) -> bytes:
    """Return the name under which responses for a URI are stored."""
    return b"gateway:{cache%d:%b}" % (VERSION, _digest(f"{canonical(scope)} {uri}"))


def variant_key(key: bytes, names: Names, values: Values) -> bytes:
    """Return the name of the response for these values of the fields `names`."""
    return b"%b:%b" % (key, _digest(canonical((names, values))))


def piece_key(key: bytes, generation: str, number: int) -> bytes:
    """Return the name of one piece; it lies where `key` does."""
    return b"%b:%b:%d" % (key, generation.encode(), number)


def canonical(value: Any) -> str:
    """Return a text for a value, the same in every process: sets have no order of their own."""
    if isinstance(value, tuple):
        return f"({','.join(map(canonical, value))})"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(canonical, value)))}}}"
    return repr(value)


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest().encode()


def _names(value: bytes) -> list[Names]:
    return [tuple(map(str, names)) for names in orjson.loads(value[1:])][:8]
