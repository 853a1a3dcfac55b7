"""Usage: what each client asked for, counted exactly by route, method and hour. Pure.

A cell is a list of whole numbers in the order of FIGURES; cells are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

FIGURES = ("requests", "2xx", "3xx", "4xx", "5xx", "bytes_in", "bytes_out", "microseconds")
WIDTH = len(FIGURES)
HOUR = 3600
DAY = 24 * HOUR
OTHER = "_other"
"""Stands for clients beyond CELLS_MAX, and for methods that no register has."""
CELLS_MAX = 100_000
"""Cells that may wait to be written down; what comes above counts as one client's."""


class Place(NamedTuple):
    """What a cell counts. `hour`: hours since 1970."""

    client: str
    route: str
    method: str
    hour: int


Cell = list[int]
Cells = Mapping[Place, Cell]


class Tally:
    """Counts since it was emptied."""

    __slots__ = ("cells",)

    def __init__(self) -> None:
        self.cells: dict[Place, Cell] = {}

    def count(
        self, place: Place, status: int, bytes_in: int, bytes_out: int, microseconds: int
    ) -> None:
        """Count one request."""
        cell = self.cells.get(place)
        if cell is None:
            if len(self.cells) >= CELLS_MAX:
                place = place._replace(client=OTHER)
            cell = self.cells.setdefault(place, [0] * WIDTH)
        cell[0] += 1
        if 200 <= status < 600:
            cell[status // 100 - 1] += 1
        else:
            cell[1 if status < 200 else 4] += 1  # 101 began a tunnel.
        cell[5] += bytes_in
        cell[6] += bytes_out
        cell[7] += microseconds

    def add(self, cells: Cells) -> None:
        """Count what another tally counted."""
        for place, more in cells.items():
            cell = self.cells.get(place)
            if cell is None:
                self.cells[place] = list(more)
            else:
                add_to(cell, more)

    def take(self) -> dict[Place, Cell]:
        """Return what was counted, and begin anew."""
        taken, self.cells = self.cells, {}
        return taken


def add_to(cell: Cell, more: Iterable[int]) -> None:
    """Add figure by figure."""
    for index, figure in enumerate(more):
        cell[index] += figure
