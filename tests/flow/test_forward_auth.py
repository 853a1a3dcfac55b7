"""A gateway that asks a service whether requests may pass, on real sockets."""

from __future__ import annotations

import pytest

from tests.origin import answer, fields_of

PIPELINE = """
request = ["forward_auth"]

[forward_auth]
url = "{url}/check"
keep = ["X-User"]
{more}

[[route]]
prefix = "/"
upstream = "origin"

[[route]]
path = "/open"
upstream = "origin"
forward_auth = false
"""


async def gateway_with(start, origin, url: str, more: str = ""):
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    return await start(PIPELINE.format(url=url, more=more), upstreams)


async def by_token(authz, head, reader, writer):
    fields = fields_of(head)
    if fields.get("authorization") == "Bearer good":
        writer.write(answer(b"welcome", X_User="alice"))
    else:
        writer.write(answer(b"who?", "401 Unauthorized", WWW_Authenticate="Bearer"))
    return True


@pytest.mark.modes
async def test_passes_and_refusals(start, origin, origin_of, connect):
    authz = await origin_of(by_token)
    client = await connect(await gateway_with(start, origin, authz.url))
    passed = await client.get("/a?b=1", "Authorization: Bearer good", "X-User: root", "Cookie: c=1")
    assert (passed.status, passed.body) == (200, b"ok")
    assert fields_of(origin.heads[0])["x-user"] == "alice"
    refused = await client.get("/a", "Authorization: Bearer bad", "X-User: root")
    assert (refused.status, refused.body) == (401, b"who?")
    assert refused.fields["www-authenticate"] == "Bearer"
    assert len(origin.heads) == 1
    asked = fields_of(authz.heads[0])
    assert authz.heads[0].startswith(b"GET /check HTTP/1.1\r\n")
    assert asked["host"] == f"127.0.0.1:{authz.port}"
    assert asked["x-forwarded-method"] == "GET" and asked["x-forwarded-uri"] == "/a?b=1"
    assert (asked["x-forwarded-for"], asked["x-forwarded-host"]) == ("127.0.0.1", "gateway.test")
    assert asked["cookie"] == "c=1" and "x-user" not in asked
    assert authz.connections == 1


async def test_a_route_that_leaves_it_out(start, origin, origin_of, connect):
    authz = await origin_of(by_token)
    client = await connect(await gateway_with(start, origin, authz.url))
    assert (await client.get("/open", "X-User: root")).status == 200
    assert "x-user" not in fields_of(origin.heads[0])
    assert authz.heads == []


async def test_a_service_that_does_not_answer(start, origin, origin_of, connect):
    async def silent(authz, head, reader, writer):
        await reader.read()
        return False

    authz = await origin_of(silent)
    gateway = await gateway_with(start, origin, authz.url, 'timeout = "100ms"')
    client = await connect(gateway)
    closed = await client.get("/")
    assert (closed.status, closed.fields["retry-after"]) == (503, "1")
    assert b"check" not in closed.body.replace(b"cannot be checked", b"")
    assert origin.heads == []
    again = 'timeout = "100ms"\non_failure = "open"'
    client = await connect(await gateway_with(start, origin, authz.url, again))
    assert (await client.get("/")).status == 200


async def test_a_service_that_is_down_is_left_alone_by_its_breaker(start, origin, connect):
    gateway = await gateway_with(start, origin, "http://127.0.0.1:1")
    client = await connect(gateway)
    for _ in range(7):
        assert (await client.get("/")).status == 503
    counts = gateway.runtime.services.telemetry.upstream_requests.values
    assert sum(n for labels, n in counts.items() if labels[0] == "test/forward_auth") == 5


async def test_it_survives_a_reload(start, origin, origin_of, connect, tmp_path):
    authz = await origin_of(by_token)
    gateway = await gateway_with(start, origin, authz.url)
    client = await connect(gateway)
    assert (await client.get("/", "Authorization: Bearer good")).status == 200
    assert (await gateway.runtime.reload()).ok
    assert (await client.get("/", "Authorization: Bearer good")).status == 200
    assert authz.connections == 1
