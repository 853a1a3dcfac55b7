"""Starts before the swap, closes after the last request."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.core.hooks import Hooks
from gateway.runtime.operators import starting
from gateway.runtime.operators.starting import Life, start_all

PLACE = (Path("a.toml"), 3, 1)


def life(start=None, close=None) -> Life:
    return Life("own", PLACE, Hooks(start=start, close=close))


async def test_what_has_started_is_closed_once():
    ran: list[str] = []

    async def start() -> None:
        ran.append("start")

    one = life(start, lambda: ran.append("close"))
    assert one.close() is None and ran == []
    await start_all([one])
    one.close()
    one.close()
    assert ran == ["start", "close"]


async def test_a_close_without_a_start():
    ran: list[str] = []

    async def close() -> None:
        ran.append("close")

    one = life(close=close)
    await start_all([one])
    closing = one.close()
    assert closing is not None
    await closing
    assert ran == ["close"] and life().close() is None


async def test_every_start_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(starting, "START_TIMEOUT", 0.01)
    closed: list[str] = []

    async def good() -> None:
        """Start."""

    async def bad() -> None:
        raise ConnectionError("no service")

    async def slow() -> None:
        await asyncio.Event().wait()

    async def timed_out() -> None:
        raise TimeoutError

    lives = [life(one, lambda: closed.append("x")) for one in (good, bad, slow, timed_out)]
    with pytest.raises(ConfigErrors) as errors:
        await start_all(lives)
    assert [str(problem) for problem in errors.value.problems] == [
        "a.toml:3:1: error: own: start failed: ConnectionError: no service",
        "a.toml:3:1: error: own: start failed: took longer than 0.01 s",
        "a.toml:3:1: error: own: start failed: TimeoutError",
    ]
    for one in lives:
        one.close()
    assert closed == ["x"], "only what has started is closed"
