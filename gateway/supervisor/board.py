"""What workers see of one another without asking: counters in shared memory.

Every cell has one writer, because counters with several drift when one of them dies in between.
Worker `i` writes its row alone: connections that it has open, and how many it has sent to and seen
from each other worker. The supervisor writes which workers are away.
"""

from __future__ import annotations

import mmap
import os

from gateway.config.tables.server import MAX_WORKERS

ADDRESSES = 1 << 16
"""Slots for clients' addresses. Two addresses of one slot count together: too many rather than too
few connections, of clients that cannot know which addresses share a slot."""
_CELL, _COUNT = 8, 4
_ROWS = 2 + 2 * MAX_WORKERS
"""open, away, and by receiver: sent by each sender, and as of when the receiver saw them."""
_CELLS = _ROWS * MAX_WORKERS * _CELL
SIZE = _CELLS + MAX_WORKERS * ADDRESSES * _COUNT
"""Most of which is never touched, and takes no memory."""


def create() -> int:
    """Return a descriptor of a new board, for all processes that are to share it."""
    descriptor = os.memfd_create("gateway-workers", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SIZE)
    return descriptor


class Board:
    """The board as one process sees it. Workers are numbers from 0 on."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, SIZE)
        whole = memoryview(self._map)
        cells = whole[:_CELLS].cast("Q")
        self._addresses = whole[_CELLS:].cast("I")
        self._open = cells[:MAX_WORKERS]
        self._away = cells[MAX_WORKERS : 2 * MAX_WORKERS]
        rest = cells[2 * MAX_WORKERS :]
        half = MAX_WORKERS * MAX_WORKERS
        self._sent, self._seen = rest[:half], rest[half:]

    def set_open(self, worker: int, connections: int) -> None:
        """Say how many connections the worker has. Its own cell, or that of one that has ended."""
        self._open[worker] = connections

    def add_open(self, worker: int, more: int) -> None:
        """Count connections that the worker has got, or with a negative number lost."""
        self._open[worker] += more

    def count_sent(self, sender: int, receiver: int, connections: int) -> None:
        """Count connections that `sender` has handed to `receiver`. The sender's own cell."""
        self._sent[receiver * MAX_WORKERS + sender] += connections

    def emptied(self, receiver: int) -> None:
        """Say that nothing waits for the receiver. Its own cells."""
        row = slice(receiver * MAX_WORKERS, (receiver + 1) * MAX_WORKERS)
        self._seen[row] = self._sent[row]

    def set_away(self, worker: int, away: bool) -> None:
        """Keep connections from being handed to a worker, or allow it again. The supervisor's."""
        self._away[worker] = away

    def from_address(self, key: str) -> int:
        """Return the number of connections of all workers from a client's address."""
        slot = hash(key) % ADDRESSES  # Of one seed in all workers, which are forked.
        workers = max((one + 1 for one in range(MAX_WORKERS) if self._open[one]), default=0)
        return sum(self._addresses[slot + one * ADDRESSES] for one in range(workers))

    def count_address(self, worker: int, key: str, more: int) -> None:
        """Count connections from an address. The worker's own cell."""
        self._addresses[worker * ADDRESSES + hash(key) % ADDRESSES] += more

    def forget(self, worker: int) -> None:
        """Forget the connections of a worker that has ended. The supervisor's."""
        self._open[worker] = 0
        row = slice(worker * ADDRESSES, (worker + 1) * ADDRESSES)
        self._addresses[row] = memoryview(bytes(ADDRESSES * _COUNT)).cast("I")

    def opened(self) -> int:
        """Return the number of connections of all workers."""
        return sum(self._open)

    def load(self, worker: int) -> int:
        """Return how many connections a worker has, those on their way to it included."""
        row = slice(worker * MAX_WORKERS, (worker + 1) * MAX_WORKERS)
        return self._open[worker] + max(0, sum(self._sent[row]) - sum(self._seen[row]))

    def loads(self, workers: int) -> dict[int, int]:
        """Return the loads of the first so many workers, without those that are away."""
        return {one: self.load(one) for one in range(workers) if not self._away[one]}

    def close(self) -> None:
        """Unmap it; the descriptor is the caller's."""
        for view in (self._open, self._away, self._sent, self._seen, self._addresses):
            view.release()
