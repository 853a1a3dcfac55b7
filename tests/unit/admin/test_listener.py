"""Connections to the admin listener have limits and deadlines, and malformed requests get problems:
over real sockets."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.admin import listener as module
from gateway.admin.application import PUBLIC, make_app
from gateway.admin.listener import AdminListener
from gateway.config.tables.addresses import ListenAddress
from gateway.lifetime.sockets import Sockets, bind
from tests.certificates import Authority
from tests.unit.admin.state import State

Start = Callable[..., Any]


@pytest.fixture
async def start(state: State) -> AsyncIterator[Start]:
    running: list[AdminListener] = []

    async def one(**more: Any) -> AdminListener:
        made = AdminListener(make_app(state, paths=more.pop("paths", None)), **more)
        running.append(made)
        where = [ListenAddress("127.0.0.1", 0)]
        await made.start(await bind("admin", where, module.BACKLOG, Sockets()))
        return made

    yield one
    for made in running:
        await made.stop()


async def answer(listener: AdminListener, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """What a raw request gets, until the listener closes or its body is whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    try:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        line, *lines = head.decode().splitlines()[:-1]
        fields = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        return (
            int(line.split()[1]),
            fields,
            await reader.readexactly(int(fields.get("content-length", 0))),
        )
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (b"GET /admin/nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"DELETE /metrics HTTP/1.1\r\nHost: a\r\nX-Gateway-Admin: 1\r\n\r\n", 405),
        (
            (
                b"POST /admin/services HTTP/1.1\r\nHost: a\r\nX-Gateway-Admin: "
                b"1\r\nContent-Length: "
                b"50000\r\n\r\n"
            )
            + b"[" * 50_000,
            422,
        ),
    ],
)
async def test_errors_are_problems_and_say_nothing_internal(
    start: Start, caplog: pytest.LogCaptureFixture, request_bytes: bytes, status: int
):
    got, fields, body = await answer(await start(), request_bytes)
    assert got == status
    assert fields["content-type"].startswith("application/problem+json")
    assert fields["x-content-type-options"] == "nosniff"
    assert "server" not in fields
    assert json.loads(body)["status"] == status
    assert b"Traceback" not in body and b"aiohttp" not in body
    assert not any(record.exc_info for record in caplog.records)


async def test_no_answer_says_what_it_is_made_with(start: Start):
    status, fields, _ = await answer(await start(), b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status == 200
    assert "server" not in fields


async def test_a_head_that_does_not_come_ends_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "HEAD_TIMEOUT", 0.05)
    listener = await start()
    for sent in (b"", b"GET /metrics HTTP/1.1\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(sent)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1), 10)
        writer.close()
    assert not listener.connections


async def test_an_answer_that_is_not_taken_ends_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    listener = await start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET /admin/ready HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    (connection,) = listener.connections
    monkeypatch.setattr(module, "WRITE_TIMEOUT", 0.01)
    connection.pause_writing()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(reader.readexactly(1_000), 10)
    writer.close()


async def test_connections_are_limited(start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    listener = await start()
    held = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2)]
    refused, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(refused.readexactly(1), 10)
    for _, one in (*held, (refused, writer)):
        one.close()


async def test_descriptors_are_kept_in_reserve(start: Start):
    listener = await start()
    assert len(listener._reserve) == module.RESERVE

    class Exhausted:
        """A listening socket of a process that has no descriptor left, but for one that is given
        up."""

        def __init__(self, listening: socket.socket) -> None:
            self.listening = listening
            self.failed = 0

        def accept(self) -> Any:
            if not self.failed:
                self.failed = 1
                raise OSError(errno.EMFILE, "no descriptors")
            return self.listening.accept()

    asyncio.get_running_loop().remove_reader(listener._sockets[0])
    exhausted = Exhausted(listener._sockets[0])
    asyncio.get_running_loop().add_reader(listener._sockets[0], listener._accept, exhausted)
    status, _, _ = await answer(listener, b"GET /admin/ready HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status in (200, 503) and exhausted.failed
    assert len(listener._reserve) >= module.RESERVE - 1


async def test_a_listener_for_metrics_serves_nothing_else(start: Start):
    listener = await start(paths=PUBLIC)
    for path, status in (
        ("/metrics", 200),
        ("/admin/ready", 200),
        ("/admin/status", 404),
        ("/admin/reload", 404),
    ):
        assert (await answer(listener, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()))[
            0
        ] == status


async def test_over_tls(start: Start, tmp_path: Path):
    authority = Authority(tmp_path)
    certificate = authority.issue("server", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    listener = await start(tls=context)
    client = authority.trusting()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", listener.port, ssl=client, server_hostname="localhost"
    )
    writer.write(b"GET /admin/ready HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 ")
    writer.close()
    plain, out = await asyncio.open_connection("127.0.0.1", listener.port)
    out.write(b"GET / HTTP/1.1\r\n\r\n")
    assert b"HTTP" not in await asyncio.wait_for(plain.read(), 10)
    out.close()
