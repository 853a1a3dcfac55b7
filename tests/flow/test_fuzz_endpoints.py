"""Endpoints that do anything, clients that leave at any moment: nothing leaks or goes astray."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.origin import Origin, answer, read_body
from tests.until import until

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

REQUESTS = 300
"""Of all clients together."""
CLIENTS = 10

CHUNKED = b"HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\n"
Act = Callable[[random.Random, bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


def reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def early(
    rng: random.Random, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Answers before the body, perhaps with a part of it read, and closes or resets."""
    if rng.random() < 0.5 and b"ength" in head:
        await reader.read(rng.randrange(1, 100_000))
    writer.write(answer(b"no", f"{rng.choice((200, 401, 413, 503))} X"))
    await writer.drain()
    if rng.random() < 0.5:
        reset(writer)
    return False


async def gone(
    rng: random.Random, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Closes or resets, perhaps within its head."""
    writer.write(rng.choice((b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"NOPE\r\n\r\n")))
    if rng.random() < 0.5:
        reset(writer)
    return False


async def whole(
    rng: random.Random, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Reads the request, and answers in one of many ways."""
    await read_body(head, reader)
    streamed = b"".join(
        b"%x\r\n%b\r\n" % (size, b"x" * size)
        for size in rng.choices((1, 500, 90_000), k=rng.randrange(9))
    )
    unfinished = CHUNKED % 200 + streamed
    said = rng.choice(
        (
            answer(b"ok"),
            answer(b"y" * rng.randrange(70_000, 1_000_000)),
            b"HTTP/1.1 103 E\r\nLink: </a>\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + answer(b"ok"),
            CHUNKED % rng.choice((200, 503)) + streamed + b"0\r\nX-Sum: 1\r\n\r\n",
            unfinished,
            b"HTTP/1.1 304 N\r\n\r\n",
            answer(b"ok") + answer(b"evil"),
        )
    )
    writer.write(said)
    await writer.drain()
    return said != unfinished and rng.random() < 0.7


ACTS: tuple[Act, ...] = (whole, whole, whole, early, gone)


async def ask(rng: random.Random, client: Client) -> bool:
    """One request, perhaps given up; whether the connection can be used for another."""
    kind = rng.choice(("get", "head", "post", "upload", "chunks", "leave"))
    if kind in ("get", "head", "post"):
        body = b"z" * rng.randrange(2000) if kind == "post" else None
        message = await client.get("/", method=kind.upper(), body=body)
    else:
        size = rng.randrange(1, 1_000_000)
        await client.send(
            b"PUT / HTTP/1.1\r\nHost: a\r\n"
            + (
                b"Transfer-Encoding: chunked\r\n\r\n"
                if kind == "chunks"
                else b"Content-Length: %d\r\n\r\n" % size
            )
        )
        piece = size // 10 + 1
        for sent in range(0, size, piece):
            part = b"b" * min(piece, size - sent)
            await client.send(b"%x\r\n%b\r\n" % (len(part), part) if kind == "chunks" else part)
            if kind == "leave" and rng.random() < 0.3:
                return False
        if kind == "chunks":
            await client.send(b"0\r\n\r\n")
        message = await client.read("PUT")
    assert b"evil" not in message.body
    return message.whole and message.fields.get("connection") != "close"


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_endpoints_and_clients_do(start, connect, seed: int) -> None:
    rng = random.Random(seed)
    left = REQUESTS
    trouble: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: trouble.append(context))

    async def respond(
        origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        return await rng.choice(ACTS)(rng, head, reader, writer)

    async def browse(gateway: Any) -> None:
        nonlocal left
        while left > 0:
            client = await connect(gateway)
            try:
                while left > 0:
                    left -= 1
                    if not await ask(rng, client):
                        break
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # An answer that broke off, or a body that nothing took.
            client.close()

    one, two = [await Origin(respond, read_body=False).start() for _ in range(2)]
    try:
        gateway = await start(
            PLAIN,
            f'[upstream.origin]\nendpoints = [{{ url = "{one.url}" }}, {{ url = "{two.url}" }}]\n'
            'retry = { attempts = 3, base_delay = "1ms", on = ["503", "reset", "connect"] }\n'
            "passive_health = { max_fails = 0 }\n",
        )
        await asyncio.gather(*(browse(gateway) for _ in range(CLIENTS)))
        snapshot, transport = gateway.runtime.snapshot, gateway.transport
        pool = snapshot.pools["origin"]
        await until(lambda: pool.in_flight == 0 and snapshot.active == 0)
        assert (pool.budget.retrying, pool.budget.waiting) == (0, 0)
        idle = [connection for endpoint in pool.endpoints for connection in endpoint.idle]
        await until(lambda: transport.open <= set(idle))
        assert trouble == []
    finally:
        await one.stop()
        await two.stop()
