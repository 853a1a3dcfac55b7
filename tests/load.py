"""Bounded load for tests: clients that keep asking until told to stop, and a count of what they
got."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from types import TracebackType

from tests.client import Client


class Load:
    """`connections` clients sending `request` over and over. `answers` counts statuses; `failed`
    lists what was not an answer."""

    def __init__(
        self,
        port: int,
        connections: int,
        request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        self.tls = tls
        self.connections = connections
        self.request = request
        self.answers: Counter[int] = Counter()
        self.bodies: Counter[bytes] = Counter()
        self.failed: list[str] = []
        self._stop = False
        self._progress = asyncio.Condition()

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self.connections)]
        await self.more(self.connections)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 60)

    @property
    def total(self) -> int:
        return self.answers.total()

    async def more(self, count: int, seconds: float = 60) -> None:
        """Waits for that many further answers."""
        until = self.total + len(self.failed) + count
        async with asyncio.timeout(seconds), self._progress:
            await self._progress.wait_for(lambda: self.total + len(self.failed) >= until)

    async def _run(self) -> None:
        client: Client | None = None
        while not self._stop:
            try:
                if client is None:
                    client = await Client.connect(self.port, self.tls)
                await client.send(self.request)
                message = await client.read()
                self.answers[message.status] += 1
                self.bodies[message.body] += 1
                if not message.whole:
                    self.failed.append("cut short")
                if message.fields.get("connection") == "close":
                    client.close()
                    client = None
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.failed.append(repr(error))
                if client is not None:
                    client.close()
                client = None
            async with self._progress:
                self._progress.notify_all()
        if client is not None:
            client.close()
