"""Usage that nothing writes to a disk, of one of several workers: their supervisor counts it."""

from __future__ import annotations

from gateway.store.local import Key, LocalStore
from gateway.store.stores import StoreDown
from gateway.usage.counters import Cells

METER: Key = ("usage",)
"""Where a process keeps its meter."""


class InSupervisor:
    """See meter.Ledger."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    async def add(self, cells: Cells, retention: float) -> bool:
        try:
            await self._store.call(METER, "absorb", cells)
        except StoreDown:
            return False
        return True

    async def read(self, client: str, since: float, now: float) -> tuple[Cells, Cells]:
        """Raises StoreDown."""
        hours, days = await self._store.call(METER, "read", client, since, now)
        return hours, days

    def close(self) -> None:
        """Nothing is open."""
