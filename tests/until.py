"""Waiting in tests for what only shows: always bounded, and no longer than it takes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until `condition()` is true, or what it gives when awaited. Raises TimeoutError after
    `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.002)
