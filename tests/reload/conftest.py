"""Connections to a gateway of several workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.client import Client
from tests.origin import Origin, Respond
from tests.process import Process
from tests.reload.workers import Kept


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    """`await kept(gateway, count)`: connections that stay open until the test is over."""
    opened: list[Client] = []

    async def connect(gateway: Process, count: int) -> list[Client]:
        more = [await Client.connect(gateway.port) for _ in range(count)]
        opened.extend(more)
        return more

    yield connect
    for one in opened:
        one.close()
    await asyncio.sleep(0)


@pytest.fixture
async def origin_of() -> AsyncIterator[Callable[[Respond | bytes], Awaitable[Origin]]]:
    """`await origin_of(respond)`: an upstream that answers so."""
    made: list[Origin] = []

    async def one(respond: Respond | bytes) -> Origin:
        made.append(await Origin(respond).start())
        return made[-1]

    yield one
    for origin in made:
        await origin.stop()
