"""Users in Redis: how they lie there, for the gateway and for the command line.

    gateway:{tokens}:users    a hash: by name a JSON object with what a `[[user]]` of the file has

Nothing of it is remembered: what is changed counts from the next look on, in every gateway.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from gateway.config.toml.parse import loads_json
from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_file
from gateway.credentials.users.user_file import User
from gateway.store.redis.client import RedisClient
from gateway.store.stores import StoreDown

USERS = b"gateway:{tokens}:users"

SWAP = b"""
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
"""
"""Puts one text in the place of another, "" for none, if that is what is there."""


def packed(user: User) -> bytes:
    """A user as it lies in Redis."""
    table: dict[str, Any] = {
        "name": user.name,
        "hash": user.hash,
        "client": user.client,
        "tier": user.tier,
    }
    table |= {
        "roles": sorted(user.roles),
        "permissions": sorted(user.permissions),
        "totp": user.totp,
    }
    if user.changed:
        table["changed"] = datetime.fromtimestamp(user.changed, UTC).isoformat()
    plain = {name: value for name, value in table.items() if value}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def unpacked(text: bytes, where: str) -> User:
    """The user that lies in Redis. Raises CredentialError."""
    try:
        table = loads_json(text)
        if isinstance(table.get("changed"), str):
            table["changed"] = datetime.fromisoformat(table["changed"])
        for name in ("name", "hash"):
            table[name]
    except (ValueError, AttributeError, KeyError, TypeError):
        raise CredentialError(f"{where} is no JSON object with a user") from None
    return user_file.of_table(table, where)


class RedisUsers:
    """See user_store.Users. For a user that is no valid JSON, `get` raises StoreDown."""

    def __init__(self, store: RedisClient) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"<RedisUsers {self._store.name}>"

    async def get(self, name: str) -> User | None:
        text = await self._store.command(b"HGET", USERS, name.encode())
        if text is None:
            return None
        try:
            return unpacked(text, "a user in the store")
        except CredentialError as error:
            raise StoreDown(str(error)) from None

    async def change(self, old: User, new: User) -> bool:
        words = (old.name.encode(), packed(old), packed(new))
        return bool(await self._store.command(b"EVAL", SWAP, b"1", USERS, *words, key=USERS))
