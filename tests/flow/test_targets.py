"""Routes that lead elsewhere than to one upstream."""

from __future__ import annotations

import asyncio

import pytest

from tests.origin import answer, fields_of
from tests.until import until

TARGETS = """
[[route]]
prefix = "/old"
strip_prefix = "/old"
redirect = { to = "https://new.example.com{path}{?query}", status = 301 }

[[route]]
path = "/robots.txt"
respond = { text = "User-agent: *\\nDisallow: /\\n", headers = { Cache-Control = "max-age=60" } }

[[route]]
path = "/gone"
respond = { status = 410, json = { error = "gone", see = ["/v2"] } }
"""


async def test_redirects_and_fixed_answers(start, connect):
    client = await connect(await start(TARGETS))
    moved = await client.get("/old/a%20b?x=1")
    assert (moved.status, moved.fields["location"]) == (301, "https://new.example.com/a%20b?x=1")
    evil = await client.get("/old//evil.example/")
    assert evil.fields["location"] == "https://new.example.com/evil.example/"
    robots = await client.get("/robots.txt")
    assert (robots.status, robots.body) == (200, b"User-agent: *\nDisallow: /\n")
    assert robots.fields["content-type"] == "text/plain; charset=utf-8"
    assert robots.fields["cache-control"] == "max-age=60"
    gone = await client.get("/gone")
    assert (gone.status, gone.body) == (410, b'{"error":"gone","see":["/v2"]}')


async def test_shares_of_two_upstreams(start, origin_of, connect):
    first, second = await origin_of(answer(b"first")), await origin_of(answer(b"second"))
    upstreams = f'[upstream.a]\nurl = "{first.url}"\n[upstream.b]\nurl = "{second.url}"\n'
    route = '[[route]]\nprefix = "/"\nupstream = { a = 1, b = 1 }\n'
    client = await connect(await start(route, upstreams))
    bodies = {(await client.get("/")).body for _ in range(64)}
    assert bodies == {b"first", b"second"}
    sticky = await connect(await start(route + "sticky = true\n", upstreams))
    assert len({(await sticky.get("/")).body for _ in range(64)}) == 1


async def test_a_share_that_is_down_leaves_the_gateway_degraded(start, origin, connect):
    upstreams = (
        f'[upstream.a]\nurl = "{origin.url}"\n'
        '[upstream.b]\ndiscover = { env = "NOBODY_*" }\n'
    )  # fmt: skip
    shares = '[[route]]\nprefix = "/x"\nupstream = { a = 9, b = 1 }\n'
    health = '[[route]]\npath = "/health"\nbuiltin = "health"\n'
    client = await connect(await start(shares + health, upstreams))
    reply = await client.get("/health")
    assert (reply.status, b'"status":"degraded"' in reply.body) == (200, True)
    alone = '[[route]]\nprefix = "/b"\nupstream = "b"\n'
    client = await connect(await start(shares + health + alone, upstreams))
    assert (await client.get("/health")).status == 503


MIRRORED = """
[[route]]
prefix = "/"
upstream = "origin"
mirror = { upstream = "shadow", timeout = "20s" }
"""


@pytest.mark.modes
async def test_a_mirror_gets_the_body_and_the_client_does_not_wait(start, origin_of, connect):
    reached, answering = asyncio.Event(), asyncio.Event()

    async def slow(origin, head, reader, writer):
        reached.set()
        await answering.wait()
        writer.write(answer(b"never seen"))
        return True

    origin, shadow = await origin_of(answer(b"first")), await origin_of(slow)
    upstreams = (
        f'[upstream.origin]\nurl = "{origin.url}"\n[upstream.shadow]\nurl = "{shadow.url}"\n'
    )
    client = await connect(await start(MIRRORED, upstreams))
    await client.send(b"POST /a?b HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 6\r\n\r\nabc")
    await until(lambda: origin.heads)
    await client.send(b"def")
    reply = await client.read("POST")
    assert (reply.status, reply.body) == (200, b"first")
    await asyncio.wait_for(reached.wait(), 20)
    assert origin.bodies == shadow.bodies == [b"abcdef"]
    sent = [fields_of(one.heads[0]) for one in (origin, shadow)]
    assert sent[0].pop("host", None) == sent[1].pop("host", None) == "gateway.test"
    assert sent[0] == sent[1]
    assert (await client.get("/again")).body == b"first"
    answering.set()


async def test_a_mirror_that_is_down_changes_nothing(start, origin, connect):
    upstreams = (
        f'[upstream.origin]\nurl = "{origin.url}"\n[upstream.shadow]\nurl = "http://127.0.0.1:1"\n'
    )
    gateway = await start(MIRRORED, upstreams)
    client = await connect(gateway)
    assert (await client.get("/")).status == 200
    telemetry = gateway.runtime.services.telemetry
    await until(
        lambda: sum(v for k, v in telemetry.upstream_requests.values.items() if k[0] == "shadow")
    )
    assert (await client.get("/")).status == 200
