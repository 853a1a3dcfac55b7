"""Users in Redis: how they lie there, for the gateway and for the command line.

    gateway:{tokens}:users    a hash: by name a JSON object with what a `[[user]]` of the file has

Nothing of it is remembered: what is changed counts from the next look on, in every gateway.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gateway.state import shared_sessions, userfile
from gateway.state.redis_client import ClientError, connected
from gateway.state.redis_reader import RedisReader
from gateway.state.stores import StoreDown, StoreUrl
from gateway.state.userfile import User, UserFileError

USERS = b"gateway:{tokens}:users"

SWAP = b"""
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
"""
"""Puts one text in the place of another, "" for none, if that is what is there."""


def packed(user: User) -> bytes:
    """A user as it lies in Redis."""
    table: dict[str, Any] = {"name": user.name, "hash": user.hash, "client": user.client, "tier": user.tier}
    table |= {"roles": sorted(user.roles), "permissions": sorted(user.permissions), "totp": user.totp}
    if user.changed:
        table["changed"] = datetime.fromtimestamp(user.changed, UTC).isoformat()
    plain = {name: value for name, value in table.items() if value}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def unpacked(text: bytes, where: str) -> User:
    """The user that lies in Redis. Raises UserFileError."""
    try:
        table = json.loads(text)
        if isinstance(table.get("changed"), str):
            table["changed"] = datetime.fromisoformat(table["changed"])
        for name in ("name", "hash"):
            table[name]
    except (ValueError, AttributeError, KeyError, TypeError):
        raise UserFileError(f"{where} is no JSON object with a user") from None
    return userfile.read(table, where)


class RedisUsers:
    """See userstore.Users. A user that makes no sense is none, and said to be so in the log by whoever looks (StoreDown)."""

    def __init__(self, store: RedisReader) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"<RedisUsers {self._store.name}>"

    async def get(self, name: str) -> User | None:
        text = await self._store.command(b"HGET", USERS, name.encode())
        if text is None:
            return None
        try:
            return unpacked(text, "a user in the store")
        except UserFileError as error:
            raise StoreDown(str(error)) from None

    async def change(self, old: User, new: User) -> bool:
        words = (old.name.encode(), packed(old), packed(new))
        return bool(await self._store.command(b"EVAL", SWAP, b"1", USERS, *words, key=USERS))


class StoredUsers:
    """The users of one store, for the command line. Everything raises UserFileError."""

    soon = "Gateways that are running with this store take it at once."

    def __init__(self, url: StoreUrl) -> None:
        self._url = url

    def __str__(self) -> str:
        return str(self._url)

    def load(self) -> dict[str, User]:
        """Every user by name."""
        with _failing(self._url) as client:
            found = [unpacked(text, f"{self}: a user") for _, text in client.hscan_iter(USERS, count=1000)]
        return {user.name: user for user in sorted(found, key=lambda user: user.name)}

    def add(self, user: User) -> None:
        checked = unpacked(packed(user), "the user")
        with _failing(self._url) as client:
            if not client.eval(SWAP, 1, USERS, checked.name, b"", packed(checked)):
                raise UserFileError(f"{self} has a user {user.name} already")

    def change(self, old: User, new: User) -> bool:
        with _failing(self._url) as client:
            if not client.eval(SWAP, 1, USERS, old.name, packed(old), packed(replace(new, name=old.name))):
                return False
            if new.changed > old.changed:
                self._end(client, new.name, new.changed)
        return True

    def remove(self, name: str) -> None:
        with _failing(self._url) as client:
            if not client.hdel(USERS, name):
                raise UserFileError(f"{self} has no user {name}")
            self._end(client, name, math.inf)  # whatever their time

    def _end(self, client: Any, name: str, moment: float) -> None:
        channel = self._url.channel(shared_sessions.NAME.decode())
        shared_sessions.end_before(client, channel, name, moment, time.time())


@contextmanager
def _failing(url: StoreUrl) -> Iterator[Any]:
    """A client; what goes wrong with it is a UserFileError."""
    try:
        with connected(url) as client:
            yield client
    except ClientError as error:
        raise UserFileError(str(error)) from None
