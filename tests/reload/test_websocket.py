"""WebSockets through a real process: SIGHUP is none of their business, TERM tells them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.client import Client
from tests.flow.conftest import write
from tests.load import Load
from tests.origin import Origin, answer
from tests.process import Process
from tests.websocket import CLOSE, close, echo, frame, open_tunnel, read_frame, speaks

MASK = b"\x0a\x0b\x0c\x0d"
ROUTE = (
    'response = ["logging", "metrics"]\n[logging]\nfile = '
    '"../log{number}"\n[[route]]\nprefix = "/"\nupstream = "o"\n'
)


def configure(directory: Path, *origins: Origin, number: int = 0) -> Path:
    endpoints = ", ".join(f'{{ url = "{origin.url}" }}' for origin in origins)
    write(directory, ROUTE.format(number=number), f"[upstream.o]\nendpoints = [{endpoints}]\n")
    return directory / "gateway.toml"


async def respond(
    origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    if b"upgrade" in head.lower():
        return await speaks(echo)(origin, head, reader, writer)
    writer.write(answer())
    return True


@pytest.fixture
async def origins():
    made = [await Origin(respond).start() for _ in range(2)]
    yield made
    for one in made:
        await one.stop()


async def said(client: Client, text: bytes) -> bytes:
    await client.send(frame(text, mask=MASK))
    return (await read_frame(client.reader)).payload


async def test_twenty_reloads_under_load_and_a_stop(tmp_path, origins):
    path = configure(tmp_path, *origins)
    async with Process(path) as gateway:
        clients = [await Client.connect(gateway.port) for _ in range(5)]
        for client in clients:
            await open_tunnel(client)
        async with Load(gateway.port, 8) as load:
            for number in range(20):
                # Other log files, other endpoints: the tunnels' own are gone half of the time.
                configure(tmp_path, origins[number % 2], number=number % 3)
                assert "taken" in await gateway.reload()
                await load.more(10)
        assert (load.failed, set(load.answers)) == ([], {200})
        for number, client in enumerate(clients):
            assert await said(client, b"%d" % number * 1000) == b"%d" % number * 1000
        assert await gateway.metric("gateway_requests_in_flight") == 5
        gateway.signal(signal.SIGTERM)
        for client in clients:
            got = await read_frame(client.reader)
            assert (got.opcode, got.code) == (CLOSE, 1001)
            await client.send(close(1001, MASK))
            assert await client.at_end()
            client.close()
        assert await gateway.ended() == 0
    lines = [
        line for line in (tmp_path / "log1").read_text().splitlines() if '"status":101' in line
    ]
    assert len(lines) == 5 and all('"reason":"shutdown"' in line for line in lines), (
        "in the log that was in force at the end"
    )
