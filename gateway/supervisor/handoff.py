"""Spread connections over workers: each one that was accepted goes to the worker with the fewest.

All workers accept from the same sockets. One that has clearly more connections than another hands
over the next, through the other's inbox: a socket pair, of which the supervisor holds both ends, so
that nothing in it is lost with a worker.

An inbox carries descriptors (SCM_RIGHTS), of connections and, from the supervisor, of what a worker
needs: each message is one byte for its kind, one for a number, and the descriptors.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence

from gateway.supervisor.board import Board

log = logging.getLogger("gateway.workers")

CONNECTIONS, PEER = b"c", b"p"
"""Kinds of messages: connections of a listener, and the sending end of another worker's inbox."""
MOST = 250
"""Descriptors in one message; Linux allows 253 (unix(7))."""


def receiver(mine: int, loads: Mapping[int, int]) -> int | None:
    """Return the worker that should have the next connection instead of one with `mine`.

    None if none has clearly fewer: handing over costs more than a small difference.
    """
    if not loads:
        return None
    best = min(loads, key=loads.__getitem__)
    least = loads[best]
    return best if mine > least + least // 8 else None


def inbox() -> tuple[socket.socket, socket.socket]:
    """Return the sending and the receiving end."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        # As many messages wait as the system allows: bursts of a thousand connections.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ends


def send(end: socket.socket, kind: bytes, number: int, descriptors: Sequence[int]) -> bool:
    """Put a message into an inbox; False if it is full."""
    try:
        socket.send_fds(end, [kind + bytes((number,))], descriptors)
    except OSError:
        return False
    return True


def receive(end: socket.socket) -> tuple[bytes, int, list[socket.socket]] | None:
    """Take a message out of an inbox; None if there is none."""
    try:
        data, descriptors, _, _ = socket.recv_fds(end, 2, MOST)
    except OSError:  # Nothing is there; or all other ends are gone, and nothing will be.
        return None
    if not data:
        return None
    for one in descriptors:  # Python has them open in programs that are executed, too.
        os.set_inheritable(one, False)
    return data[:1], data[1], [socket.socket(fileno=one) for one in descriptors]


class Dealer:
    """Decides, for worker `index`, which of the connections it accepts it keeps.

    peers: sending ends of the others' inboxes. One turn of the loop is `begin`, `gives` for each
    connection, `end`.
    """

    def __init__(self, index: int, board: Board, listener: int) -> None:
        self.peers: dict[int, socket.socket] = {}
        self._index = index
        self._board = board
        self._listener = listener
        self._loads: dict[int, int] = {}
        self._mine = 0
        self._given: dict[int, list[socket.socket]] = {}

    def begin(self) -> None:
        """Look at the board."""
        board = self._board
        self._loads = board.loads(max(self.peers, default=-1) + 1)
        self._loads.pop(self._index, None)
        self._mine = board.load(self._index)

    def gives(self, accepted: socket.socket) -> bool:
        """Return True if the connection goes to another worker, with `end`."""
        other = receiver(self._mine, self._loads)
        if other is None or other not in self.peers:
            self._mine += 1
            return False
        self._loads[other] += 1
        self._given.setdefault(other, []).append(accepted)
        return True

    def end(self) -> list[socket.socket]:
        """Hand over; return the connections that have to be kept after all."""
        given, self._given = self._given, {}
        kept: list[socket.socket] = []
        for other, connections in given.items():
            for start in range(0, len(connections), MOST):
                some = connections[start : start + MOST]
                if send(
                    self.peers[other], CONNECTIONS, self._listener, [one.fileno() for one in some]
                ):
                    self._board.count_sent(self._index, other, len(some))
                    for one in some:
                        one.close()
                else:
                    kept += some
        return kept


class Inbox:
    """What others have handed to this worker: takes connections as they come."""

    def __init__(
        self,
        index: int,
        end: socket.socket,
        board: Board,
        take: Callable[[int, socket.socket], None],
        meet: Callable[[int, socket.socket], None],
    ) -> None:
        """take: has a connection of a listener, by number. meet: has the inbox of a worker."""
        self._index = index
        self._end = end
        self._board = board
        self._take = take
        self._meet = meet

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._end, self.empty)
        self.empty()

    def empty(self) -> None:
        """Take everything that waits."""
        while (message := receive(self._end)) is not None:
            kind, number, sockets = message
            for one in sockets:
                if kind == PEER:
                    self._meet(number, one)
                else:
                    self._take(number, one)
        self._board.emptied(self._index)

    def stop(self) -> None:
        """Take no more."""
        asyncio.get_running_loop().remove_reader(self._end)
