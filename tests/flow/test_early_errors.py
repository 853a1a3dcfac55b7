"""Errors before a route is known: they look like those of the pipeline in whose region they were
asked for."""

from __future__ import annotations

import pytest

from tests.flow.test_proxy import upstreams
from tests.websocket import handshake

LISTS = (
    'request = ["cors"]\nresponse = ["cors", "security_headers"]\nerror = ["cors", '
    '"security_headers"]\n'
)
CORS = '[cors]\norigins = ["https://app.example.com"]\n'
ROUTES = '[[route]]\nprefix = "/api"\nupstream = "origin"\nmethods = ["GET"]\n'
FROM_APP = "Origin: https://app.example.com"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/missing", 404),
        ("DELETE", "/api/x", 405),
        ("GET", "/api/../x", 400),
        ("get", "/api/x", 400),
        ("GET", "/api%2F" + "x" * 9000, 414),
    ],
)
async def test_the_only_pipelines_errors_carry_its_cors_and_security_headers(
    start, origin, connect, method, target, status
):
    gateway = await start(LISTS + CORS + ROUTES, upstreams(origin))
    client = await connect(gateway)
    reply = await client.get(target, FROM_APP, method=method)
    assert reply.status == status
    assert reply.fields["x-content-type-options"] == "nosniff"
    if status != 414:  # It is refused before its fields are read.
        assert reply.fields["access-control-allow-origin"] == "https://app.example.com"
    assert origin.heads == []


async def test_a_handshake_of_another_origin_is_refused(start, origin, connect):
    gateway = await start(
        LISTS + CORS + '[[route]]\nprefix = "/"\nupstream = "origin"\n', upstreams(origin)
    )
    client = await connect(gateway)
    await client.send(handshake("/", "Origin: https://evil.example"))
    assert (await client.read()).status == 403
    assert origin.heads == []


@pytest.mark.parametrize(
    ("query", "byte"), [("münchen".encode(), "0xC3"), (b"m\xfcnchen", "0xFC"), (b"'\xff\"", "0xFF")]
)
async def test_a_raw_byte_in_the_target_is_named(start, origin, connect, query, byte):
    gateway = await start(ROUTES, upstreams(origin))
    client = await connect(gateway)
    await client.send(b"GET /api?q=%b HTTP/1.1\r\nHost: gateway.test\r\n\r\n" % query)
    reply = await client.read()
    assert reply.status == 400
    assert f"the byte {byte}".encode() in reply.body


async def test_a_prefix_that_was_taken_off_comes_back(start, origin, connect):
    origin.respond = b"HTTP/1.1 302 Found\r\nLocation: /login?x\r\nContent-Length: 0\r\n\r\n"
    route = '[[route]]\nprefix = "/api"\nstrip_prefix = "/api"\nupstream = "origin"\n'
    client = await connect(await start(route, upstreams(origin)))
    for _ in range(3):
        reply = await client.get("/api/home", "X-Forwarded-Prefix: /evil")
        assert (reply.status, reply.fields["location"]) == (302, "/api/login?x")
    for head in origin.heads:
        assert head.startswith(b"GET /home HTTP/1.1\r\n")
        assert (
            head.count(b"X-Forwarded-Prefix: ") == head.count(b"X-Forwarded-Prefix: /api\r\n") == 1
        )


async def test_a_redirect_to_the_slash(start, origin, connect):
    route = '[[route]]\nprefix = "/slash/"\ntrailing_slash = "redirect"\nupstream = "origin"\n'
    client = await connect(await start(route, upstreams(origin)))
    reply = await client.get("/slash?a=1")
    assert (reply.status, reply.fields["location"]) == (308, "/slash/?a=1")
    assert (await client.get("/slash/x")).status == 200
    assert (await client.get("/slashes")).status == 404


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_via_says_the_version_that_was_received(start, origin, connect, version):
    origin.respond = (
        f"HTTP/{version} 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok".encode()
    )
    client = await connect(await start(ROUTES, upstreams(origin)))
    for _ in range(4):
        assert (await client.get("/api")).fields["via"] == f"{version} gateway"
    await client.send(b"GET /api HTTP/1.0\r\nHost: a\r\n\r\n")
    await client.read()
    assert b"\r\nVia: 1.0 gateway\r\n" in origin.heads[-1]
