"""A listener whose sockets several workers share."""

from __future__ import annotations

from typing import Any

from gateway.core.networks import address_key
from gateway.serving.net.listener import Listener
from gateway.serving.net.tls import TlsTransport
from gateway.serving.server import Runtime
from gateway.supervisor.board import Board
from gateway.supervisor.handoff import Dealer


class SharedListener(Listener):
    """Listener number `number` of worker `index`: tells the board of its connections, and counts
    those of all workers where a limit is for the gateway."""

    def __init__(self, runtime: Runtime, name: str, index: int, number: int, board: Board) -> None:
        self.shared_dealer = Dealer(index, board, number)
        self.dealer = self.shared_dealer
        self._board = board
        self._index = index
        self._counted = 0
        super().__init__(runtime, name)

    def opened(self, connection: Any) -> None:
        super().opened(connection)
        self._count()

    def closed(self, connection: Any) -> None:
        super().closed(connection)
        self._count()

    def remember(self, tls: TlsTransport) -> None:
        super().remember(tls)
        self._count()

    def forget(self, tls: TlsTransport) -> None:
        super().forget(tls)
        self._count()

    def from_address(self, peer: str) -> int:
        return self._board.from_address(address_key(peer))

    def count_address(self, peer: str, more: int) -> None:
        super().count_address(peer, more)
        self._board.count_address(self._index, address_key(peer), more)

    def total(self) -> int:
        self._count()
        return self._board.opened()

    def _count(self) -> None:
        now = super().total()
        self._board.add_open(self._index, now - self._counted)
        self._counted = now
