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


async def test_websockets_that_are_declined_are_each_asked_for_once(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin))
    client = await connect(gateway)
    fields = "Host: gateway.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    await client.send("".join(f"GET /{n} HTTP/1.1\r\n{fields}{key}" for n in range(8)).encode())
    for _ in range(8):
        assert (await client.read()).status
    assert (await client.get("/8")).status == 200
    assert [head.split(b" ")[1] for head in origin.heads] == [b"/%d" % n for n in range(9)]


@pytest.mark.parametrize("ends", [False, True], ids=["", "half-closed"])
@pytest.mark.parametrize("repeats", [False, True], ids=["", "repeated"])
async def test_a_client_that_takes_no_answers_is_given_no_more(
    start, origin, connect, ends, repeats
):
    """One answer may be more than sockets hold, and it is the memory of all clients."""
    origin.respond = answer(bytes(2**20), Cache_Control="max-age=60")
    pipeline = 'request = ["caching"]\nresponse = ["caching"]\ncaching.max_entry = "2MiB"\n'
    gateway = await start(pipeline + PLAIN, upstreams(origin))
    client = await connect(gateway)
    for _ in range(3):
        await client.get("/")
    client.writer.transport.pause_reading()
    get = b"GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
    if repeats:
        for _ in range(COUNT):
            await client.send(get)
            await asyncio.sleep(0)
    else:
        await client.send(get * COUNT)
    if ends:
        client.writer.write_eof()
    await asyncio.sleep(0.2)
    [connection] = gateway.plane.listeners[0].connections
    assert 2**16 < connection.transport.get_write_buffer_size() <= 2**20 + 2**16
    client.writer.transport.resume_reading()
    for _ in range(COUNT):
        assert len((await client.read()).body) == 2**20
    if ends:
        assert await client.at_end()
    else:
        assert (await client.get("/")).status == 200
