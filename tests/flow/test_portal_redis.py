"""The portal of gateways with one Redis: sessions and keys are those of all."""

from __future__ import annotations

from time import time

from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.api_keys.redis_keys import RedisKeys
from gateway.store.stores import parse
from tests.flow.conftest import Start
from tests.flow.test_portal import Partner
from tests.redis import RedisServer, redis, shared_redis
from tests.until import until

__all__ = ["redis", "shared_redis"]

PIPELINE = """
request = ["auth"]
auth = { methods = ["api_key"], api_key = { store = "redis", deadline = "2s" } }
[[route]]
prefix = "/portal"
builtin = "portal"
"""


async def test_a_session_and_its_keys_at_two_gateways(start: Start, redis: RedisServer):
    url = f"{redis.url}/7"
    key, secret = RedisKeys(parse(url)).create(Wish("acme", label="production"), time())
    gateway = f'[store]\nurl = "{url}"\ndeadline = "2s"\n'
    first, second = [await start(PIPELINE, "", gateway) for _ in range(2)]
    async with Partner(first) as partner:
        token = await partner.log_in(secret)
        status, said = await partner.ask("GET", "account")
        assert status == 200
        assert [(one["id"], one["label"], one["own"]) for one in said["keys"]] == [
            (key.id, "production", True)
        ]
        status, made = await partner.ask(
            "POST", f"keys/{key.id}/rotate", {"overlap": 60}, X_Portal_Token=token
        )
        assert status == 200
        partner.base = partner.base.replace(str(first.port), str(second.port))
        partner.own = {"Origin": partner.own["Origin"].replace(str(first.port), str(second.port))}
        status, said = await partner.ask("GET", "account")
        assert {one["id"] for one in said["keys"]} == {key.id, made["id"]}
        status, _ = await partner.ask("POST", f"keys/{key.id}/revoke", {}, X_Portal_Token=token)
        assert status == 200

        async def ended() -> bool:
            return (await partner.ask("GET", "account"))[0] == 401

        await until(ended)
        await partner.log_in(made["secret"])
