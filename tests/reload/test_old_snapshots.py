"""Requests that outlive the configuration they began under, some of them more than one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.lifetime.logs import logqueue
from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin
from tests.until import until

LOGGED = (
    'request = ["logging"]\n[logging]\nfile = "{log}"\n[[route]]\nprefix = "/"\nupstream = '
    '"{upstream}"\n'
)

LENGTH = 100_000
"""So long that the head does not wait for the rest."""


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Origin, asyncio.Event]]:
    """An origin that sends half an answer, and the rest once the event is set."""
    go = asyncio.Event()

    async def respond(origin, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nhalf" % LENGTH)
        await go.wait()
        writer.write(bytes(LENGTH - 4))
        return True

    origin = await Origin(respond).start()
    yield origin, go
    go.set()
    await origin.stop()


def configure(directory: Path, origin: Origin, log: str, upstream: str = "origin") -> Path:
    write(
        directory,
        LOGGED.format(log=log if log == "-" else directory / log, upstream=upstream),
        f'[upstream.{upstream}]\nurl = "{origin.url}"\n',
    )
    return directory / "gateway.toml"


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_download_over_two_reloads_has_its_log_line(tmp_path, slow):
    origin, go = slow
    gateway = Gateway(configure(tmp_path, origin, "first.log"), {})
    await gateway.start()
    client = await Client.connect(gateway.port)
    (log,) = (file for file in logqueue._OPEN if file.name == str(tmp_path / "first.log"))
    try:
        await client.send(b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        configure(tmp_path, origin, "first.log", "renamed")  # the log is still this snapshot's
        assert (await gateway.reload()).ok
        configure(tmp_path, origin, "second.log", "renamed")
        assert (await gateway.reload()).ok
        go.set()
        await asyncio.wait_for(client.reader.readexactly(LENGTH), 10)
    finally:
        client.close()
        await gateway.close()
    assert await asyncio.to_thread(log.wait, 10)
    assert [line["path"] for line in lines(tmp_path / "first.log")] == ["/download"]


async def test_a_log_that_comes_back_has_one_writer(tmp_path, slow):
    origin, go = slow
    gateway = Gateway(configure(tmp_path, origin, "first.log"), {})
    await gateway.start()
    client = await Client.connect(gateway.port)
    try:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        for log in ("second.log", "first.log"):
            configure(tmp_path, origin, log)
            assert (await gateway.reload()).ok
        assert sum(file.name == str(tmp_path / "first.log") for file in logqueue._OPEN) == 1
        go.set()
    finally:
        client.close()
        await gateway.close()


async def test_endpoints_of_upstreams_that_are_gone_are_forgotten(tmp_path, slow):
    origin, go = slow
    gateway = Gateway(configure(tmp_path, origin, "-", "old"), {})
    await gateway.start()
    client = await Client.connect(gateway.port)
    try:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        configure(tmp_path, origin, "-", "new")
        assert (await gateway.reload()).ok
        assert [endpoint.upstream for endpoint in gateway.transport._keepalive] == ["old"], (
            "it is still in use"
        )
        go.set()
        await asyncio.wait_for(client.reader.readexactly(LENGTH), 10)
        await until(lambda: not gateway.transport._keepalive)
    finally:
        client.close()
        await gateway.close()
