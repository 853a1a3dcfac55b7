"""Small writes on real sockets of both event loops."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import uvloop

from gateway.protocols.crumbs import CRUMBS, CrumbProtocol
from gateway.serving.tunnel import End
from tests.certificates import Authority
from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams
from tests.until import until
from tests.websocket import frame, open_tunnel, speaks

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
FEW = 1500
"""Bytes of CRUMBS frames of three bytes, and of a few that came together."""


class Writer(CrumbProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()
        self.room.set()

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.crumbs_taken(self.transport)
        self.room.set()


@pytest.mark.parametrize("secure", [False, True], ids=["", "tls"])
async def test_crumbs_wait_in_small_number_and_all_arrive(tmp_path, secure):
    """64 KiB of single bytes are 55 MB in uvloop's transport."""
    go, got = asyncio.Event(), 0
    done = asyncio.Event()

    async def read(reader, writer):
        nonlocal got
        writer.transport.pause_reading()
        await go.wait()
        writer.transport.resume_reading()
        while data := await reader.read(65536):
            got += len(data)
        writer.close()
        done.set()

    authority = Authority(tmp_path)
    authority.issue("edge", "localhost")
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if secure else None
    if served is not None:
        served.load_cert_chain(tmp_path / "edge.pem", tmp_path / "edge.key")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listening.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(read, sock=listening, ssl=served)
    port = listening.getsockname()[1]
    tls = {"ssl": authority.trusting(), "server_hostname": "localhost"} if secure else {}
    transport, writer = await asyncio.get_running_loop().create_connection(
        Writer, "127.0.0.1", port, **tls
    )
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sent = waiting = 0
    while writer.room.is_set() and sent < 30_000:
        transport.write(b"x")
        writer.count_crumb(transport)
        sent += 1
        await asyncio.sleep(0)
        if not writer.room.is_set():
            waiting = transport.get_write_buffer_size()
            await asyncio.sleep(0.05)  # It may have been for a moment.
    assert not writer.room.is_set()
    if not secure:
        assert 0 < waiting <= CRUMBS
    go.set()
    await asyncio.wait_for(writer.room.wait(), 10)
    limits = transport.get_write_buffer_limits()
    assert limits[1] >= 65536, "as before"
    transport.close()
    await asyncio.wait_for(done.wait(), 10)
    assert got == sent
    server.close()
    writer.count_crumb(transport)  # Of one that is closed, nothing.


async def deaf(gateway) -> Client:
    """A client whose socket holds little, and which does not read."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", gateway.port))
    return Client(*await asyncio.open_connection(sock=raw, limit=1024))


def small(transport) -> None:
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_a_tunnels_crumbs(start, origin_of, monkeypatch):
    """Somebody talks to an echo in single bytes, and does not listen."""
    go = asyncio.Event()
    paused: list[int] = []
    pause_writing = End.pause_writing

    def paused_at(end: End) -> None:
        paused.append(end.transport.get_write_buffer_size())
        pause_writing(end)

    monkeypatch.setattr(End, "pause_writing", paused_at)

    async def talk(reader, writer):
        await go.wait()
        for _ in range(40_000):
            writer.write(frame(b"x"))
            await asyncio.sleep(0)
        writer.write(frame(b"last"))
        await reader.read()

    origin = await origin_of(speaks(talk))
    gateway = await start(PLAIN, upstreams(origin))
    client = await deaf(gateway)
    await open_tunnel(client)
    (tunnel,) = gateway.plane.listeners[0].tunnels._live
    transport = tunnel.client.transport
    small(transport)
    client.writer.transport.pause_reading()
    go.set()
    await until(lambda: paused)
    assert paused[0] < FEW
    client.writer.transport.resume_reading()
    expected = frame(b"x") * 40_000 + frame(b"last")
    assert await client.reader.readexactly(len(expected)) == expected
    client.close()
