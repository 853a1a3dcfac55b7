"""A file that is read again when it changes, without a reload and off the request's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger("gateway.state")

T = TypeVar("T")

EVERY = 1.0
"""Seconds between two looks at a file."""

Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """What changes with a file: its time, size and inode; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Watched(Generic[T]):
    """Looks at `path` every second. After a change `load` is called in a thread, and what it returns is given to `take`.

    `seen`: the stamp from before the file was read last. `load` raises ValueError for a file that makes no sense; what was read
    before then stays. Without a running loop nothing is watched.
    """

    def __init__(
        self, path: Path, seen: Stamp, load: Callable[[], T], take: Callable[[T], None], *, every: float = EVERY
    ) -> None:
        self.path = path
        self._seen = seen
        self._load = load
        self._take = take
        self._every = every
        self._task: asyncio.Task[None] | None = None
        with suppress(RuntimeError):
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def look(self) -> bool:
        """One look; whether the file had changed."""
        now = await asyncio.to_thread(stamp, self.path)
        if now == self._seen:
            return False
        self._seen = now
        try:
            loaded = await asyncio.to_thread(self._load)
        except ValueError as error:
            log.error("%s has changed, but what was read before stays: %s", self.path, error)
        else:
            self._take(loaded)
            log.info("%s has changed and was read again", self.path)
        return True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.look()
