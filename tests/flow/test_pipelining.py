"""Many requests in one write are all answered, in order, whatever they ask for."""

from __future__ import annotations

import asyncio

import pytest

from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams
from tests.origin import answer

COUNT = 300
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n"
KINDS = {
    "h2c": H2C,
    "h2c and h2": "Connection: upgrade\r\nUpgrade: h2c, h2\r\n",
    "an upgrade to TLS": "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
    "an upgrade nothing announces": "Upgrade: h2c\r\n",
    "plain": "",
    "expect": "Expect: 100-continue\r\n",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", ["", "hello"], ids=["", "with a body"])
@pytest.mark.parametrize("wait", [0.0, 0.001], ids=["", "slow"])
@pytest.mark.parametrize("size", [0, 1000], ids=["", "in pieces"])
async def test_all_are_answered(start, origin_of, connect, kind, body, wait, size):
    async def respond(origin, head, reader, writer):
        if wait:
            await asyncio.sleep(wait)
        writer.write(answer(head.split(b" ")[1]))
        return True

    gateway = await start(PLAIN, upstreams(await origin_of(respond)))
    client = await connect(gateway)
    method = "POST" if body else "GET"
    framing = f"Content-Length: {len(body)}\r\n" if body else ""
    sent = "".join(
        f"{method} /{number} HTTP/1.1\r\nHost: gateway.test\r\n{framing}{KINDS[kind]}\r\n{body}"
        for number in range(COUNT)
    ).encode()
    for place in range(0, len(sent), size or len(sent)):
        await client.send(sent[place : place + (size or len(sent))])
    for number in range(COUNT):
        reply = await client.read()
        assert (number, reply.status, reply.body) == (number, 200, b"/%d" % number)
