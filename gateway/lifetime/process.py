"""What a process has: open files, cores, an event loop, threads for long work."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakSet

from aiohttp import http_parser

from gateway.config.tables.server import AUTO, ServerConfig

log = logging.getLogger("gateway")

FILES = 1024 * 1024
"""Open files that are enough for one process."""
CGROUPS = Path("/sys/fs/cgroup")


def raise_file_limit() -> int:
    """Let the process open as many files as it may, since every connection is one. Return how
    many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError) as error:
            log.warning("cannot open more than %d files: %s", soft, error)
            return soft
        return most
    return soft if soft != resource.RLIM_INFINITY else most


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop if it is installed. Warn of missing packages that cost speed."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        log.warning(
            "aiohttp runs without its C parser: requests cost several times as much; install "
            "it "
            "from a wheel"
        )
    try:
        import uvloop
    except ImportError:
        log.warning("uvloop is missing: requests cost about twice as much; install uvloop")
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def worker_count(config: ServerConfig) -> int:
    """Return how many processes `[server] workers` means here."""
    return cores() if config.workers == AUTO else int(config.workers)


def cores(cgroups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the number of cores that can be kept busy, at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _groups(cgroups, own) if (quota := _quota(folder)) is not None]
    return max(1, min([allowed, *(int(quota) for quota in quotas)]))


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """Return the folders of this process's cgroup (version 2, or 1's for cpu) and those above."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        folder = root / path.lstrip("/")
        found += [folder, *(above for above in folder.parents if above.is_relative_to(root))]
    return found


def _quota(folder: Path) -> float | None:
    """Return how many cores' time the group may use; None without a limit."""
    try:
        if (folder / "cpu.max").exists():  # version 2: "200000 100000", or "max 100000"
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such limit
        return None


class Executor(ThreadPoolExecutor):
    """A ThreadPoolExecutor that knows whether anything is under way.

    A copy of a process has none of its threads (fork(2)): it is made while none works, and begins
    with new ones.
    """

    def __init__(self, threads: int | None = None, name: str = "work") -> None:
        super().__init__(threads, thread_name_prefix=name)
        self._arguments = threads, name
        self._under_way: set[Future[Any]] = set()
        _ALL.add(self)

    def submit(self, *arguments: Any, **keywords: Any) -> Future[Any]:
        future = super().submit(*arguments, **keywords)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    @property
    def idle(self) -> bool:
        return not self._under_way

    def restart(self) -> None:
        """Begin anew, with new threads."""
        Executor.__init__(self, *self._arguments)


_ALL: WeakSet[Executor] = WeakSet()


def threads_idle() -> bool:
    """Return True if no thread works."""
    return all(executor.idle for executor in _ALL)


def restart_threads() -> None:
    """Give every executor new threads, in a copy of the process."""
    for executor in tuple(_ALL):
        executor.restart()
