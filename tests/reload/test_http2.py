"""HTTP/2 while a program stops, reloads and is replaced: no stream fails."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.http2 import Http2Client
from tests.process import Process
from tests.reload.test_upgrade import WORKERS, upgraded
from tests.reload.workers import configure, started
from tests.until import until

LISTEN = "[listen]\nport = 0\nhttp2 = true\n"
AT_ONCE = 4
PACE = 0.02
"""Seconds between two rounds of a client, which leave the programs room to start."""


class Load:
    """Clients that ask on AT_ONCE streams at a time, and connect anew when they are told to leave.

    asked: answers so far, each of them whole; moved: how often a client was told to leave.
    """

    def __init__(self, gateway: Process, clients: int) -> None:
        self.asked = self.moved = 0
        self._gateway = gateway
        self._ends = False
        self._tasks = [asyncio.create_task(self._client()) for _ in range(clients)]

    async def _client(self) -> None:
        client = await Http2Client.connect(self._gateway.port)
        while not self._ends:
            streams = [client.begin("/") for _ in range(AT_ONCE) if client.session.can_request]
            for answer in [await client.answer(stream) for stream in streams if stream]:
                assert (answer.status, answer.code, answer.done) == (200, 0, True)
                self.asked += 1
            await asyncio.sleep(PACE)
            if client.goaway is not None:
                assert client.goaway == 0
                await client.until(lambda client=client: client.closed)
                self.moved += 1
                client = await Http2Client.connect(self._gateway.port)
        client.close()

    @property
    def failed(self) -> bool:
        """Return True if a client has failed; `end` raises why."""
        return any(task.done() for task in self._tasks)

    async def more(self, answers: int = 50) -> None:
        """Wait for that many."""
        enough = self.asked + answers
        await until(lambda: self.asked > enough or self.failed)

    async def end(self) -> None:
        self._ends = True
        await asyncio.gather(*self._tasks)


@pytest.mark.parametrize("workers", WORKERS)
async def test_no_stream_fails_while_programs_are_replaced(tmp_path, workers):
    async with started(configure(tmp_path, workers, more=LISTEN)) as gateway:
        load = Load(gateway, 2)
        await load.more()
        gateway.signal(signal.SIGHUP)
        await load.more()
        assert load.moved == 0
        await upgraded(gateway)
        await until(lambda: load.moved >= 2 or load.failed)
        await load.more()
        await load.end()


async def test_a_program_that_stops_ends_its_streams_first(tmp_path):
    async with started(configure(tmp_path, 1, more=LISTEN)) as gateway:
        client = await Http2Client.connect(gateway.port)
        assert (await client.get("/")).status == 200
        gateway.signal(signal.SIGTERM)
        await client.until(lambda: client.closed)
        assert client.goaway == 0
