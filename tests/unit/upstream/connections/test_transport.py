"""Opening connections, and the sweep: deadlines, endpoints that are gone, what goes wrong on the way."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import uvloop

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.clock import Clock
from gateway.core.drive import Drive
from gateway.core.failures import Failed, Failure
from gateway.upstream.connections import transport as module
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool
from tests.origin import Origin

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.clock = Clock(lambda: self.now, lambda: self.now)


def an_endpoint(url: str = "http://127.0.0.1:1") -> Endpoint:
    return Endpoint("origin", EndpointConfig(url))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_is_opened_without_a_task(loop: str) -> None:
    async def run() -> None:
        origin = await Origin().start()
        transport = Transport()
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def over(value: Any, error: BaseException | None) -> None:
            outcome.set_result(error or value)

        before = asyncio.all_tasks()
        drive = Drive(transport.connect(an_endpoint(origin.url), 5.0), over)
        drive.start()
        assert asyncio.all_tasks() == before
        connection = await outcome
        assert isinstance(connection, Connection)
        assert not transport._opening
        assert connection in transport.open
        transport.close()
        await origin.stop()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())


async def never(factory: Any, endpoint: Endpoint) -> object:
    return await asyncio.get_running_loop().create_future()


async def test_the_sweep_ends_what_takes_too_long_to_open() -> None:
    time = Time()
    transport = Transport(time.clock, never)
    task = asyncio.create_task(transport.connect(an_endpoint(), 2.0))
    await asyncio.sleep(0)
    time.now += 1.9
    transport.sweep()
    await asyncio.sleep(0)
    assert not task.done()
    time.now += 0.2
    transport.sweep()
    with pytest.raises(Failed) as caught:
        await task
    assert caught.value.failure is Failure.CONNECT_TIMEOUT
    assert "within 2 s" in str(caught.value)
    assert not transport._opening


async def test_one_that_is_given_up_is_opened_no_further() -> None:
    ended = asyncio.Event()

    async def opener(factory: Any, endpoint: Endpoint) -> object:
        try:
            return await never(factory, endpoint)
        finally:
            ended.set()

    transport = Transport(opener=opener)
    task = asyncio.create_task(transport.connect(an_endpoint(), 5.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 5)
    assert not transport._opening


@pytest.mark.parametrize(
    ("url", "error", "failure"),
    [
        ("http://a:1", ConnectionRefusedError(errno.ECONNREFUSED, "refused"), Failure.CONNECT_FAILED),
        ("http://a:1", socket.gaierror(-2, "not known"), Failure.DNS_FAILED),
        ("https://a:1", ssl.SSLError(1, "bad"), Failure.TLS_FAILED),
        ("https://a:1", ConnectionResetError(errno.ECONNRESET, "reset"), Failure.TLS_FAILED),
        ("http://a:1", ConnectionResetError(errno.ECONNRESET, "reset"), Failure.CONNECT_FAILED),
        ("http://a:1", OSError(errno.EMFILE, "Too many open files"), Failure.OVERLOADED),
        ("http://a:1", OSError(errno.EADDRNOTAVAIL, "no port left"), Failure.OVERLOADED),
    ],
)
async def test_every_error_of_opening_has_its_failure(url: str, error: OSError, failure: Failure) -> None:
    async def opener(factory: Any, endpoint: Endpoint) -> object:
        raise error

    with pytest.raises(Failed) as caught:
        await Transport(opener=opener).connect(an_endpoint(url), 5.0)
    assert caught.value.failure is failure
    assert caught.value.failure.blames is (failure is not Failure.OVERLOADED), "what is short here is not the endpoint's fault"


async def test_an_error_of_ours_is_none_of_connecting() -> None:
    async def opener(factory: Any, endpoint: Endpoint) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Transport(opener=opener).connect(an_endpoint(), 5.0)


@pytest.fixture(autouse=True)
def sockets() -> Iterator[None]:
    """Closes what a test has opened."""
    yield
    while Socket.made:
        for end in Socket.made.pop().ends:
            end.close()


async def made(factory: Any, endpoint: Endpoint) -> object:
    factory().connection_made(Socket())
    return None


class Socket:
    made: ClassVar[list[Socket]] = []

    def __init__(self) -> None:
        self.aborted = False
        self.ends = socket.socketpair()
        self.made.append(self)

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.ends[0] if name == "socket" else default


async def test_an_endpoint_that_is_gone_is_watched_no_longer() -> None:
    """Those of an upstream that a reload removes, too."""
    time = Time()
    transport = Transport(time.clock, made)
    pool = Pool("origin", UpstreamConfig(url="http://127.0.0.1:1"))
    (endpoint,) = pool.endpoints
    connection = await transport.connect(endpoint, 5.0, 10)
    connection.keep()
    transport.sweep()
    assert endpoint.idle == [connection]
    assert list(transport._keepalive) == [endpoint]
    pool.close()
    assert connection.closed
    transport.sweep()
    assert not transport._keepalive


async def test_idle_connections_age_out_and_the_newest_is_taken() -> None:
    time = Time()
    transport = Transport(time.clock, made)
    endpoint = an_endpoint()
    old, new = [await transport.connect(endpoint, 5.0, 10, keepalive=10.0) for _ in range(2)]
    old.keep()
    time.now += 8
    transport.sweep()
    new.keep()
    time.now += 4
    transport.sweep()
    assert old.closed
    assert transport.take(endpoint) is new
    assert transport.take(endpoint) is None


async def test_a_connection_with_unread_input_is_never_taken() -> None:
    """Neither bytes that nobody asked for nor the end; and then no other either, since the endpoint closes all of them."""
    transport = Transport(opener=made)
    for other in (lambda end: end.send(b"HTTP/1.1 200 OK"), lambda end: end.close()):
        endpoint = an_endpoint()
        first, second = [await transport.connect(endpoint, 5.0, 10) for _ in range(2)]
        first.keep()
        second.keep()
        other(second._transport.ends[1])  # type: ignore[attr-defined]
        assert transport.take(endpoint) is None
        assert second.closed
        assert transport.take(endpoint) is first


async def test_one_that_cannot_be_ended_does_not_keep_the_others() -> None:
    time = Time()
    transport = Transport(time.clock, made)
    endpoint = an_endpoint()
    connections = [await transport.connect(endpoint, 5.0, 10) for _ in range(3)]
    expired = []
    for number, connection in enumerate(connections):
        connection.deadline = time.now + 1

        class Odd(type(connection)):  # type: ignore[misc]
            __slots__ = ()

            def expire(self, now: float, number: int = number) -> None:
                if number == 0:
                    raise RuntimeError("odd")
                expired.append(number)
                self.close()

        connection.__class__ = Odd
    time.now += 2
    with pytest.raises(RuntimeError, match="odd"):
        transport.sweep()
    assert sorted(expired) == [1, 2]
    assert all(connection.closed for connection in connections)
    transport.sweep()


async def test_an_exception_is_not_the_end_of_the_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP", 0.001)
    again = asyncio.Event()
    rounds = 0

    def sweep() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise RuntimeError("odd")
        again.set()

    monkeypatch.setattr(Transport, "sweep", lambda self: sweep())
    transport = Transport(opener=made)
    transport.start()
    await asyncio.wait_for(again.wait(), 5)
    transport.close()
