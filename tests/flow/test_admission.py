"""What is refused before any route is looked for, and what bounds a stranger's connection."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams

BIG = "x" * 20_000


@pytest.mark.parametrize(
    ("request_bytes", "status", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "no Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "two Hosts"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "not a host"),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "not a host"),
        (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", 400, "fragment"),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "asterisk-form is for OPTIONS"),
        (b"nonsense\r\n\r\n", 400, "no request at all"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400, "space before the colon"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, "obs-fold"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400, "signed length"),
        (
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: "
                b"chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
            "two framings",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: the-moon\r\nContent-Length: 1\r\n\r\n",
            417,
            "unknown expectation",
        ),
        (f"GET /{BIG} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 414, "long target"),
        (f"GET / HTTP/1.1\r\nHost: a\r\nX: {BIG}\r\n\r\n".encode(), 431, "long field"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "many fields"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n", 413, "announced too much"),
    ],
)
async def test_what_is_ambiguous_or_too_much_never_reaches_an_upstream(
    start, origin, connect, request_bytes, status, why
):
    gateway = await start(PLAIN, upstreams(origin), '[server]\nmax_body = "1kB"\n')
    client = await connect(gateway)
    await client.send(request_bytes)
    reply = await client.read()
    assert reply.status == status, why
    assert reply.fields["content-type"] == "application/problem+json"
    assert reply.fields["x-error-code"].startswith("VAL_")
    assert reply.fields["x-request-id"]
    assert origin.heads == []
    assert b"Traceback" not in reply.body and b"aiohttp" not in reply.body


async def test_a_head_that_grows_without_end_is_cut(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
    for _ in range(40):
        await client.send(b"X: " + b"y" * 1000 + b"\r\n")
    assert (await client.read()).status == 431


async def test_a_slow_head_is_cut_and_an_idle_connection_is_not(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), '[server]\nheader_timeout = "400ms"\n')
    slow, idle, mute = await connect(gateway), await connect(gateway), await connect(gateway)
    assert (await idle.get("/")).status == 200
    await slow.send(b"GET / HTTP/1.1\r\nHost:")
    reply = await slow.read()
    assert (reply.status, reply.fields["connection"]) == (408, "close")
    assert (await mute.read()).status == 408
    assert (await idle.get("/")).status == 200


async def test_an_idle_connection_is_closed_in_the_end(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), '[server]\nidle_timeout = "300ms"\n')
    client = await connect(gateway)
    assert (await client.get("/")).status == 200
    assert await client.at_end()


async def test_a_chunked_body_is_counted(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), '[server]\nmax_body = "1kB"\n')
    client = await connect(gateway)
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"400\r\n"
        + b"x" * 1024
        + b"\r\n"
    )
    reply = await client.read()
    assert (reply.status, reply.fields["connection"]) == (413, "close")
    await asyncio.wait_for(origin.aborted.wait(), 20)


async def test_absolute_form_counts_instead_of_host(start, origin, connect):
    routes = PLAIN + (
        '[[route]]\nprefix = "/api"\nhosts = ["one.test"]\nupstream = "origin"\nstrip_prefix = '
        '"/api"\n'
    )
    client = await connect(await start(routes, upstreams(origin)))
    await client.send(b"GET http://ONE.test:80/api/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n")
    assert (await client.read()).status == 200
    assert origin.heads[0].startswith(b"GET /x?y HTTP/1.1\r\n")


async def test_http_1_0_needs_no_host_and_closes_unless_asked(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await client.read()).fields["connection"] == "keep-alive"
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await client.read()).fields["connection"] == "close"
    assert await client.at_end()


async def test_404_and_405(start, origin, connect):
    routes = '[[route]]\npath = "/a"\nmethods = ["GET"]\nupstream = "origin"\n'
    client = await connect(await start(routes, upstreams(origin)))
    assert (await client.get("/b")).fields["x-error-code"] == "ROUTE_001"
    reply = await client.get("/a", method="DELETE")
    assert reply.status == 405
    assert {word.strip() for word in reply.fields["allow"].split(",")} == {"GET", "HEAD", "OPTIONS"}


async def test_builtins(start, origin, connect):
    names = ("health", "info", "limits", "me")
    routes = "".join(f'[[route]]\npath = "/{name}"\nbuiltin = "{name}"\n' for name in names)
    gateway = await start(routes, upstreams(origin))
    client = await connect(gateway)
    health = json.loads((await client.get("/health")).body)
    assert (health["status"], health["services"]) == ("healthy", {"origin": {"status": "healthy"}})
    assert b'"name":"gateway"' in (await client.get("/info")).body
    assert (await client.get("/limits")).body == b'{"limits":[]}'
    assert (await client.get("/me")).status == 401


async def test_behind_a_trusted_proxy_the_client_is_the_rightmost_stranger(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), '[server]\ntrusted_proxies = ["127.0.0.0/8"]\n')
    client = await connect(gateway)
    await client.get("/", "X-Forwarded-For: 6.6.6.6, 203.0.113.7", "X-Forwarded-Proto: https")
    head = origin.heads[0]
    assert b"X-Forwarded-For: 6.6.6.6, 203.0.113.7, 127.0.0.1\r\n" in head
    assert b"X-Forwarded-Proto: https\r\n" in head
