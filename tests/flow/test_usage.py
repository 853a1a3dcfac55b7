"""Usage as clients are told: exact, over restarts, over several gateways, and after a kill."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin, answer, fields_of
from tests.process import Process
from tests.redis import RedisServer, shared_redis
from tests.until import until

__all__ = ["shared_redis"]

PIPELINE = """
request = ["forward_auth", "rate_limit"]
response = ["rate_limit"]

[forward_auth]
url = "{authz}"
send = ["Authorization"]
keep = ["X-User"]

[rate_limit]
key = "client"
algorithm = "quota"
period = "month"
limit = 100000

[[route]]
name = "things"
prefix = "/things"
upstream = "origin"

[[route]]
path = "/usage"
builtin = "usage"
"""


async def by_name(authz: Origin, head: bytes, reader, writer) -> bool:
    """Says that a caller is who it says it is."""
    writer.write(answer(b"", X_User=fields_of(head)["authorization"]))
    return True


@pytest.fixture
async def pipeline(origin_of) -> str:
    authz = await origin_of(by_name)
    return PIPELINE.format(authz=authz.url)


async def told(client: Client, name: str) -> dict:
    reply = await client.get("/usage", f"Authorization: {name}")
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


async def things(client: Client, name: str) -> int:
    """The requests for things that the gateway has counted."""
    endpoints = (await told(client, name))["endpoints"]
    return sum(one["requests"] for one in endpoints if one["route"] == "things")


async def test_what_a_client_did_and_nobody_elses(start, origin, connect, pipeline):
    client = await connect(await start(pipeline, f'[upstream.origin]\nurl = "{origin.url}"\n'))
    for _ in range(3):
        await client.get("/things", "Authorization: acme")
    origin.respond = answer(b"no", "503 Service Unavailable")
    await client.get("/things", "Authorization: acme")
    await client.get("/things", "Authorization: other")
    found = await told(client, "acme")
    assert (found["clientId"], found["totalRequests"], found["failedRequests"]) == ("acme", 4, 1)
    [endpoint] = found["endpoints"]
    assert (endpoint["path"], endpoint["requests"], endpoint["errors"]) == ("/things", 4, 1)
    assert (found["bytesOut"], found["byStatus"]["5xx"]) == (8, 1)
    assert found["quotas"]["monthly"]["used"] == 5
    assert [sum(one["requests"] for one in found[key]) for key in ("hours", "days")] == [4, 4]
    assert (await told(client, "acme"))["totalRequests"] == 5


async def test_a_restart_and_a_reload_lose_nothing(start, origin, connect, pipeline):
    upstreams, state = (
        f'[upstream.origin]\nurl = "{origin.url}"\n',
        '[server]\nstate_dir = "state"\n',
    )
    first = await start(pipeline, upstreams, state)
    client = await connect(first)
    for _ in range(3):
        await client.get("/things", "Authorization: acme")
        assert (await first.reload()).ok
    await first.close()
    client = await connect(await start(pipeline, upstreams, state))
    assert await things(client, "acme") == 3


async def test_two_gateways_on_one_redis_and_one_is_killed(
    tmp_path: Path, origin, pipeline, shared_redis: RedisServer
):
    store = f'[store]\nurl = "{shared_redis.url}"\n'
    configs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, pipeline, f'[upstream.origin]\nurl = "{origin.url}"\n', store)
        configs.append(tmp_path / name / "gateway.toml")
    names = [f"client-{number}" for number in range(5)]
    async with Process(configs[0]) as one, Process(configs[1]) as two:
        clients = [await Client.connect(gateway.port) for gateway in (one, two)]
        for number in range(200):
            await clients[number % 2].get("/things", f"Authorization: {names[number % 5]}")
        for name in names:
            await until(lambda name=name: _is(clients[1], name, 40))
        for _ in range(20):
            await clients[0].get("/things", f"Authorization: {names[0]}")
        os.kill(one.pid, signal.SIGKILL)
        await one.ended()
        for number in range(50):
            await clients[1].get("/things", f"Authorization: {names[number % 5]}")
        assert [await things(clients[1], name) for name in names[1:]] == [50] * 4
        # What the killed one had not written down may be lost, nothing else, and nothing twice.
        assert 50 <= await things(clients[1], names[0]) <= 70
        for client in clients:
            client.close()


async def _is(client: Client, name: str, count: int) -> bool:
    return await things(client, name) == count


async def test_while_redis_is_away_counts_wait(start, origin, connect, pipeline):
    redis = RedisServer().start()
    try:
        store = f'[store]\nurl = "{redis.url}"\n'
        client = await connect(
            await start(pipeline, f'[upstream.origin]\nurl = "{origin.url}"\n', store)
        )
        await client.get("/things", "Authorization: acme")
        await until(lambda: _is(client, "acme", 1))
        redis.kill()
        for _ in range(3):
            await client.get("/things", "Authorization: acme")
        reply = await client.get("/usage", "Authorization: acme")
        assert (reply.status, reply.fields["retry-after"]) == (503, "1")
        redis.start()

        async def back() -> bool:
            reply = await client.get("/usage", "Authorization: acme")
            return reply.status == 200

        await until(back)
        assert await things(client, "acme") == 3  # Redis came back without what it had.
    finally:
        redis.kill()
