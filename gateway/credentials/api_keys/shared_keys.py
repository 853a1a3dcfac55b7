"""What a gateway knows of the API keys in Redis: the first bytes of their hashes.

A key is looked up when it is presented, so the store may hold any number. Of each, eight bytes are
known here, by which guesses are refused at no cost to the store. Listeners remember what was found
out about a key, and are called when it changes (feed.py).
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Mapping
from math import inf
from typing import Any, Protocol

from gateway.config.toml.parse import loads_json
from gateway.core.wait import Wait
from gateway.credentials.api_keys import redis_keys
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.files import CredentialError
from gateway.lifetime.coalesce import Coalesce, Full
from gateway.lifetime.supervised import Supervised
from gateway.store.redis.client import RedisClient
from gateway.store.redis.feed import Feed
from gateway.store.stores import StoreDown

log = logging.getLogger("gateway.auth")

MOST_ASKING = 1000
"""Keys looked up at a time; more are answered 503."""
EVERY = 60.0
"""Seconds until a use is written down, at most."""
_KEYS, _IDS, _USED = redis_keys.KEYS.encode(), redis_keys.IDS.encode(), redis_keys.USED.encode()


Found = tuple[Key | None, int]
"""A key, and the number of changes after which that was so (SharedKeys.changes)."""


class Listener(Protocol):
    """What remembers keys."""

    def changed(self, event: str, by: str, ids: Mapping[str, str]) -> None:
        """Keys (clients by ID) were "created", "rotated" (the first replaces the second) or
        "revoked" by the operator `by`."""

    def doubt(self) -> None:
        """Any key may have changed."""

    def unconfirmed(self) -> None:
        """The store has not been heard of for some time."""


class HashPrefixes:
    """The first eight bytes of many hashes, in arrays of a few hundred: 8 MB for a million."""

    def __init__(self) -> None:
        self._some: dict[int, array[int]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, start: int) -> bool:
        return start in self._some.get(start >> 52, ())

    def add(self, start: int) -> None:
        if start not in self:
            self._some.setdefault(start >> 52, array("Q")).append(start)
            self._count += 1


class SharedKeys:
    """The keys of one store. Shared by everything in the process that uses it."""

    def __init__(self, store: RedisClient) -> None:
        self.store = store
        self.listeners: set[Listener] = set()
        self.changes = 0
        """Counts up whenever what was found may no longer be so."""
        self._known: HashPrefixes | None = None
        self._asking: Coalesce[Found] = Coalesce(MOST_ASKING)
        self._again: set[bytes] = set()
        self._used: dict[str, int] = {}
        self._writing = Supervised("key_use", self._write, every=EVERY, of=store.name)
        self._feed = Feed(store, redis_keys.NAME.encode(), self)

    def __repr__(self) -> str:
        count = "?" if self._known is None else len(self._known)
        return f"<SharedKeys of {self.store.name}, {count} keys>"

    def close(self) -> None:
        self._feed.close()
        self._writing.close()
        self._write()
        self._asking.close()

    def none_such(self, digest: bytes) -> bool:
        """Return True if there is certainly no key with this SHA-256."""
        known = self._known
        if known is None or not self.store.up or not self._feed.confirmed:
            return False
        return int.from_bytes(digest[:8]) not in known

    def find(self, digest: bytes) -> Wait[Found]:
        """Look a key up by its SHA-256, once for all who wait. Fails with StoreDown."""
        try:
            return self._asking.join(digest, lambda: self._find(digest))
        except Full:
            raise StoreDown(f"{MOST_ASKING} keys are asked for already") from None

    def note(self, id: str, now: float) -> None:
        """A key was used at the Unix time `now`; written to the store within EVERY seconds."""
        self._used[id] = int(now)
        self._writing.start(EVERY)

    async def _find(self, digest: bytes) -> Found:
        while True:
            self._again.discard(digest)
            text = await self.store.command(b"HGET", _KEYS, digest.hex().encode())
            if digest not in self._again:  # else it was changed while the answer was on its way
                break
        changes = self.changes
        if text is None:
            return None, changes
        try:
            key = redis_keys.key_of(text, f"{self.store.name}: {redis_keys.KEYS}")
        except CredentialError as error:
            log.error("a key cannot be used: %s", error)
            return None, changes
        return (key if key.digest == digest else None), changes

    def _write(self) -> float:
        used, self._used = self._used, {}
        words = [word for id, when in used.items() for word in (id.encode(), b"%d" % when)]
        if words and self.store.up and not self.store.closed:
            self.store.command(b"HSET", _USED, *words)
        return inf

    # Following (redis_feed.Follower).

    async def load(self) -> None:
        known = HashPrefixes()
        async for found in self.store.scan(_IDS):
            for hash in found[1::2]:
                known.add(int(hash[:16], 16))
        self._known = known
        self._again.update(self._asking)
        self.changes += 1
        for listener in tuple(self.listeners):
            listener.doubt()

    def take(self, change: bytes) -> None:
        said: dict[str, Any] = loads_json(change)
        hashes = [bytes.fromhex(one["hash"]) for one in said["keys"]]
        ids = {str(one["id"]): str(one["client"]) for one in said["keys"]}
        self.changes += 1
        for hash in hashes:
            if hash in self._asking:
                self._again.add(hash)
            if self._known is not None:
                self._known.add(int.from_bytes(hash[:8]))
        for listener in tuple(self.listeners):
            listener.changed(str(said.get("event")), str(said.get("by", "")), ids)

    def unconfirmed(self) -> None:
        for listener in tuple(self.listeners):
            listener.unconfirmed()
