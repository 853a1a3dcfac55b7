"""Usage in a database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.usage.counters import DAY, HOUR, Place
from gateway.usage.ledger_file import FileLedger

NOW = 1_000_000 * HOUR
A = Place("acme", "cameras", "GET", 1_000_000)
ONE = [1, 1, 0, 0, 0, 10, 20, 30]


def test_counts_add_up_and_outlast_the_process(tmp_path: Path):
    first, second = FileLedger(tmp_path / "state" / "u.db"), FileLedger(tmp_path / "state" / "u.db")
    first.add({A: ONE, A._replace(client="other"): ONE}, NOW, DAY)
    second.add({A: ONE}, NOW, DAY)
    two = [2 * figure for figure in ONE]
    assert first.read("acme", 0) == second.read("acme", NOW) == {A: two}
    first.close()
    second.close()
    third = FileLedger(tmp_path / "state" / "u.db")
    assert third.read("acme", 0) == {A: two}
    assert third.read("acme", NOW + HOUR) == third.read("nobody", 0) == {}
    third.close()


def test_what_is_old_goes():
    ledger = FileLedger(None)
    ledger.add({A: ONE}, NOW, DAY)
    later = A._replace(hour=A.hour + 24)
    ledger.add({later: ONE}, NOW + DAY, DAY)
    assert set(ledger.read("acme", 0)) == {A, later}
    ledger.add({later: ONE}, NOW + DAY + HOUR, DAY)
    assert set(ledger.read("acme", 0)) == {later}
    ledger.close()


def test_all_or_nothing():
    ledger = FileLedger(None)
    with pytest.raises(sqlite3.Error):
        ledger.add({A: ONE, Place("x", "y", "z", 1): [1, 2]}, NOW, DAY)
    assert ledger.read("acme", 0) == {}
    ledger.add({A: ONE}, NOW, DAY)
    assert ledger.read("acme", 0) == {A: ONE}
    ledger.close()
