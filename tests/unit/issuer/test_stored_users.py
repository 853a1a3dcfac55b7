"""Users as the command line edits them: a change ends the sessions it must end."""

from __future__ import annotations

from functools import partial
from typing import Any

from gateway.credentials.users import user_edits
from gateway.credentials.users.user_file import User
from gateway.issuer.shared_sessions import SharedSessions
from gateway.issuer.stored_users import StoredUsers
from gateway.store import stores
from tests.redis import RedisServer
from tests.unit.issuer.shared import T
from tests.unit.issuer.test_shared_sessions import HASH, LIMITS, read
from tests.until import until


async def test_the_command_line_ends_sessions(store: Any, shared_redis: RedisServer):
    stored, shared = (
        StoredUsers(stores.parse(f"{shared_redis.url}/9")),
        await read(SharedSessions(store())),
    )
    stored.add(User("alice", HASH, "alice"))
    for how in ("change", "remove"):
        session, _ = await shared.begin("alice", ("pwd",), T, LIMITS)
        alice = stored.load()["alice"]
        if how == "change":
            stored.change(alice, user_edits.at(alice, T + 5))
        else:
            stored.remove("alice")
        await until(partial(shared.why, {"sid": session.id}))
        assert await shared.find(session.id) is None
    shared.close()
