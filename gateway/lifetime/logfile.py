"""A log file or standard output: the event loop appends records, a thread writes them.

The loop encodes records in small batches and never waits for a disk or a pipe. While one is stuck,
at most `backlog` bytes wait for it; lines beyond that are dropped, counted, and reported once it
moves again. A record's first item encodes it.
"""

from __future__ import annotations

import asyncio
import atexit
import enum
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from gateway.core.telemetry import log_lines_dropped
from gateway.lifetime.supervised import Supervised

log = logging.getLogger("gateway.state")

Record = tuple[Any, ...]
"""`(encode, ...)`. `encode(record)` returns the line with its line feed. It runs on the loop, after
the request that the record is about."""

BATCH = 128
"""Records encoded in one go, which takes the loop about a quarter of a millisecond."""
CHUNK = 256 * 1024
"""Bytes of lines that are handed to the thread before the interval has ended."""
LINE_FEED = 10
FLUSH_INTERVAL = 0.2
"""Seconds after which a line is handed to the thread at the latest."""
BACKLOG = 32 * 1024 * 1024
"""Bytes that may wait to be written."""
EXIT_TIMEOUT = 5.0
"""Seconds that a process which ends waits for lines to be written."""

_DESCRIPTOR_NAMES = {1: "standard output", 2: "standard error"}


class _Order(enum.Enum):
    """Orders to the thread, beside bytes to write."""

    REOPEN = 1
    STOP = 2


class LogFile:
    """Appends lines to `path`, or to an open descriptor if that is None.

    descriptor: 1 is standard output, 2 standard error.
    interval:   seconds after which lines are written at the latest.
    backlog:    bytes that may wait for a slow disk.
    The constructor raises OSError if the file cannot be opened. Use one LogFile for a path
    (`shared`): several would mix up their lines.
    """

    __slots__ = (
        "_backlog",
        "_closed",
        "_descriptor",
        "_flushing",
        "_handed",
        "_interval",
        "_jobs",
        "_lines",
        "_lost",
        "_records",
        "_refused",
        "_thread",
        "_torn",
        "_written",
        "path",
    )

    def __init__(
        self,
        path: Path | None = None,
        *,
        descriptor: int = 1,
        interval: float = FLUSH_INTERVAL,
        backlog: int = BACKLOG,
    ) -> None:
        self.path = path
        self._interval = interval
        self._backlog = backlog
        self._descriptor = descriptor if path is None else _open(path)
        self._records: list[Record] = []
        # One growing buffer: joining a thousand small objects costs more than encoding them.
        self._lines = bytearray()
        self._flushing = Supervised("log_file", self._flush, every=inf, of=self.name)
        self._jobs: SimpleQueue[bytearray | _Order] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        # Each of these is changed by one side only: the first two by the loop, the others by the
        # thread.
        self._handed = 0
        self._refused = 0
        self._written = 0
        self._lost = 0
        self._torn = False
        _OPEN.add(self)

    def __repr__(self) -> str:
        waiting = self._handed - self._written
        return (
            f"<LogFile {self.name} waiting={waiting} "
            f"dropped={self.dropped}{' closed' if self._closed else ''}>"
        )

    @property
    def name(self) -> str:
        return (
            str(self.path)
            if self.path is not None
            else _DESCRIPTOR_NAMES.get(self._descriptor, "a descriptor")
        )

    @property
    def dropped(self) -> int:
        """Lines that were never written, because the backlog was full or writing failed."""
        return self._refused + self._lost

    @property
    def started(self) -> bool:
        """Return True if anything was ever handed to the thread."""
        return self._thread is not None

    def append(self, record: Record) -> None:
        """Add a record, on the loop. Never blocks, never fails."""
        records = self._records
        records.append(record)
        if 1 < len(records) < BATCH:
            return
        self._wake()

    def put(self, line: bytes) -> None:
        """Add a line with its line feed, from any thread but only one at a time. Never blocks or
        fails."""
        if self._closed or self._handed - self._written > self._backlog:
            self._refuse(1)
            return
        self._handed += len(line)
        self._jobs.put(bytearray(line))
        self._start()

    def flush(self) -> None:
        """Hand everything appended so far to the thread; return before it is written."""
        self._encode()
        self._hand_over()

    def reopen(self) -> None:
        """Go on in a new file at the same path, for log rotation. Earlier lines go to the old
        file."""
        if self._closed:
            return
        self.flush()
        if self._thread is None:
            self._reopen()
        else:
            self._jobs.put(_Order.REOPEN)

    def close(self) -> None:
        """Hand over what is left and let the thread end. Later lines are dropped. Harmless
        twice."""
        if self._closed:
            return
        self.flush()
        self._flushing.close()
        self._closed = True
        if self._thread is None:
            self._release()
        else:
            self._jobs.put(_Order.STOP)

    def wait(self, seconds: float) -> bool:
        """After `close`: block until all is written, for at most `seconds`; return True if it
        is."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    # On the loop.

    def _wake(self) -> None:
        """Start the timer for a batch's first record; encode a full batch after this turn's
        callbacks."""
        self._flushing.start(self._interval)
        if len(self._records) == BATCH:
            asyncio.get_running_loop().call_soon(self._batch)

    def _flush(self) -> None:
        self.flush()

    def _batch(self) -> None:
        self._encode()
        if len(self._lines) >= CHUNK:
            self._hand_over()

    def _encode(self) -> None:
        records, self._records = self._records, []
        if self._closed or self._handed - self._written > self._backlog:
            self._refuse(len(records))
            return
        lines = self._lines
        for record in records:
            try:
                lines += record[0](record)
            except Exception:
                self._refuse(1)
                log.exception("cannot encode a line for %s", self.name)

    def _hand_over(self) -> None:
        if not self._lines:
            return
        chunk, self._lines = self._lines, bytearray()
        self._handed += len(chunk)
        self._jobs.put(chunk)
        self._start()

    def _refuse(self, lines: int) -> None:
        self._refused += lines
        log_lines_dropped.add((self.name, "refused"), lines)

    def _start(self) -> None:
        if self._thread is None:
            # A daemon, since a disk that hangs must not keep the process from ending.
            thread = threading.Thread(target=self._run, name=f"log {self.name}", daemon=True)
            thread.start()
            self._thread = (
                thread  # only now: where no thread can be started, the next lines try again
            )

    # In the thread.

    def _run(self) -> None:
        failing, reported = False, 0
        while (job := self._jobs.get()) is not _Order.STOP:
            if isinstance(job, _Order):
                self._reopen()
                continue
            error = self._write(job)
            self._written += len(job)
            if error is not None:
                if not failing:
                    log.error("cannot write to %s, lines are dropped: %s", self.name, error)
            elif (dropped := self.dropped) > reported:
                log.warning("%s goes on after %d dropped lines", self.name, dropped - reported)
                reported = dropped
            failing = error is not None
        self._release()

    def _write(self, chunk: bytes | bytearray) -> OSError | None:
        """Write all of it, or return the error that kept the rest from being written."""
        if self._torn:
            # A line has been cut off; the next one must not look like its end.
            chunk = b"\n" + chunk
        done = 0
        try:
            while done < len(chunk):
                try:
                    done += os.write(self._descriptor, memoryview(chunk)[done:])
                except BlockingIOError:
                    # Standard output may have been made non-blocking by another process.
                    poll = select.poll()
                    poll.register(self._descriptor, select.POLLOUT)
                    poll.poll(1000)
        except OSError as error:
            lost = chunk.count(b"\n", done or self._torn)
            self._lost += lost
            log_lines_dropped.add((self.name, "failed"), lost)
            if done:
                self._torn = chunk[done - 1] != LINE_FEED
            return error
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
        _OPEN.discard(self)


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


_OPEN: set[LogFile] = set()
"""Files that are not closed yet."""


def finish(seconds: float = EXIT_TIMEOUT) -> bool:
    """Close every log file and block until all is written, for at most `seconds`; return True if it
    is.

    Runs at exit.
    """
    end = time.monotonic() + seconds
    files = [file for file in tuple(_OPEN) if file.started]
    for file in files:
        file.close()
    return all(file.wait(max(0.0, end - time.monotonic())) for file in files)


atexit.register(finish)


def _open(path: Path) -> int:
    """Open a file for appending. O_NONBLOCK: opening a named pipe must not wait for its reader."""
    descriptor = os.open(
        path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o640
    )
    os.set_blocking(descriptor, True)
    return descriptor
