"""Write lines to a descriptor: all of them, and whole where several processes write to one pipe.

A file tears no lines, since every write is appended as a whole. For pipes and sockets processes
take turns.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import threading
from collections.abc import Iterator


class Unwritten(Exception):
    """Not all was written: `done` bytes were, then came `error`."""

    def __init__(self, done: int, error: OSError) -> None:
        super().__init__(done, error)
        self.done = done
        self.error = error


class Turns:
    """Processes that write to one pipe take turns. A file needs none: it is appended to.

    lock: a descriptor of a file that they share; None where this process is alone.
    """

    def __init__(self) -> None:
        self.lock: int | None = None
        self._mine = threading.Lock()  # The other is the process's: its threads share it.

    def __enter__(self) -> None:
        self._mine.acquire()
        if self.lock is not None:
            fcntl.lockf(self.lock, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        if self.lock is not None:
            fcntl.lockf(self.lock, fcntl.LOCK_UN)
        self._mine.release()


TURNS = Turns()


def take_turns(lock: int) -> None:
    """Write to pipes and sockets in turns with all processes that have called this with descriptors
    of the same file."""
    TURNS.lock = lock


def pieces(chunk: bytes | bytearray) -> Iterator[int]:
    """Yield where pieces of whole lines end that a pipe takes as a whole, even from a process that
    dies (PIPE_BUF, pipe(7)); a longer line is a piece."""
    start, size = 0, len(chunk)
    while start < size:
        end = chunk.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        if not end:
            end = chunk.find(b"\n", start) + 1 or size
        yield end
        start = end


def write(descriptor: int, chunk: bytes | bytearray) -> None:
    """Write all of it; blocks. Raises Unwritten."""
    alone = TURNS.lock is None or stat.S_ISREG(os.fstat(descriptor).st_mode)
    done, view = 0, memoryview(chunk)
    with contextlib.nullcontext() if alone else TURNS:
        for end in (len(chunk),) if alone else pieces(chunk):
            while done < end:
                try:
                    done += os.write(descriptor, view[done:end])
                except BlockingIOError:
                    # Standard output may have been made non-blocking by another process.
                    poll = select.poll()
                    poll.register(descriptor, select.POLLOUT)
                    poll.poll(1000)
                except OSError as error:
                    raise Unwritten(done, error) from None
