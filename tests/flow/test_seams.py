"""Where the parts of a request's way meet: hooks that do what they must not, failures in the midst
of an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Reply
from gateway.core.hooks import Hooks
from tests.flow.conftest import PLAIN
from tests.origin import Origin, answer

pytestmark = pytest.mark.modes

WITH = 'response = ["tests.flow.test_seams:{name}"]\n' + PLAIN


def upstream(origin: Origin) -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\n'


def text(config: Any, context: Any) -> Hooks:
    """A middleware that adds text where bytes belong."""

    def response(exchange: Exchange, reply: Reply) -> None:
        reply.add("X-Text", "text")  # type: ignore[arg-type]

    return Hooks(response=response)


def breaks(config: Any, context: Any) -> Hooks:
    """A middleware whose body fails after its first piece, as no Failed."""

    class Body:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.read_once = False

        async def read(self) -> bytes:
            if self.read_once:
                raise ValueError("a bug")
            self.read_once = True
            return await self.inner.read()  # type: ignore[no-any-return]

        def abort(self) -> None:
            self.inner.abort()

    def response(exchange: Exchange, reply: Reply) -> None:
        if not isinstance(reply.body, bytes):
            reply.body = Body(reply.body)

    return Hooks(response=response)


async def test_a_header_that_is_text_is_an_error_and_leaks_nothing(start, connect, origin):
    gateway = await start(WITH.format(name="text"), upstream(origin))
    client = await connect(gateway)
    for _ in range(3):
        assert (await client.get("/")).status == 500
    snapshot = gateway.runtime.snapshot
    assert (
        snapshot.active,
        gateway.telemetry.in_flight.get(),
        snapshot.pools["origin"].in_flight,
    ) == (0, 0, 0)


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 200000\r\n"]
)
async def test_a_failure_in_the_midst_of_an_answer_adds_no_second_one(start, connect, framing):
    async def streams(origin, head, reader, writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\n"
            + framing
            + b"\r\n"
            + (b"5\r\nhello\r\n" if b"chunked" in framing else b"hello")
        )
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b"5\r\nworld\r\n" if b"chunked" in framing else b"world")
        await reader.read()
        return False

    origin = await Origin(streams).start()
    try:
        gateway = await start(WITH.format(name="breaks"), upstream(origin))
        client = await connect(gateway)
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            got = await asyncio.wait_for(client.reader.read(-1), 10)
        except ConnectionResetError:
            got = b""  # It was broken off, and what had come was lost with it.
        assert got.count(b"HTTP/1.1 ") <= 1 and not got.endswith(b"0\r\n\r\n")
        assert (gateway.runtime.snapshot.active, gateway.telemetry.in_flight.get()) == (0, 0)
    finally:
        await origin.stop()


async def test_what_streams_while_the_client_leaves_is_given_up(start, connect):
    async def endless(origin, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"5\r\nhello\r\n")
            await asyncio.sleep(0.01)
        origin.aborted.set()
        return False

    origin = await Origin(endless).start()
    try:
        gateway = await start(PLAIN, upstream(origin))
        client = await connect(gateway)
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.reader.readuntil(b"hello\r\n")
        client.close()
        await asyncio.wait_for(origin.aborted.wait(), 10)
        snapshot = gateway.runtime.snapshot
        assert (
            snapshot.active,
            gateway.telemetry.in_flight.get(),
            snapshot.pools["origin"].in_flight,
        ) == (0, 0, 0)
    finally:
        await origin.stop()


async def test_thousands_in_a_row_do_not_nest(start, connect, origin):
    """Pipelined requests that are answered at once complete one after the other, not inside each
    other."""
    gateway = await start('[[route]]\npath = "/h"\nbuiltin = "info"\n')
    client = await connect(gateway)
    count = 3000
    sending = asyncio.create_task(client.send(b"GET /h HTTP/1.1\r\nHost: a\r\n\r\n" * count))
    for _ in range(count):
        assert (await client.read()).status == 200
    await sending
    assert gateway.telemetry.in_flight.get() == 0


async def test_requests_behind_streamed_posts_are_answered(start, connect):
    """Many bodies that streamed, then two requests in one segment: neither waits for more to
    come."""
    origin = await Origin(answer(b"ok")).start()
    try:
        client = await connect(await start(PLAIN, upstream(origin)))
        for _ in range(40):
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na")
            await asyncio.sleep(0)
            await client.send(b"bc")
            assert (await client.read()).status == 200
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        assert [(await client.read()).status for _ in range(2)] == [200, 200]
    finally:
        await origin.stop()
