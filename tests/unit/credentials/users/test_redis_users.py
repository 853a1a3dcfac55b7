"""Users kept in Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_edits
from gateway.credentials.users.redis_users import RedisUsers, packed, unpacked
from gateway.credentials.users.user_file import User
from gateway.issuer.stored_users import StoredUsers
from gateway.store import stores
from gateway.store.stores import StoreDown
from tests.redis import RedisServer
from tests.unit.issuer.shared import T
from tests.unit.issuer.test_shared_sessions import HASH


async def test_users(store: Any, shared_redis: RedisServer):
    url = stores.parse(f"{shared_redis.url}/9")
    stored, live = StoredUsers(url), RedisUsers(store())
    stored.add(User("alice", HASH, roles=frozenset(("b", "a")), totp="A" * 32))
    alice = await live.get("alice")
    assert alice == User("alice", HASH, "alice", roles=frozenset(("b", "a")), totp="A" * 32)
    changed = user_edits.at(replace(alice, hash=HASH[:-1] + "E"), T + 0.123456)
    assert await live.change(alice, changed) and not await live.change(alice, changed)
    assert (
        await live.get("alice")
        == changed
        == stored.load()["alice"]
        == unpacked(packed(changed), "")
    )
    assert stored.change(changed, alice) and not stored.change(changed, alice)
    with pytest.raises(CredentialError, match="has a user alice already"):
        stored.add(alice)
    stored.remove("alice")
    assert await live.get("alice") is None
    with pytest.raises(CredentialError, match="has no user alice"):
        stored.remove("alice")
    assert HASH not in repr(live)


@pytest.mark.parametrize(
    "text", ["x", "[]", "{}", '{"name": "alice"}', '{"name": "alice", "hash": "x"}', '"x"']
)
async def test_users_that_make_no_sense(store: Any, text: str):
    way = store()
    await way.command(b"HSET", b"gateway:{tokens}:users", b"alice", text.encode())
    with pytest.raises(StoreDown, match="a user in the store"):
        await RedisUsers(way).get("alice")
