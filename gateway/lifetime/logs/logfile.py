"""A log file or standard output: a LogQueue whose thread writes to a descriptor."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.lifetime.logs.logqueue import BACKLOG, FLUSH_INTERVAL, LogQueue
from gateway.lifetime.logs.writing import Unwritten, write

log = logging.getLogger("gateway.state")

LINE_FEED = 10
_DESCRIPTOR_NAMES = {1: "standard output", 2: "standard error"}


class LogFile(LogQueue):
    """Appends lines to `path`, or to an open descriptor if that is None.

    descriptor: 1 is standard output, 2 standard error.
    The constructor raises OSError if the file cannot be opened. Use one LogFile for a path
    (`shared`): several would mix up their lines.
    """

    __slots__ = ("_descriptor", "_torn", "path")

    def __init__(
        self,
        path: Path | None = None,
        *,
        descriptor: int = 1,
        interval: float = FLUSH_INTERVAL,
        backlog: int = BACKLOG,
    ) -> None:
        self.path = path
        self._descriptor = descriptor if path is None else _open(path)
        self._torn = False
        name = str(path) if path is not None else _DESCRIPTOR_NAMES.get(descriptor, "a descriptor")
        super().__init__(name, interval=interval, backlog=backlog)

    # In the thread.

    def _deliver(self, chunk: bytes | bytearray) -> OSError | None:
        """Write all of it, or return the error that kept the rest from being written."""
        if self._torn:
            # A line has been cut off; the next one must not look like its end.
            chunk = b"\n" + chunk
        try:
            write(self._descriptor, chunk)
        except Unwritten as unwritten:
            done = unwritten.done
            lost = chunk.count(b"\n", done or self._torn)
            self._lose(lost)
            if done:
                self._torn = chunk[done - 1] != LINE_FEED
            return unwritten.error
        self._torn = False
        return None

    def _reopen(self) -> None:
        if self.path is None:
            return
        try:
            descriptor = _open(self.path)
        except OSError as error:
            log.error("cannot reopen %s, going on with the old file: %s", self.path, error)
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._torn = False

    def _release(self) -> None:
        if self.path is not None:
            os.close(self._descriptor)
        super()._release()


def located(directory: Path, name: str) -> Path | None:
    """Return the path that a configuration in `directory` calls `name`; None for "-", standard
    output.

    A file has one path, however it is spelt.
    """
    if name == "-":
        return None
    path = directory / name
    # The last part is not resolved: a link may lead to another file after a rotation.
    return path.parent.resolve() / path.name


def shared(keep: Callable[..., Any], path: Path | None) -> LogFile:
    """Return the one LogFile of a path. `keep` is a Context's. Raises OSError."""
    file: LogFile = keep(("logging", str(path or "-")), path, lambda: LogFile(path))
    return file


def _open(path: Path) -> int:
    """Open a file for appending. O_NONBLOCK: opening a named pipe must not wait for its reader."""
    descriptor = os.open(
        path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o640
    )
    os.set_blocking(descriptor, True)
    return descriptor
