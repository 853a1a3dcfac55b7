"""Lines on their way out of the process: the event loop appends records, a thread delivers them.

The loop encodes records in small batches and never waits for a disk, a pipe or a network. While one
is stuck, at most `backlog` bytes wait for it; lines beyond that are dropped, counted, and reported
once it moves again. A record's first item encodes it. Where lines go is a subclass's: logfile.py,
logsinks.py.
"""

from __future__ import annotations

import asyncio
import atexit
import enum
import logging
import threading
import time
from math import inf
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
FLUSH_INTERVAL = 0.2
"""Seconds after which a line is handed to the thread at the latest."""
BACKLOG = 32 * 1024 * 1024
"""Bytes that may wait to be written."""
EXIT_TIMEOUT = 5.0
"""Seconds that a process which ends waits for lines to be written."""


class _Order(enum.Enum):
    """Orders to the thread, beside bytes to write."""

    REOPEN = 1
    STOP = 2


class LogQueue:
    """Lines that a thread delivers, in order.

    name:     what it is called in logs and metrics.
    interval: seconds after which lines are handed to the thread at the latest.
    backlog:  bytes that may wait for it.
    """

    __slots__ = (
        "_backlog",
        "_closed",
        "_flushing",
        "_handed",
        "_interval",
        "_jobs",
        "_lines",
        "_lost",
        "_records",
        "_refused",
        "_stopping",
        "_thread",
        "_written",
        "name",
    )

    def __init__(
        self, name: str, *, interval: float = FLUSH_INTERVAL, backlog: int = BACKLOG
    ) -> None:
        self.name = name
        self._interval = interval
        self._backlog = backlog
        self._records: list[Record] = []
        # One growing buffer: joining a thousand small objects costs more than encoding them.
        self._lines = bytearray()
        self._flushing = Supervised("log_file", self._flush, every=inf, of=name)
        self._jobs: SimpleQueue[bytearray | _Order] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._stopping = threading.Event()
        """Set once `close` is called: what waits in the thread may give up."""
        # Each of these is changed by one side only: the first two by the loop, the others by the
        # thread.
        self._handed = 0
        self._refused = 0
        self._written = 0
        self._lost = 0
        _OPEN.add(self)

    def __repr__(self) -> str:
        waiting = self._handed - self._written
        return (
            f"<{type(self).__name__} {self.name} waiting={waiting} "
            f"dropped={self.dropped}{' closed' if self._closed else ''}>"
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

    @property
    def idle(self) -> bool:
        """Return True if everything that was handed to the thread is written."""
        return self._handed == self._written

    def restart(self) -> None:
        """Write with a new thread, in a copy of the process. What the old one had is lost."""
        self._thread, self._jobs, self._written = None, SimpleQueue(), self._handed

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
        self._stopping.set()
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
            error = self._deliver(job)
            self._written += len(job)
            if error is not None:
                if not failing:
                    log.error("cannot write to %s, lines are dropped: %s", self.name, error)
            elif (dropped := self.dropped) > reported:
                log.warning("%s goes on after %d dropped lines", self.name, dropped - reported)
                reported = dropped
            failing = error is not None
        self._release()

    def _deliver(self, chunk: bytes | bytearray) -> Exception | None:
        """Deliver whole lines, or return what kept the rest from it, which `_lose` has counted."""
        raise NotImplementedError

    def _lose(self, lines: int) -> None:
        self._lost += lines
        log_lines_dropped.add((self.name, "failed"), lines)

    def _reopen(self) -> None:
        """Go on in a new file, where it is one."""

    def _release(self) -> None:
        """Give up what it holds, at the end."""
        _OPEN.discard(self)


_OPEN: set[LogQueue] = set()
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


async def drained(seconds: float) -> bool:
    """Wait until everything appended so far is written, for at most `seconds`; True if it is."""
    end = time.monotonic() + seconds
    for file in tuple(_OPEN):
        file.flush()
    while not all(file.idle for file in tuple(_OPEN)):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.005)
    return True


def restart_threads() -> None:
    """Write with new threads, in a copy of the process."""
    for file in tuple(_OPEN):
        file.restart()
