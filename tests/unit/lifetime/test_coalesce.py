from __future__ import annotations

import asyncio

import pytest

from gateway.lifetime.coalesce import Coalesce, Full


async def test_once_for_all_who_wait():
    begun: list[str] = []
    go = asyncio.Event()
    work: Coalesce[str] = Coalesce(2)

    async def answer() -> str:
        begun.append("a")
        await go.wait()
        return "done"

    waits = [work.join("a", answer) for _ in range(3)]
    assert len(work) == 1 and "a" in work and list(work) == ["a"]
    waits[0].cancel()  # a client that leaves
    go.set()
    assert [await wait for wait in waits[1:]] == ["done", "done"]
    with pytest.raises(asyncio.CancelledError):
        await waits[0]
    assert begun == ["a"] and len(work) == 0


async def test_failures_reach_everybody():
    async def fail() -> None:
        raise LookupError("gone")

    work: Coalesce[None] = Coalesce(1)
    for wait in [work.join("a", fail) for _ in range(2)]:
        with pytest.raises(LookupError, match="gone"):
            await wait
    with pytest.raises(LookupError):
        await work.join("a", fail)


async def test_no_more_than_may_be_under_way():
    work: Coalesce[None] = Coalesce(1)
    first = work.join("a", lambda: asyncio.sleep(60))
    with pytest.raises(Full):
        work.join("b", lambda: asyncio.sleep(0))
    second = work.join("a", lambda: asyncio.sleep(0))
    await asyncio.sleep(0)
    work.close()
    for wait in (first, second):
        with pytest.raises(asyncio.CancelledError):
            await wait
