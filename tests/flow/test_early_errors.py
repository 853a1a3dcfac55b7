"""Errors before a route is known: they look like those of the pipeline in whose region they were asked for."""

from __future__ import annotations

import pytest

from tests.flow.test_proxy import upstreams
from tests.websocket import handshake

LISTS = 'request = ["cors"]\nresponse = ["cors", "security_headers"]\nerror = ["cors", "security_headers"]\n'
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
async def test_the_only_pipelines_errors_carry_its_cors_and_security_headers(start, origin, connect, method, target, status):
    gateway = await start(LISTS + CORS + ROUTES, upstreams(origin))
    client = await connect(gateway)
    reply = await client.get(target, FROM_APP, method=method)
    assert reply.status == status
    assert reply.fields["x-content-type-options"] == "nosniff"
    if status != 414:  # It is refused before its fields are read.
        assert reply.fields["access-control-allow-origin"] == "https://app.example.com"
    assert origin.heads == []


async def test_a_handshake_of_another_origin_is_refused(start, origin, connect):
    gateway = await start(LISTS + CORS + '[[route]]\nprefix = "/"\nupstream = "origin"\n', upstreams(origin))
    client = await connect(gateway)
    await client.send(handshake("/", "Origin: https://evil.example"))
    assert (await client.read()).status == 403
    assert origin.heads == []
