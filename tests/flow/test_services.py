"""Services that are registered while the gateway runs, over the admin API, and routes to them."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.origin import answer, fields_of
from tests.redis import RedisServer
from tests.until import until

ROUTES = """
[[route]]
prefix = "/api/v1/{service}"
strip_prefix = "/api/v1/{service}"
upstream = "{service}"

[[route]]
prefix = "/api/v1/fixed"
respond = { text = "mine" }

[[route]]
path = "/health"
builtin = "health"
"""
CONCIERGE = {"name": "ai-concierge", "health_endpoint": "/health"}


async def call(gateway, method: str, path: str, body=None, token: str = ""):
    headers = {"X-Gateway-Admin": "1", **({"Authorization": f"Bearer {token}"} if token else {})}
    url = f"http://127.0.0.1:{gateway.admin_port}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, json=body, headers=headers) as response,
    ):
        return response.status, await response.json()


async def test_from_registration_to_its_end(start, origin, connect, tmp_path: Path):
    gateway = await start(ROUTES, gateway='[server]\nstate_dir = "state"\n')
    client = await connect(gateway)
    assert (await client.get("/api/v1/ai-concierge/chat")).status == 404
    status, said = await call(gateway, "POST", "/admin/services", CONCIERGE | {"url": origin.url})
    assert (status, said["kept"]) == (201, True)
    reply = await client.get("/api/v1/ai-concierge/chat?x=1")
    assert (reply.status, reply.body) == (200, b"ok")
    assert origin.heads[0].startswith(b"GET /chat?x=1 HTTP/1.1\r\n")
    assert fields_of(origin.heads[0])["x-forwarded-prefix"] == "/api/v1/ai-concierge"
    assert (await client.get("/api/v1/ai-concierge")).status == 200
    assert origin.heads[1].startswith(b"GET / HTTP/1.1\r\n")
    assert (await client.get("/api/v1/fixed/x")).body == b"mine"
    for unknown in ("/api/v1/other", "/api/v1/", "/api/v1", "/api/v1//ai-concierge"):
        assert (await client.get(unknown)).status == 404, unknown
    status, listed = await call(gateway, "GET", "/admin/services")
    assert [(one["name"], one["registered"]) for one in listed["services"]] == [
        ("ai-concierge", True)
    ]
    pool = gateway.runtime.snapshot.pools["ai-concierge"]
    await until(lambda: pool.endpoints[0].health.status.value == "healthy")
    assert (await gateway.reload()).ok
    assert gateway.runtime.snapshot.pools["ai-concierge"] is pool
    assert (await client.get("/api/v1/ai-concierge/x")).status == 200
    assert (await call(gateway, "DELETE", "/admin/services/ai-concierge"))[0] == 200
    assert (await client.get("/api/v1/ai-concierge/x")).status == 404
    assert (await call(gateway, "DELETE", "/admin/services/ai-concierge"))[0] == 422


async def test_a_restart_keeps_them(start, origin, connect):
    state = '[server]\nstate_dir = "state"\n'
    first = await start(ROUTES, gateway=state)
    await call(first, "POST", "/admin/services", CONCIERGE | {"url": origin.url})
    await first.close()
    client = await connect(await start(ROUTES, gateway=state))
    assert (await client.get("/api/v1/ai-concierge/x")).status == 200


async def test_several_addresses_and_their_weights(start, origin_of, connect):
    one, two = await origin_of(answer(b"one")), await origin_of(answer(b"two"))
    gateway = await start(ROUTES, gateway='[services]\nallow = ["127.0.0.0/8"]\n')
    for origin, weight in ((one, 3), (two, 1)):
        body = {"name": "a", "url": origin.url, "weight": weight}
        assert (await call(gateway, "POST", "/admin/services", body))[0] == 201
    client = await connect(gateway)
    weights = {
        f"http://{one.authority}": one.weight
        for one in gateway.runtime.snapshot.pools["a"].endpoints
    }
    assert weights == {one.url: 3, two.url: 1}
    assert (await client.get("/api/v1/a")).body == b"one"
    await call(gateway, "DELETE", f"/admin/services/a?url={one.url}")
    assert {(await client.get("/api/v1/a")).body for _ in range(10)} == {b"two"}
    refused = {"name": "b", "url": "http://10.0.0.1"}
    assert (await call(gateway, "POST", "/admin/services", refused))[0] == 422


async def test_only_a_writer_registers(start, origin):
    admin = (
        '[admin]\nport = 0\ntoken = "writer-token"\n'
        'readers = [{ name = "r", token = "reader-token" }]\n'
    )
    gateway = await start(ROUTES, gateway=admin)
    body = CONCIERGE | {"url": origin.url}
    for token, status in (("", 401), ("guess", 401), ("reader-token", 403), ("writer-token", 201)):
        assert (await call(gateway, "POST", "/admin/services", body, token))[0] == status


async def test_an_ill_service_leaves_the_gateway_degraded(start, connect):
    like = (
        "[upstream.like]\ndiscover = { api = true }\n"
        'health = { interval = "50ms", timeout = "40ms", unhealthy_threshold = 1 }\n'
    )
    gateway = await start(ROUTES, like, '[services]\nlike = "like"\n')
    body = {"name": "ill", "url": "http://127.0.0.1:1", "health_endpoint": "/health"}
    assert (await call(gateway, "POST", "/admin/services", body))[0] == 201
    [endpoint] = gateway.runtime.snapshot.pools["ill"].endpoints
    await until(lambda: endpoint.health.status.value == "unhealthy")
    client = await connect(gateway)
    reply = await client.get("/health")
    assert (reply.status, b'"status":"degraded"' in reply.body) == (200, True)


@pytest.mark.parametrize(
    ("route", "service"), [('services = ["origin"]\n', "origin"), ("", "user-profile")]
)
async def test_configured_pools_and_the_environment(
    start, origin, connect, monkeypatch, route: str, service: str
):
    pipeline = f'[[route]]\nprefix = "/api/{{service}}"\nupstream = "{{service}}"\n{route}'
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    environ = {"USER_PROFILE_SERVICE_URL": origin.url}
    gateway = await start(
        pipeline, upstreams, '[services]\nenv = "*_SERVICE_URL"\n', environ=environ
    )
    client = await connect(gateway)
    assert (await client.get(f"/api/{service}/x")).status == 200
    other = {"origin": "user-profile", "user-profile": "origin"}[service]
    assert (await client.get(f"/api/{other}/x")).status == 404


async def test_gateways_on_one_redis_know_the_same(start, origin, connect, tmp_path: Path):
    redis = RedisServer().start()
    try:
        store = f'[store]\nurl = "{redis.url}"\n'
        first, second = await start(ROUTES, gateway=store), await start(ROUTES, gateway=store)
        body = CONCIERGE | {"url": origin.url}
        assert (await call(first, "POST", "/admin/services", body))[1]["kept"] is True
        await until(lambda: "ai-concierge" in second.runtime.snapshot.pools)
        client = await connect(second)
        assert (await client.get("/api/v1/ai-concierge/x")).status == 200
        third = await start(ROUTES, gateway=store)
        await until(lambda: "ai-concierge" in third.runtime.snapshot.pools)
        assert (await call(second, "DELETE", "/admin/services/ai-concierge"))[0] == 200
        await until(lambda: "ai-concierge" not in first.runtime.snapshot.pools)
        await until(lambda: "ai-concierge" not in third.runtime.snapshot.pools)
    finally:
        redis.kill()


async def test_the_summary(start, origin, connect):
    gateway = await start(ROUTES)
    await call(gateway, "POST", "/admin/services", {"name": "a", "url": origin.url})
    client = await connect(gateway)
    await client.get("/api/v1/a")
    status, found = await call(gateway, "GET", "/admin/metrics/summary")
    assert (status, found["services"]["a"]["requests"]) == (200, 1)
