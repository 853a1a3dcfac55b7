"""Cells of shared memory: who writes what, and what others read."""

from __future__ import annotations

import os

import pytest

from gateway.supervisor.board import Board, create


@pytest.fixture
def boards():
    descriptor = create()
    made = [Board(descriptor) for _ in range(3)]
    yield made
    for one in made:
        one.close()
    os.close(descriptor)


def test_connections_on_their_way_count_for_their_receiver(boards):
    first, second, _ = boards
    first.set_open(0, 5)
    second.set_open(1, 2)
    first.count_sent(0, 1, 3)
    assert first.loads(2) == second.loads(2) == {0: 5, 1: 5}
    second.emptied(1)
    second.set_open(1, 5)
    assert first.loads(2) == {0: 5, 1: 5}
    assert first.opened() == 10


def test_workers_that_are_away_have_no_load(boards):
    first, _, supervisor = boards
    supervisor.set_away(1, True)
    assert first.loads(3) == {0: 0, 2: 0}
    supervisor.set_away(1, False)
    assert first.loads(3) == {0: 0, 1: 0, 2: 0}


def test_a_worker_that_died_before_it_counted_leaves_nothing_behind(boards):
    first, second, _ = boards
    first.count_sent(0, 1, 7)  # and the worker dies with them
    restarted = second
    restarted.emptied(1)
    restarted.set_open(1, 0)
    assert first.load(1) == 0


def test_connections_of_an_address_count_over_all_workers(boards):
    first, second, supervisor = boards
    for board, worker in ((first, 0), (second, 1)):
        board.set_open(worker, 2)
        board.count_address(worker, "192.0.2.1", 2)
    second.count_address(1, "192.0.2.1", -1)
    assert supervisor.from_address("192.0.2.1") == 3
    others = [f"2001:db8:{number:x}::" for number in range(50)]
    assert sum(supervisor.from_address(other) == 0 for other in others) >= 49
    supervisor.forget(0)
    assert (supervisor.from_address("192.0.2.1"), supervisor.opened()) == (1, 2)


def test_another_process_sees_it(boards):
    first, _, _ = boards
    child = os.fork()
    if child == 0:
        Board(first.descriptor).set_open(3, 99)
        os._exit(0)
    os.waitpid(child, 0)
    assert first.load(3) == 99
