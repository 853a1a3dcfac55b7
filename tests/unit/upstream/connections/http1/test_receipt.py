"""Whether an endpoint can have received a request whose connection ended, over real sockets: the
endpoint's moves, one by one."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from gateway.config.tables.endpoints import EndpointConfig, UpstreamTlsConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.failures import Failed, Failure
from gateway.upstream.connections.checks import Answer
from gateway.upstream.connections.http1 import receipt
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.tls import UpstreamTls
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
from tests.certificates import Authority
from tests.origin import OK

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="what is asked of the kernel is Linux's"
)

LOOPS = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
TIMEOUTS = TimeoutsConfig(read=10, write=10)


class World:
    """A connection to an endpoint that does nothing by itself: its end of the connection is a
    blocking socket."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(
            "origin", EndpointConfig(f"http://127.0.0.1:{self.listener.getsockname()[1]}")
        )
        self.transport = Transport()
        self.connection: Connection
        self.other: socket.socket

    async def connect(self) -> None:
        self.connection = await self.transport.connect(self.endpoint, 5, max_idle=1)
        self.other, _ = self.listener.accept()

    async def used(self) -> None:
        """Connects, and has one answer: the connection is a kept one afterwards."""
        await self.connect()
        answer = Answer()
        self.connection.start(GET, answer, TIMEOUTS)
        await asyncio.to_thread(self.hear, GET)
        self.other.sendall(OK)
        await answer
        assert self.transport.take(self.endpoint, look=True) is self.connection

    def hear(self, request: bytes = POST) -> None:
        self.other.settimeout(5)
        heard = b""
        while len(heard) < len(request):
            heard += self.other.recv(len(request) - len(heard))

    def close(self) -> None:
        self.other.close()

    def reset(self) -> None:
        """Closes so that nothing but a reset says so."""
        self.other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.other.close()

    async def arrived(self) -> None:
        """Until the POST is in the endpoint's kernel."""
        await asyncio.to_thread(self.other.recv, 1, socket.MSG_PEEK)

    async def ask(self, data: bytes = POST, more: bool = False) -> tuple[Failed, bool]:
        """How a request fails, and whether it may have been the connection's age."""
        answer = self.send(data, more)
        return await self.end(answer)

    def send(self, data: bytes = POST, more: bool = False) -> Answer:
        answer = Answer()
        self.connection.start(data, answer, TIMEOUTS, more=more)
        return answer

    async def end(self, answer: Answer) -> tuple[Failed, bool]:
        with pytest.raises(Failed) as failed:
            await asyncio.wait_for(answer, 10)
        return failed.value, answer.stale


def play(
    loop: Callable[[], asyncio.AbstractEventLoop], scene: Callable[[World], object]
) -> tuple[Failure, bool]:
    async def run() -> tuple[Failure, bool]:
        world = World()
        try:
            failed, stale = await scene(world)  # type: ignore[misc]
            assert not stale or str(world.endpoint.port) in failed.why
            return failed.failure, stale
        finally:
            world.transport.close()
            world.listener.close()
            if hasattr(world, "other"):
                world.other.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(run())


async def closed_before(world: World) -> object:
    await world.used()
    world.close()
    return await world.ask()


async def reset_before(world: World) -> object:
    await world.used()
    world.reset()
    return await world.ask()


async def closed_before_its_first(world: World) -> object:
    await world.connect()
    world.close()
    return await world.ask()


async def reset_before_its_first(world: World) -> object:
    await world.connect()
    world.reset()
    return await world.ask()


async def closed_with_it_unread(world: World) -> object:
    await world.used()
    answer = world.send()
    await world.arrived()
    world.close()
    return await world.end(answer)


async def closed_behind_it(world: World) -> object:
    await world.used()
    answer = world.send()
    await asyncio.to_thread(world.hear)
    world.close()
    return await world.end(answer)


async def reset_behind_it(world: World) -> object:
    """What it has read it has not acknowledged yet: that goes with the answer, or 40 ms later, and
    a reset hides it."""
    await world.used()
    answer = world.send()
    await asyncio.to_thread(world.hear)
    world.reset()
    return await world.end(answer)


async def half_closed_behind_it(world: World) -> object:
    await world.used()
    answer = world.send()
    await asyncio.to_thread(world.hear)
    world.other.shutdown(socket.SHUT_WR)
    return await world.end(answer)


async def answered_before_it(world: World) -> object:
    """What comes before a request has gone out, in the same turn or unseen, is no answer to it."""
    await world.used()
    world.other.sendall(OK)
    return await world.ask()


async def answered_while_it_waits(world: World) -> object:
    await world.used()
    world.endpoint.in_flight = 2
    answer = world.send()
    world.connection.data_received(OK)
    return await world.end(answer)


async def ended_while_it_waits(world: World) -> object:
    await world.used()
    world.endpoint.in_flight = 2
    answer = world.send()
    world.connection.connection_lost(None)
    return await world.end(answer)


async def ended_by_close_notify_while_it_waits(world: World) -> object:
    """Which the loop has read: nothing waits in the socket."""
    await world.used()
    world.endpoint.in_flight = 2
    answer = world.send()
    world.connection.eof_received()
    return await world.end(answer)


async def closed_before_one_in_parts(world: World) -> object:
    """Its body may be used up, whatever has become of its head."""
    await world.used()
    world.close()
    return await world.ask(POST[:-5], more=True)


async def closed_within_it(world: World) -> object:
    """So much that not all of it goes out, of which some is acknowledged."""
    await world.used()
    answer = world.send(POST.replace(b"5", b"9999999", 1) + bytes(9_999_994))
    await asyncio.to_thread(world.hear, bytes(1000))
    world.close()
    return await world.end(answer)


async def closed_within_its_answer(world: World) -> object:
    await world.used()
    answer = world.send()
    await world.arrived()
    world.other.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while not world.connection._codec.begun:
        await asyncio.sleep(0)
    world.other.shutdown(socket.SHUT_WR)
    return await world.end(answer)


SAFE, UNKNOWN = Failure.NOT_RECEIVED, Failure.CONNECTION_RESET


@LOOPS
@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        (closed_before, (SAFE, True)),
        (reset_before, (SAFE, True)),
        (answered_before_it, (SAFE, True)),
        (answered_while_it_waits, (SAFE, True)),
        (ended_while_it_waits, (SAFE, True)),
        (ended_by_close_notify_while_it_waits, (SAFE, True)),
        (closed_before_its_first, (SAFE, False)),
        (reset_before_its_first, (SAFE, False)),
        (closed_with_it_unread, (UNKNOWN, True)),
        (closed_behind_it, (UNKNOWN, True)),
        (reset_behind_it, (UNKNOWN, True)),
        (half_closed_behind_it, (UNKNOWN, True)),
        (closed_before_one_in_parts, (UNKNOWN, True)),
        (closed_within_it, (UNKNOWN, True)),
        (closed_within_its_answer, (Failure.INCOMPLETE_RESPONSE, False)),
    ],
)
def test_what_is_known_of_a_request_whose_connection_ended(loop, scene, expected):
    assert play(loop, scene) == expected


@LOOPS
@pytest.mark.parametrize(
    ("heard", "expected"),
    [(False, (SAFE, True)), (True, (UNKNOWN, True))],
    ids=["before", "behind"],
)
def test_over_tls(loop, heard, expected, tmp_path: Path):
    authority = Authority(tmp_path)
    certificate = authority.issue("origin", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))

    async def scene(world: World) -> object:
        def shake() -> ssl.SSLSocket:
            raw, _ = world.listener.accept()
            return context.wrap_socket(raw, server_side=True)

        world.endpoint = Endpoint(
            "origin", EndpointConfig(world.endpoint.status(0.0)["url"].replace("http:", "https:"))
        )
        world.transport.secure("origin", (), UpstreamTls(UpstreamTlsConfig(ca="ca.pem"), tmp_path))
        accepted = asyncio.create_task(asyncio.to_thread(shake))
        world.connection = await world.transport.connect(world.endpoint, 5, max_idle=1)
        world.other = await accepted
        answer = world.send(GET)
        await asyncio.to_thread(world.hear, GET)
        world.other.sendall(OK)
        await answer
        if heard:
            answer = world.send()
            await asyncio.to_thread(world.hear)
            world.close()
            return await world.end(answer)
        world.other.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            world.other.unwrap()  # type: ignore[attr-defined] # Sends its close_notify, and does not wait for the other.
        world.close()
        return await world.ask()

    assert play(loop, scene) == expected


@LOOPS
def test_a_connection_that_ended_while_it_was_made_is_none(loop):
    async def run() -> None:
        world = World()

        async def opener(factory: Callable[[], asyncio.Protocol], endpoint: Endpoint) -> object:
            transport, protocol = await asyncio.get_running_loop().create_connection(
                factory, endpoint.host, endpoint.port
            )
            world.listener.accept()[0].close()
            while not protocol.closed:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
            return transport

        world.transport = Transport(opener=opener)
        with world.listener, pytest.raises(Failed, match="at once") as failed:
            await world.transport.connect(world.endpoint, 5)
        assert failed.value.failure is Failure.CONNECT_FAILED

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


class Silent:
    """A transport whose kernel says nothing."""

    def __init__(self, raw: object) -> None:
        self.raw = raw

    def get_extra_info(self, name: str) -> object:
        return self.raw

    def get_write_buffer_size(self) -> int:
        return 7


@pytest.mark.parametrize("known", ["no socket", "closed", "another system"])
def test_what_the_kernel_does_not_say_counts_as_received(known, monkeypatch):
    with socket.socket() as raw:
        if known == "closed":
            raw.close()
        elif known == "another system":
            monkeypatch.setattr(sys, "platform", "darwin")
        transport = Silent(None if known == "no socket" else raw)
        assert receipt.unacknowledged(transport) == 0  # type: ignore[arg-type]
        assert receipt.sent(transport) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("information", "expected"),
    [
        (bytes(200) + struct.pack("=QQ", 9, 0), 9),
        # Some went out twice, and whether it did is not known.
        (bytes(200) + struct.pack("=QQ", 9, 9), None),
        (bytes(104), None),  # A kernel before 4.19.
    ],
)
def test_what_has_left(information, expected):
    class Raw:
        def getsockopt(self, level: int, name: int, size: int) -> bytes:
            return information[:size]

    assert receipt.sent(Silent(Raw())) == expected  # type: ignore[arg-type]
