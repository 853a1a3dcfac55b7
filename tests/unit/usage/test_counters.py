"""Counting usage."""

from __future__ import annotations

from gateway.usage import counters
from gateway.usage.counters import OTHER, Place, Tally

A = Place("acme", "cameras", "GET", 100)


def test_figures():
    tally = Tally()
    for status in (101, 200, 204, 304, 404, 499, 503):
        tally.count(A, status, 10, 20, 1000)
    assert tally.cells == {A: [7, 3, 1, 2, 1, 70, 140, 7000]}


def test_a_tally_is_taken_and_given_back():
    tally = Tally()
    tally.count(A, 200, 1, 2, 3)
    taken = tally.take()
    assert tally.cells == {}
    tally.count(A, 500, 1, 1, 1)
    tally.add(taken)
    assert tally.cells == {A: [2, 1, 0, 0, 1, 2, 3, 4]}
    assert taken == {A: [1, 1, 0, 0, 0, 1, 2, 3]}


def test_strangers_do_not_grow_it(monkeypatch):
    monkeypatch.setattr(counters, "CELLS_MAX", 3)
    tally = Tally()
    for number in range(10):
        tally.count(A._replace(client=f"c{number}"), 200, 0, 0, 0)
    assert len(tally.cells) == 4
    assert tally.cells[A._replace(client=OTHER)][0] == 7
    tally.count(A._replace(client="c0"), 200, 0, 0, 0)
    assert tally.cells[A._replace(client="c0")][0] == 2
