"""Usage in a database of this machine: a file of `[server] state_dir`, or the process's memory.

A change is one transaction on the disk (SQLite's write-ahead log): a crash loses what was not
written yet and nothing else. Processes may share the file. All methods block; they are called in a
thread.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock

from gateway.usage.counters import HOUR, Cell, Cells, Place

_CREATE = """
create table if not exists usage (
    client text, route text, method text, hour integer,
    requests integer, ok integer, redirected integer, refused integer, failed integer,
    bytes_in integer, bytes_out integer, microseconds integer,
    primary key (client, route, method, hour)
) without rowid
"""
_ADD = """
insert into usage values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict do update set
    requests = requests + excluded.requests, ok = ok + excluded.ok,
    redirected = redirected + excluded.redirected, refused = refused + excluded.refused,
    failed = failed + excluded.failed, bytes_in = bytes_in + excluded.bytes_in,
    bytes_out = bytes_out + excluded.bytes_out,
    microseconds = microseconds + excluded.microseconds
"""
_READ = """
select route, method, hour, requests, ok, redirected, refused, failed, bytes_in, bytes_out,
    microseconds
from usage where client = ? and hour >= ?
"""


class FileLedger:
    """Counts by client, route, method and hour. `path` None: in memory."""

    def __init__(self, path: Path | None) -> None:
        self._lock = Lock()
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._base = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=10.0,
            isolation_level=None,
            check_same_thread=False,
        )
        self._base.execute("pragma journal_mode = wal")
        self._base.execute("pragma synchronous = normal")
        self._base.execute(_CREATE)
        self._swept = 0

    def add(self, cells: Cells, now: float, retention: float) -> None:
        """Add counts, all or none, and forget what is older than `retention` seconds. Raises
        sqlite3.Error."""
        rows = [(*place, *cell) for place, cell in cells.items()]
        hour = int(now) // HOUR
        with self._lock:
            self._base.execute("begin immediate")
            try:
                self._base.executemany(_ADD, rows)
                if hour != self._swept:
                    oldest = int(now - retention) // HOUR
                    self._base.execute("delete from usage where hour < ?", (oldest,))
                self._base.execute("commit")
            except BaseException:
                self._base.execute("rollback")
                raise
            self._swept = hour

    def read(self, client: str, since: float) -> dict[Place, Cell]:
        """Return a client's cells from the hour of `since` on. Raises sqlite3.Error."""
        with self._lock:
            found = self._base.execute(_READ, (client, int(since) // HOUR)).fetchall()
        return {Place(client, *row[:3]): list(row[3:]) for row in found}

    def dump_state(self) -> bytes:
        """Return the whole database."""
        with self._lock:
            return self._base.serialize()

    def load_state(self, state: bytes) -> None:
        """Take another one's place."""
        with self._lock:
            self._base.deserialize(state)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()
