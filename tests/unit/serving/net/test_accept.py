"""Accepting when the system says no, and closing what has not come to a request."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from gateway.config.tables.addresses import ListenAddress
from gateway.lifetime.sockets import Sockets, bind
from gateway.serving.net import accept
from gateway.serving.net.accept import Acceptor
from tests.until import until


def listener(*unwanted: str, **settings: object) -> SimpleNamespace:
    """unwanted: addresses that it refuses."""
    refused: list[str] = []
    return SimpleNamespace(
        tls=None,
        header_timeout=5.0,
        refused=refused,
        count_refused=refused.append,
        may_introduce=lambda peer: True,
        room=lambda: sys.maxsize,
        refuses=lambda peer: peer in unwanted,
        connection=lambda peer: asyncio.Protocol(),
        turn_away=lambda peer: b"no room for %b" % peer.encode(),
        **settings,
    )


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side has closed the connection, with what it was sent read or not."""
    try:
        return await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionResetError:
        return True


async def accepting(acceptor: Acceptor) -> int:
    sockets = await bind("listen", [ListenAddress("127.0.0.1", 0)], 5, Sockets())
    acceptor.start(sockets)
    port: int = sockets[0].getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8::1", 5, 0, 0), "2001:db8::1"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1"),
        (("fe80::1%eth0.5", 5, 0, 2), "fe80::1%eth0.5"),
        ("", "unix"),
        (b"", "unix"),
    ],
)
def test_who_is_at_the_other_end(address: object, peer: str):
    assert accept._peer(address) == peer


async def test_out_of_files_it_waits_and_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(accept, "BREATH", 0.01)
    acceptor = Acceptor(listener(), proxy_protocol=True)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    real, failures = acceptor._sockets[0], [errno.EMFILE, errno.EMFILE]

    class Poor(SimpleNamespace):
        def _accept(self):
            if failures:
                raise OSError(failures.pop(), "Too many open files")
            return real._accept()

    asyncio.get_running_loop().remove_reader(real)
    poor = Poor(family=real.family, fileno=real.fileno, close=real.close)
    acceptor._sockets[:] = [poor]  # type: ignore[list-item]
    acceptor._watch()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await ended(reader)
    assert caplog.text.count("cannot accept connections: Too many open files") == 1
    assert len(acceptor._reserve) == accept.RESERVE
    writer.close()
    await acceptor.close()


async def test_clients_are_told_that_there_is_no_descriptor_for_them(monkeypatch):
    monkeypatch.setattr(accept, "RESERVE", 2)
    acceptor = Acceptor(listener(), proxy_protocol=False)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    real, calls = acceptor._sockets[0], iter((False, True, True))

    class Poor(SimpleNamespace):
        def _accept(self):
            if not next(calls, False):
                raise OSError(errno.EMFILE, "Too many open files")
            return real._accept()

    asyncio.get_running_loop().remove_reader(real)
    poor = Poor(family=real.family, fileno=real.fileno, close=real.close)
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    acceptor._sockets[:] = [poor]  # type: ignore[list-item]
    acceptor._accept(poor)  # type: ignore[arg-type]
    assert len(acceptor._reserve) == 0
    for reader, writer in clients:
        assert await asyncio.wait_for(reader.read(), 5) == b"no room for 127.0.0.1"
        writer.close()
    acceptor._watch()
    assert len(acceptor._reserve) == 2
    await acceptor.close()
    assert len(acceptor._reserve) == 0


async def test_other_errors_are_not_hidden():
    acceptor = Acceptor(listener(), proxy_protocol=True)  # type: ignore[arg-type]

    def broken() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    with pytest.raises(OSError, match="Bad file"):
        acceptor._accept(SimpleNamespace(family=2, _accept=broken))  # type: ignore[arg-type]


async def test_closing_gives_up_preambles_under_way():
    made = listener()
    acceptor = Acceptor(made, proxy_protocol=True)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PROXY ")
    while not acceptor.pending:
        await asyncio.sleep(0.01)
    await acceptor.close()
    assert await ended(reader)
    assert acceptor.pending == set() and made.refused == []
    writer.close()


class Greeter(asyncio.Protocol):
    """Says who is at the other end, and what its socket is like."""

    def connection_made(self, transport: Any) -> None:
        raw = transport.get_extra_info("socket")
        peer = transport.get_extra_info("peername")[0]
        family = socket.AddressFamily(raw.family).name
        waits = "blocking" if os.get_blocking(raw.fileno()) else "non-blocking"
        if not raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
            waits += " with Nagle's algorithm"
        transport.write(f"{peer} {family} {waits}".encode())
        transport.close()


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_connection_is_what_a_server_of_the_loop_would_make(loop: Callable[[], Any]):
    """Its socket does not block nor delay, and it has a protocol of its own."""
    made: list[tuple[str, asyncio.Protocol]] = []

    def welcome(peer: str) -> asyncio.Protocol:
        made.append((peer, Greeter()))
        return made[-1][1]

    async def connect() -> None:
        acceptor = Acceptor(listener(welcome=welcome), proxy_protocol=False)  # type: ignore[arg-type]
        port = await accepting(acceptor)
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await asyncio.wait_for(reader.read(), 5) == b"127.0.0.1 AF_INET non-blocking"
            writer.close()
        await acceptor.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(connect())
    assert [peer for peer, _ in made] == ["127.0.0.1"] * 2 and made[0][1] is not made[1][1]


async def test_a_connection_without_room_is_closed():
    acceptor = Acceptor(listener(welcome=lambda peer: None), proxy_protocol=False)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await ended(reader)
    writer.close()
    await acceptor.close()


async def test_connections_of_a_refused_address_are_held_and_closed_unread(monkeypatch):
    monkeypatch.setattr(accept, "HELD", 2)
    monkeypatch.setattr(accept, "HOLD", 0.01)
    acceptor = Acceptor(listener("127.0.0.1"), proxy_protocol=False)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    for reader, writer in clients:
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await ended(reader)
        writer.close()
    assert acceptor._held == []
    await acceptor.close()


async def test_none_is_held_beyond_the_end(monkeypatch):
    monkeypatch.setattr(accept, "HOLD", 3600)
    acceptor = Acceptor(listener("127.0.0.1"), proxy_protocol=False)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await until(lambda: acceptor._held)
    held = [*acceptor._held, socket.socket()]
    acceptor.deafen()
    assert await ended(reader)
    acceptor._hold(held[1])
    assert [one.fileno() for one in held] == [-1, -1]
    writer.close()


async def test_a_socket_that_the_loop_cannot_take_is_closed(monkeypatch, caplog):
    caplog.set_level("DEBUG", "gateway.serving")

    async def refuse(factory: Any, accepted: Any) -> None:
        raise OSError(errno.ENOTCONN, "gone already")

    made = listener(welcome=lambda peer: asyncio.Protocol())
    acceptor = Acceptor(made, proxy_protocol=False)  # type: ignore[arg-type]
    port = await accepting(acceptor)
    monkeypatch.setattr(acceptor, "_loop", Refusing(acceptor._loop, refuse))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await ended(reader)
    assert "no connection with 127.0.0.1: [Errno 107] gone already" in caplog.text
    writer.close()
    await acceptor.close()


class Refusing:
    """A loop with another connect_accepted_socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connect: Any) -> None:
        self._loop = loop
        self.connect_accepted_socket = connect

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)
