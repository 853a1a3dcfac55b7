"""Many clients that want the same: one request to the origin, whoever of them leaves, and nothing
shared that is not for all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.app import Gateway
from gateway.middlewares.caching.flights import Flights
from tests.client import Client, Message
from tests.flow.conftest import Start
from tests.http2 import Http2Client
from tests.origin import Origin
from tests.until import until

pytestmark = pytest.mark.modes

PIPELINE = """request = ["caching"]
response = ["caching"]
error = ["error_handler"]
[caching]
max_entry = "256KiB"
[[route]]
prefix = "/"
upstream = "origin"
"""
HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Type: text/plain\r\n"
WHOLE = HEAD + b"Content-Length: 2\r\n\r\nok"
CLIENTS = 100


class Held(Origin):
    """An origin that answers when it is told to. `make(number)`: the answer to each request."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        super().__init__(self._answer)
        self.make = make
        self.go = asyncio.Event()

    async def _answer(
        self, _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        number = len(self.heads)
        await self.go.wait()
        writer.write(self.make(number))
        await writer.drain()
        return True


@asynccontextmanager
async def gateway_before(
    start: Start, origin: Origin, pipeline: str = PIPELINE
) -> AsyncIterator[Gateway]:
    await origin.start()
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\nretry = {{ attempts = 1 }}\n'
    yield await start(pipeline, upstreams)
    await origin.stop()


async def connected(gateway: Gateway, count: int) -> list[Client]:
    return [await Client.connect(gateway.port) for _ in range(count)]


async def asking(clients: list[Client], target: str = "/x") -> None:
    for client in clients:
        await client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def waiting(gateway: Gateway) -> int:
    """Requests that wait for another."""
    return sum(
        len(flight.waiters)
        for kept in gateway.runtime.registry
        if isinstance(kept, Flights)
        for flight in kept.under_way.values()
    )


async def read_all(clients: list[Client]) -> list[Message]:
    return [await client.read() for client in clients]


def close(clients: list[Client]) -> None:
    for client in clients:
        client.close()


async def test_one_request_for_many(start: Start):
    origin = Held(lambda number: WHOLE)
    async with gateway_before(start, origin) as gateway:
        clients = await connected(gateway, CLIENTS)
        await asking(clients)
        await until(lambda: waiting(gateway) == CLIENTS - 1)
        origin.go.set()
        answers = await read_all(clients)
        assert {(one.status, one.body) for one in answers} == {(200, b"ok")}
        assert len(origin.heads) == 1
        said = sorted(one.fields["cache-status"].partition("; ttl")[0] for one in answers)
        assert said == [
            *["gateway; fwd=uri-miss; collapsed"] * (CLIENTS - 1),
            "gateway; fwd=uri-miss; stored",
        ]
        results = gateway.telemetry.cache_requests.values
        assert {result: count for (_, result), count in results.items()} == {
            "miss": 1,
            "coalesced": CLIENTS - 1,
        }
        close(clients)


async def test_the_others_are_served_when_some_leave_and_the_first_with_them(start: Start):
    origin = Held(lambda number: WHOLE)
    async with gateway_before(start, origin) as gateway:
        clients = await connected(gateway, CLIENTS)
        await asking(clients[:1])
        await until(lambda: len(origin.heads) == 1)
        await asking(clients[1:])
        await until(lambda: waiting(gateway) == CLIENTS - 1)
        leaving = CLIENTS * 3 // 10
        for client in clients[:leaving]:
            client.writer.transport.abort()
        await until(lambda: waiting(gateway) == CLIENTS - leaving)
        origin.go.set()
        assert {one.body for one in await read_all(clients[leaving:])} == {b"ok"}
        assert len(origin.heads) == 1
        await until(lambda: gateway.telemetry.in_flight.get() == 0)
        close(clients)


async def test_a_first_client_that_leaves_alone_ends_its_request(start: Start):
    origin = Held(lambda number: WHOLE)
    async with gateway_before(start, origin) as gateway:
        (client,) = await connected(gateway, 1)
        await asking([client])
        await until(lambda: len(origin.heads) == 1)
        client.writer.transport.abort()
        await until(lambda: gateway.telemetry.in_flight.get() == 0)
        origin.go.set()


async def test_what_is_private_is_not_shared_and_nobody_waits_for_it_again(start: Start):
    def own(number: int) -> bytes:
        body = b"for %d" % number
        return (
            b"HTTP/1.1 200 OK\r\nCache-Control: private, max-age=60\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )

    origin = Held(own)
    async with gateway_before(start, origin) as gateway:
        clients = await connected(gateway, 20)
        await asking(clients)
        await until(lambda: waiting(gateway) == 19)
        origin.go.set()
        answers = await read_all(clients)
        assert len({one.body for one in answers}) == len(origin.heads) == 20
        origin.go.clear()
        await asking(clients)
        await until(lambda: len(origin.heads) == 40)
        assert waiting(gateway) == 0
        origin.go.set()
        assert len({one.body for one in await read_all(clients)}) == 20
        close(clients)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000,
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"7530\r\n" + b"x" * 30_000 + b"\r\n" for _ in range(10))
        + b"0\r\n\r\n",
    ],
)
async def test_for_what_is_too_large_everybody_asks(start: Start, answer: bytes):
    origin = Held(lambda number: answer)
    async with gateway_before(start, origin) as gateway:
        clients = await connected(gateway, 5)
        await asking(clients)
        await until(lambda: waiting(gateway) == 4)
        origin.go.set()
        answers = await asyncio.gather(*(client.read() for client in clients))
        assert {(len(one.body), one.whole) for one in answers} == {(300_000, True)}
        assert len(origin.heads) == 5
        close(clients)


async def test_an_origin_that_fails_is_asked_by_each(start: Start):
    origin = Held(lambda number: b"nonsense\r\n\r\n")
    async with gateway_before(start, origin) as gateway:
        clients = await connected(gateway, 5)
        await asking(clients)
        await until(lambda: waiting(gateway) == 4)
        origin.go.set()
        assert [one.status for one in await read_all(clients)] == [502] * 5
        close(clients)


async def test_each_variant_has_a_request_of_its_own(start: Start):
    varying = HEAD + b"Vary: Accept-Language\r\nContent-Length: 2\r\n\r\nok"
    origin = Held(lambda number: varying)
    async with gateway_before(start, origin) as gateway:
        clients = await connected(gateway, 20)
        for number, client in enumerate(clients):
            language = "en" if number % 2 else "de"
            await client.send(
                f"GET /x HTTP/1.1\r\nHost: x\r\nAccept-Language: {language}\r\n\r\n".encode()
            )
        await until(lambda: waiting(gateway) == 19)
        origin.go.set()
        assert {one.status for one in await read_all(clients)} == {200}
        assert len(origin.heads) == 2
        close(clients)


class Trickle(Origin):
    """An origin whose answer's first half comes at once, and the rest when it is told to."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.go = asyncio.Event()

    async def _answer(
        self, _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab,\r\n")
        await self.go.wait()
        for _ in range(8):
            writer.write(b"6400\r\n" + b"x" * 25_600 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return True


BODY = b"ab," + b"x" * 8 * 25_600


@pytest.mark.parametrize("leaves", [False, True])
async def test_nobody_waits_for_a_first_client_that_reads_slowly_or_leaves(
    start: Start, leaves: bool
):
    origin = Trickle()
    async with gateway_before(start, origin) as gateway:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", gateway.port))
        slow.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(origin.heads) == 1)
        others = await connected(gateway, 5)
        await asking(others)
        await until(lambda: waiting(gateway) == 5)
        if leaves:
            slow.close()
        origin.go.set()
        assert {one.body for one in await read_all(others)} == {BODY}
        assert len(origin.heads) == 1
        slow.close()
        await until(lambda: gateway.telemetry.in_flight.get() == 0)
        close(others)


async def test_without_coalescing_everybody_asks(start: Start):
    origin = Held(lambda number: WHOLE)
    pipeline = PIPELINE.replace("[caching]\n", "[caching]\ncoalesce = false\n")
    async with gateway_before(start, origin, pipeline) as gateway:
        clients = await connected(gateway, 5)
        await asking(clients)
        await until(lambda: len(origin.heads) == 5)
        origin.go.set()
        assert {one.body for one in await read_all(clients)} == {b"ok"}
        close(clients)


@pytest.mark.parametrize("leaves", ["stream", "connection"])
async def test_over_http2_the_others_are_served_when_the_first_leaves(start: Start, leaves: str):
    origin = Held(lambda number: WHOLE)
    await origin.start()
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    gateway = await start(PIPELINE, upstreams, "[listen]\nport = 0\nhttp2 = true\n")
    first, others = [await Http2Client.connect(gateway.port) for _ in range(2)]
    leading = first.begin("/x")
    await until(lambda: len(origin.heads) == 1)
    streams = [others.begin("/x") for _ in range(10)]
    await until(lambda: waiting(gateway) == 10)
    (listener,) = gateway.plane.listeners
    (connection,) = [
        one for one in listener.connections if leading in one.streams and len(one.streams) == 1
    ]
    if leaves == "stream":
        first.reset(leading)
        await until(lambda: not connection.streams)
    else:
        first.close()
        await until(lambda: len(listener.connections) == 1)
    origin.go.set()
    assert {(await others.answer(one)).body for one in streams} == {b"ok"}
    assert len(origin.heads) == 1
    await until(lambda: gateway.telemetry.in_flight.get() == 0)
    for client in (first, others):
        client.close()
    await origin.stop()
