"""Middlewares that open something before a configuration is in force, and close it after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.core.hooks import Hooks

START_TIMEOUT = 10.0
"""Seconds for all `start` together."""


class Life:
    """One middleware from its start to its close. place: of its table, for problems."""

    def __init__(self, name: str, place: tuple[Path, int, int], hooks: Hooks) -> None:
        self.name = name
        self._place = place
        self._start = hooks.start
        self._close = hooks.close
        self._open = hooks.start is None

    def __repr__(self) -> str:
        return f"<Life of {self.name}, {'open' if self._open else 'closed'}>"

    async def begin(self) -> Problem | None:
        """Start it; return what kept it from starting."""
        if self._start is None:
            return None
        try:
            async with asyncio.timeout(START_TIMEOUT) as deadline:
                await self._start()
        except Exception as error:
            late = isinstance(error, TimeoutError) and deadline.expired()
            why = f"took longer than {START_TIMEOUT:g} s" if late else f"{type(error).__name__}"
            detail = f": {error}" if str(error) and not late else ""
            message = f"{self.name}: start failed: {why}{detail}"
            return Problem(*self._place, message)
        self._open = True
        return None

    def close(self) -> Awaitable[None] | None:
        """Close it, unless it has not started."""
        if not self._open or self._close is None:
            return None
        self._open = False
        return self._close()


async def start_all(lives: Sequence[Life]) -> None:
    """Start middlewares beside each other. Raises ConfigErrors, when all have come to an end."""
    if not lives:
        return
    outcomes = await asyncio.gather(*(life.begin() for life in lives))
    problems = [problem for problem in outcomes if problem is not None]
    if problems:
        raise ConfigErrors(problems)
