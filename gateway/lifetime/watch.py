"""Watch files: read one again when it changes, without a reload and off the request's way; or tell
that one of many has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Generic, TypeVar

from gateway.lifetime.supervised import Supervised

log = logging.getLogger("gateway.state")

T = TypeVar("T")

EVERY = 0.9
"""Seconds between two looks at a file."""
SETTLES = 0.1
"""Seconds for which a changed file has to stay as it is: one that is written in place is empty, or
half there, for a moment, and that can be a file as well: one without keys or revocations."""
TICK = 0.02
"""Seconds by which the times of files may lag behind: kernels take them from their last tick."""
RETRY = 30.0
"""Seconds until a file that could not be taken is read again although it has not changed since.

What kept it from being read may lie elsewhere: no descriptor left, a file system that was away.
"""

Stamp = tuple[int, int, int] | None


def stamp(path: Path) -> Stamp:
    """What changes with a file: its time, size and inode; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Watched(Generic[T]):
    """Look at `path` every `every` seconds. After a change, `load` it in a thread and `take` the
    result.

    seen: the stamp from before the file was read last.
    load: raises ValueError for a file that is wrong; what was read before then stays in force.
    Nothing is watched where no loop runs.
    """

    def __init__(
        self,
        path: Path,
        seen: Stamp,
        load: Callable[[], T],
        take: Callable[[T], None],
        *,
        every: float = EVERY,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.path = path
        self._seen = seen
        self._load = load
        self._take = take
        self._clock = clock
        self._retry = inf
        self._reads = 0  # numbers the times the file was read, by this watch or by a reload
        self._taken = 0  # the number of what is in force
        self._task = Supervised("watched_file", self._look, every=every, of=str(path))
        self._task.start(every)

    def close(self) -> None:
        self._task.close()

    def offer(self, seen: Stamp, loaded: T) -> Callable[[], None]:
        """Return the step that takes what a reload has just read, for the moment when the reload is
        committed.

        It does nothing if what is in force was read later, or is this very file: several routes may
        use it.
        """
        number = self._number()

        def take() -> None:
            if number > self._taken and (seen != self._seen or self._retry < inf):
                self._taken = number
                self._seen = seen
                self._retry = inf
                self._take(loaded)

        return take

    async def look(self) -> bool:
        """Look once; return True if the file was read, or at least tried."""
        now = await asyncio.to_thread(stamp, self.path)
        if now != self._seen:
            await asyncio.sleep(SETTLES)
            if await asyncio.to_thread(stamp, self.path) != now:
                return False
        changed = now != self._seen
        if not changed and self._clock() < self._retry:
            return False
        self._seen = now
        self._retry = self._clock() + RETRY
        number = self._number()
        try:
            loaded = await asyncio.to_thread(self._load)
        except (ValueError, RecursionError) as error:
            if changed:
                why = "it is nested too deeply" if isinstance(error, RecursionError) else error
                log.error("%s has changed, but what was read before stays: %s", self.path, why)
            return True
        if number < self._taken:
            return True
        self._take(loaded)
        self._taken = number
        self._retry = inf
        log.info("%s has changed and was read again", self.path)
        return True

    def _number(self) -> int:
        self._reads += 1
        return self._reads

    async def _look(self) -> None:
        await self.look()


class Changes:
    """Call `changed` whenever one of several files is another than it was.

    files: what to look at; asked for anew at every look, since a change may add some.
    since: Unix time before they were read; one that was written later has changed already.
    A change counts when two looks in a row see the same: files are written one after the other.
    """

    def __init__(
        self,
        files: Callable[[], Iterable[Path]],
        changed: Callable[[], Coroutine[Any, Any, object]],
        *,
        since: float,
        every: float,
    ) -> None:
        self.every = every
        self._files = files
        self._changed = changed
        self.were_read(since)
        self._task = Supervised("watched_configuration", self.look, every=every)
        self._task.start(every)

    def close(self) -> None:
        self._task.close()

    def were_read(self, since: float) -> None:
        """What is there now is known, but for what was written after `since`."""
        self._seen = _stamps(self._files())
        late = any(_put_there(path) >= since - TICK for path in self._seen)
        self._acted_on = {} if late else self._seen

    async def look(self) -> None:
        now = await asyncio.to_thread(lambda: _stamps(self._files()))
        settled, self._seen = now == self._seen, now
        if settled and now != self._acted_on:
            self._acted_on = now
            await self._changed()


def with_neighbours(files: Iterable[Path]) -> Iterator[Path]:
    """Yield the files, and all TOML files of their folders: a new one may be included as well."""
    known = dict.fromkeys(files)
    yield from known
    for folder in {path.parent for path in known}:
        yield from (path for path in folder.glob("*.toml") if path not in known)


def _put_there(path: Path) -> float:
    """When it was written or, with an older time of its own, took this name (`mv`, `rsync -a`)."""
    try:
        found, name = path.stat(), path.lstat()
    except OSError:
        return 0.0
    return max(found.st_mtime, found.st_ctime, name.st_ctime)


def _stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    return {path: stamp(path) for path in files}
