"""Opening connections: without a Task, within a time, and the Failure of every error."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from typing import Any

import pytest
import uvloop

from gateway.config.tables.endpoints import EndpointConfig
from gateway.core.clock import Clock
from gateway.core.drive import Drive
from gateway.core.failures import Failed, Failure
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.opening import open_socket
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
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
        raw = connection._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "the loop's doing"
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
        (
            "http://a:1",
            ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
            Failure.CONNECT_FAILED,
        ),
        ("http://a:1", socket.gaierror(-2, "not known"), Failure.DNS_FAILED),
        ("https://a:1", ssl.SSLError(1, "bad"), Failure.TLS_FAILED),
        ("https://a:1", ConnectionResetError(errno.ECONNRESET, "reset"), Failure.TLS_FAILED),
        ("http://a:1", ConnectionResetError(errno.ECONNRESET, "reset"), Failure.CONNECT_FAILED),
        ("http://a:1", OSError(errno.EMFILE, "Too many open files"), Failure.OVERLOADED),
        ("http://a:1", OSError(errno.EADDRNOTAVAIL, "no port left"), Failure.OVERLOADED),
    ],
)
async def test_every_error_of_opening_has_its_failure(
    url: str, error: OSError, failure: Failure
) -> None:
    async def opener(factory: Any, endpoint: Endpoint) -> object:
        raise error

    with pytest.raises(Failed) as caught:
        await Transport(opener=opener).connect(an_endpoint(url), 5.0)
    assert caught.value.failure is failure
    assert caught.value.failure.blames is (failure is not Failure.OVERLOADED), (
        "what is short here is not the endpoint's fault"
    )


async def test_an_error_of_ours_is_none_of_connecting() -> None:
    async def opener(factory: Any, endpoint: Endpoint) -> object:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Transport(opener=opener).connect(an_endpoint(), 5.0)


@pytest.mark.parametrize(
    ("url", "own", "name"),
    [
        ("https://localhost:1", "", "localhost"),
        ("https://localhost.:1", "", "localhost"),
        ("https://127.0.0.1:1", "cameras.internal", "cameras.internal"),
        ("https://127.0.0.1:1", "cameras.internal.", "cameras.internal"),
    ],
)
async def test_the_name_that_is_asked_for_and_verified(
    monkeypatch: pytest.MonkeyPatch, url: str, own: str, name: str
) -> None:
    """The endpoint's own, else its host; never with a trailing dot (RFC 6066 section 3)."""
    asked: dict[str, Any] = {}

    class Loop:
        async def create_connection(self, factory: Any, host: str, port: int, **more: Any) -> Any:
            asked.update(more, host=host)
            raise ConnectionRefusedError

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    with pytest.raises(ConnectionRefusedError):
        await open_socket(
            asyncio.Protocol, Endpoint("origin", EndpointConfig(url, server_name=own))
        )
    assert asked["server_hostname"] == name
    assert asked["host"] == url.split("//")[1].rpartition(":")[0], (
        "the resolver gets what was configured"
    )


async def test_the_next_address_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has an IPv6 address on which nothing listens, and an IPv4 one."""
    origin = await Origin().start()
    loop = asyncio.get_running_loop()

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        stream = socket.SOCK_STREAM
        return [
            (socket.AF_INET, stream, 6, "", ("127.0.0.2", port)),
            (socket.AF_INET, stream, 6, "", ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    transport = Transport()
    connection = await transport.connect(an_endpoint(f"http://cameras.internal:{origin.port}"), 5.0)
    assert not connection.closed
    transport.close()
    await origin.stop()
