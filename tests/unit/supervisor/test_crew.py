"""Workers that are dismissed while they are being forked."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Any

from gateway.core.telemetry import Telemetry
from gateway.supervisor.crew import Crew
from gateway.supervisor.zygote import Zygote


class SlowZygote(Zygote):
    """Forks nothing until it is told to; `descriptors` are copies of those for the last worker."""

    def __init__(self) -> None:
        super().__init__(socket.socket(), 0)
        self.forking: asyncio.Future[int] | None = None
        self.descriptors: list[int] = []

    async def fork(self, index: int, descriptors: Sequence[int]) -> int:
        self.descriptors = [os.dup(one) for one in descriptors]
        self.forking = asyncio.get_running_loop().create_future()
        return await self.forking


async def test_a_worker_that_is_dismissed_while_it_is_forked_ends_and_is_not_started_again():
    zygote, keeper = SlowZygote(), Any
    crew = Crew(zygote, keeper, Telemetry().worker_restarts)  # type: ignore[arg-type]
    crew._resize(1)
    await asyncio.sleep(0)
    assert zygote.forking is not None
    crew._resize(0)
    while crew.members:
        await asyncio.sleep(0)
    zygote.forking.set_result(12345)
    await asyncio.wait(crew._tasks)
    channel = socket.socket(fileno=zygote.descriptors[0])
    assert channel.recv(100) == b"", "the worker's channel is closed, which ends it"
    assert not crew._processes and crew.restarts.values == {}
    channel.close()
    for one in zygote.descriptors[1:]:
        os.close(one)
    zygote.control.close()
    for pair in crew._inboxes:
        for end in pair:
            end.close()
    os.close(crew._board.descriptor)
