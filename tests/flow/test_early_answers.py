"""Endpoints that answer before they have read the request's body: the client gets that answer,
once, and can read it."""

from __future__ import annotations

import asyncio

from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.origin import Origin, answer

MIB = 2**20


def upstream(origin: Origin, more: str = "") -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\n{more}'


async def everything(client: Client) -> bytes:
    return await asyncio.wait_for(client.reader.read(-1), 10)


async def post(client: Client, size: int, pieces: int = 16) -> None:
    """Sends a body piece by piece, whatever comes back meanwhile."""
    client.writer.write(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
    try:
        for _ in range(pieces):
            await client.send(bytes(size // pieces))
            await asyncio.sleep(0)
    except ConnectionError:
        pass  # The answer counts, and that it could be read.


async def test_the_answer_comes_once_and_whole(start, connect):
    async def refuse(origin, head, reader, writer):
        writer.write(answer(b"too early to say", "413 Content Too Large"))
        while await reader.read(65536):
            pass
        return False

    origin = await Origin(refuse, read_body=False).start()
    try:
        gateway = await start(PLAIN, upstream(origin))
        for _ in range(20):
            client = await connect(gateway)
            sending = asyncio.create_task(post(client, MIB))
            got = await everything(client)
            await sending
            assert got.startswith(b"HTTP/1.1 413 ") and got.endswith(b"\r\n\r\ntoo early to say"), (
                got
            )
            assert got.count(b"HTTP/1.1 ") == 1, got
    finally:
        await origin.stop()


async def test_a_client_that_waits_for_the_answer_before_it_goes_on_gets_it(start, connect):
    origin = await Origin(answer(b"no"), read_body=False).start()
    try:
        client = await connect(await start(PLAIN, upstream(origin)))
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(1000)
        )
        message = await client.read()
        assert (message.status, message.body, message.fields["connection"]) == (200, b"no", "close")
        await client.send(bytes(99_000) + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await everything(client) == b"", (
            "what follows is no request of this connection's any more"
        )
    finally:
        await origin.stop()


async def test_a_hook_that_refuses_need_not_read_the_body(start, connect):
    """The gateway's own early answers, 413 for one."""
    pipeline = 'request = ["validation"]\n[validation]\nmax_body = "1KiB"\n' + PLAIN
    origin = await Origin().start()
    try:
        client = await connect(await start(pipeline, upstream(origin)))
        sending = asyncio.create_task(post(client, MIB))
        got = await everything(client)
        await sending
        assert got.startswith(b"HTTP/1.1 413 ") and got.count(b"HTTP/1.1 ") == 1
    finally:
        await origin.stop()
