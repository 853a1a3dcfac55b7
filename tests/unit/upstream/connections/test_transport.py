"""Idle connections and the sweep: what is taken, what ages out, endpoints that are gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import uvloop

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.clock import Clock
from gateway.upstream.connections import transport as module
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Time:
    def __init__(self) -> None:
        self.now = 100.0
        self.clock = Clock(lambda: self.now, lambda: self.now)


def an_endpoint(url: str = "http://127.0.0.1:1") -> Endpoint:
    return Endpoint("origin", EndpointConfig(url))


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
    assert transport.take(endpoint, look=True) is new
    assert transport.take(endpoint, look=True) is None


async def test_a_connection_with_unread_input_is_never_taken() -> None:
    """Neither bytes that nobody asked for nor the end; and then no other either, since the endpoint
    closes all of them."""
    transport = Transport(opener=made)
    for other in (lambda end: end.send(b"HTTP/1.1 200 OK"), lambda end: end.close()):
        endpoint = an_endpoint()
        first, second = [await transport.connect(endpoint, 5.0, 10) for _ in range(2)]
        first.keep()
        second.keep()
        other(second._transport.ends[1])  # type: ignore[attr-defined]
        assert transport.take(endpoint, look=True) is None
        assert second.closed
        assert transport.take(endpoint, look=True) is first


async def test_one_that_cannot_write_does_not_keep_the_others() -> None:
    transport, written = Transport(), []

    class Waiting:
        endpoint = an_endpoint()

        def __init__(self, number: int) -> None:
            self.number = number

        def write_request(self) -> None:
            if self.number == 0:
                raise RuntimeError("odd")
            written.append(self.number)

        def close(self) -> None:
            written.append("closed")

    for number in range(3):
        transport.write_later(Waiting(number))  # type: ignore[arg-type]
    assert not written
    await asyncio.sleep(0)
    assert written == ["closed", 1, 2]


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


async def test_the_tls_of_upstreams_that_are_gone_is_forgotten() -> None:
    transport = Transport(opener=made)
    for name in ("one", "two"):
        transport.secure(name, (), object())  # type: ignore[arg-type]
    transport.retain(("two", "three"))
    assert list(transport._tls) == ["two"]
