"""The meter: counts finished requests by client, and writes the counts down every second.

What a process that is killed had not written yet is lost: the last second. Callers without an
identity are not counted here; /metrics has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Protocol

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange
from gateway.core.methods import REGISTERED
from gateway.lifetime.supervised import Supervised
from gateway.usage.counters import HOUR, OTHER, Cell, Cells, Place, Tally, add_to
from gateway.usage.ledger_file import FileLedger

EVERY = 1.0
"""Seconds between two times that counts are written down."""
HOURS_SHOWN = 48
NAME_MAX = 256
"""Letters of a client's name that are told apart."""


class History(NamedTuple):
    """A client's cells: those of the last HOURS_SHOWN hours, and of days (their first hour)."""

    hours: Cells
    days: Cells


class Ledger(Protocol):
    """Where counts are written down."""

    async def add(self, cells: Cells, retention: float) -> bool:
        """Add counts. False: they were not taken and are to be offered again."""

    async def read(self, client: str, since: float, now: float) -> tuple[Cells, Cells]:
        """A client's cells of the last hours, and of days from `since` on."""

    def close(self) -> None: ...


class InFile:
    """A Ledger in a database of this machine, opened when it is first used."""

    def __init__(self, path: Path | None, wall: Callable[[], float]) -> None:
        self._path = path
        self._wall = wall
        self._base: FileLedger | None = None

    async def add(self, cells: Cells, retention: float) -> bool:
        """Raises sqlite3.Error and OSError; nothing is added then."""
        await asyncio.to_thread(lambda: self._opened().add(cells, self._wall(), retention))
        return True

    async def read(self, client: str, since: float, now: float) -> tuple[Cells, Cells]:
        """Raises sqlite3.Error and OSError."""
        found = await asyncio.to_thread(lambda: self._opened().read(client, since))
        days: dict[Place, Cell] = {}
        for place, cell in found.items():
            day = place._replace(hour=place.hour // 24 * 24)
            add_to(days.setdefault(day, [0] * len(cell)), cell)
        return found, days

    @property
    def in_memory(self) -> bool:
        return self._path is None

    def dump_state(self) -> bytes:
        return self._opened().dump_state()

    def load_state(self, state: bytes) -> None:
        self._opened().load_state(state)

    def close(self) -> None:
        if self._base is not None:
            self._base.close()

    def _opened(self) -> FileLedger:
        if self._base is None:
            self._base = FileLedger(self._path)
        return self._base


class Meter:
    """Counts in this process; survives reloads. `retention`: seconds that counts are kept."""

    def __init__(self, ledger: Ledger, clock: Clock, retention: float) -> None:
        self.retention = retention
        self._ledger = ledger
        self._wall = clock.wall
        self._tally = Tally()
        self._writing = asyncio.Lock()
        self._rounds = Supervised("usage", self.write, every=EVERY)
        self._rounds.start(EVERY)

    def __repr__(self) -> str:
        return f"<Meter, {len(self._tally.cells)} cells to be written>"

    def adopt(self, retention: float) -> None:
        """Keep counts for so many seconds from now on."""
        self.retention = retention

    def finish(self, exchange: Exchange) -> None:
        """The finish hook of every route."""
        identity, route = exchange.identity, exchange.route
        if identity is None or route is None:
            return
        method = exchange.method if exchange.method in REGISTERED else OTHER
        place = Place(identity.client[:NAME_MAX], route.name, method, int(self._wall()) // HOUR)
        took = int((perf_counter() - exchange.started) * 1e6)
        self._tally.count(place, exchange.status(), exchange.bytes_in, exchange.bytes_out, took)

    async def write(self) -> None:
        """Write down what was counted. Raises what the ledger does; the counts are kept then."""
        async with self._writing:
            cells = self._tally.take()
            if not cells:
                return
            taken = False
            try:
                taken = await self._ledger.add(cells, self.retention)
            finally:
                if not taken:
                    self._tally.add(cells)

    async def history(self, client: str) -> History:
        """Everything that is known of a client, this moment included. Raises what the ledger
        does."""
        await self.write()
        now = self._wall()
        since = now - self.retention
        hours, days = await self._ledger.read(client[:NAME_MAX], since, now)
        first = int(now) // HOUR - HOURS_SHOWN + 1
        return History({place: cell for place, cell in hours.items() if place.hour >= first}, days)

    def absorb(self, cells: Cells) -> None:
        """Count what another process has counted."""
        self._tally.add(cells)

    async def read(self, client: str, since: float, now: float) -> tuple[Cells, Cells]:
        """As the ledger's, for another process."""
        await self.write()
        return await self._ledger.read(client, since, now)

    def dump_state(self) -> tuple[Cells, bytes]:
        """Return what is in memory alone, for the program that takes this one's place."""
        if isinstance(self._ledger, InFile) and self._ledger.in_memory:
            return self._tally.cells, self._ledger.dump_state()
        return {}, b""

    def load_state(self, state: tuple[Cells, bytes]) -> None:
        cells, written = state
        if written and isinstance(self._ledger, InFile) and self._ledger.in_memory:
            self._ledger.load_state(written)
            self._tally.add(cells)

    async def close(self) -> None:
        """Write down the rest."""
        self._rounds.close()
        try:
            await self.write()
        finally:
            self._ledger.close()
