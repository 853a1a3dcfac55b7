"""Registrations of services in Redis, for all gateways that use it.

gateway:{services}           a hash: the registration as JSON by "NAME URL"
gateway:{services}:version   how many changes there were
gateway:{services}:changes   the channel (for database 1 `...changes:1`): the version, a space,
                             "NAME URL", a line feed, and the JSON or nothing
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

import orjson

from gateway.config.tables.targets import ServiceConfig
from gateway.store.redis.client import RedisClient
from gateway.store.redis.connection import Script
from gateway.store.redis.feed import Feed
from gateway.store.stores import StoreDown
from gateway.upstream.discovery.kept import Changed, Unkept, parsed
from gateway.upstream.discovery.registered import Registrations, Unregistered, added, removed

log = logging.getLogger("gateway.upstream")

NAME = b"gateway:{services}"

_CHANGE = Script(
    b"""
if ARGV[2] == "" then redis.call("HDEL", KEYS[1], ARGV[1])
else redis.call("HSET", KEYS[1], ARGV[1], ARGV[2]) end
local version = redis.call("INCR", KEYS[2])
redis.call("PUBLISH", ARGV[3], version .. " " .. ARGV[1] .. "\\n" .. ARGV[2])
return version"""
)


class InStore:
    """Keeps them in Redis, for all gateways that use it. They come with its feed."""

    lasting = True
    known: Registrations = ()

    def __init__(self, client: RedisClient, changed: Changed) -> None:
        self._client = client
        self._changed = changed
        self._feed = Feed(client, NAME, _Follower(self))

    async def load(self) -> Registrations:
        """All of them; while the store is away those last known."""
        try:
            self.known = await self.read()
        except StoreDown as down:
            log.warning("registered services are not known yet: %s", down)
        return self.known

    async def put(self, one: ServiceConfig) -> Registrations:
        found = added(self.known, one)
        await self._change([one], orjson.dumps(asdict(one)))
        self.known = found
        return found

    async def drop(self, name: str, url: str = "") -> Registrations:
        left = removed(self.known, name, url)
        await self._change([one for one in self.known if one not in left], b"")
        self.known = left
        return left

    def close(self) -> None:
        self._feed.close()

    def learn(self, registrations: Registrations) -> None:
        """Take what the store now says."""
        if registrations != self.known:
            self.known = registrations
            self._changed(registrations)

    async def _change(self, which: list[ServiceConfig], data: bytes) -> None:
        channel = self._client.url.channel(NAME.decode()).encode()
        try:
            for one in which:
                field = f"{one.name} {one.url}".encode()
                await self._client.run(_CHANGE, [NAME, NAME + b":version"], [field, data, channel])
        except StoreDown as down:
            raise Unkept(f"the store has not taken it: {down}") from None

    async def read(self) -> Registrations:
        """Return all that the store has. Raises StoreDown."""
        found: list[tuple[bytes, bytes]] = []
        async for page in self._client.scan(NAME):
            found += zip(page[::2], page[1::2], strict=True)
        registrations: Registrations = ()
        for field, data in sorted(dict(found).items()):
            try:
                registrations = (*registrations, *parsed(b"[" + data + b"]", Path("Redis")))
            except Unregistered as error:
                log.error("the registration %r is left out: %s", field, error)
        return registrations


class _Follower:
    """What other gateways change."""

    def __init__(self, owner: InStore) -> None:
        self._owner = owner

    async def load(self) -> None:
        """Read all. Raises StoreDown."""
        self._owner.learn(await self._owner.read())

    def take(self, change: bytes) -> None:
        """Take one change, as _CHANGE publishes it."""
        field, _, data = change.partition(b"\n")
        name, _, url = field.decode().partition(" ")
        known = removed(self._owner.known, name, url)
        for one in parsed(b"[" + data + b"]", Path("Redis")):
            known = added(known, one)
        self._owner.learn(known)

    def unconfirmed(self) -> None:
        """What is known goes on."""
