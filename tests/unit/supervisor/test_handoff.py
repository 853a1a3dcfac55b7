"""Where a connection goes, and that none is lost on its way."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.supervisor import handoff
from gateway.supervisor.board import Board, create
from gateway.supervisor.handoff import (
    CONNECTIONS,
    PEER,
    Dealer,
    Inbox,
    inbox,
    receive,
    receiver,
    send,
)


@pytest.mark.parametrize(
    ("mine", "loads", "expected"),
    [
        (0, {}, None),
        (0, {1: 0}, None),
        (1, {1: 0}, 1),
        (1, {1: 1, 2: 0}, 2),
        (17, {1: 16}, None),
        (18, {1: 16}, None),
        (19, {1: 16}, 1),
    ],
)
def test_examples(mine, loads, expected):
    assert receiver(mine, loads) == expected


@given(st.dictionaries(st.integers(0, 8), st.integers(0, 10_000)), st.integers(0, 10_000))
def test_it_goes_to_the_fewest_or_stays(loads, mine):
    chosen = receiver(mine, loads)
    if chosen is None:
        assert not loads or mine <= min(loads.values()) * 9 / 8
    else:
        assert loads[chosen] == min(loads.values()) < mine


@given(
    workers=st.integers(2, 8),
    accepts=st.lists(st.integers(0, 7), min_size=1, max_size=400),
)
def test_whoever_accepts_the_shares_are_equal(workers, accepts):
    """Any order of accepting, when the counts are known."""
    loads = dict.fromkeys(range(workers), 0)
    for who in accepts:
        me = who % workers
        other = receiver(loads[me], {one: load for one, load in loads.items() if one != me})
        loads[me if other is None else other] += 1
    fewest = min(loads.values())
    assert max(loads.values()) <= fewest + fewest // 8 + 1


@pytest.fixture
def board():
    descriptor = create()
    made = Board(descriptor)
    yield made
    made.close()
    os.close(descriptor)


def connections(count: int) -> list[tuple[socket.socket, socket.socket]]:
    return [socket.socketpair() for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 101, 600])
def test_a_worker_hands_over_half_of_a_burst(board, count):
    sending, receiving = inbox()
    dealer = Dealer(0, board, 0)
    dealer.peers[1] = sending
    pairs = connections(count)
    dealer.begin()
    kept = [theirs for _, theirs in pairs if not dealer.gives(theirs)]
    kept += dealer.end()
    assert len(kept) == pytest.approx(count / 2, rel=0.07, abs=0.5)
    got: list[socket.socket] = []
    while (message := receive(receiving)) is not None:
        assert message[:2] == (CONNECTIONS, 0)
        got += message[2]
    assert len(got) + len(kept) == count
    for number, (ours, _) in enumerate(pairs):
        ours.send(b"%d" % number)
    assert {one.recv(10) for one in (*kept, *got)} == {b"%d" % number for number in range(count)}
    for one in (*kept, *got, sending, receiving, *(ours for ours, _ in pairs)):
        one.close()


def test_what_an_inbox_does_not_take_is_kept(board, monkeypatch):
    monkeypatch.setattr(handoff, "send", lambda *message: False)
    dealer = Dealer(0, board, 0)
    sending, receiving = inbox()
    dealer.peers[1] = sending
    pairs = connections(4)
    dealer.begin()
    for _, theirs in pairs:
        dealer.gives(theirs)
    assert len(dealer.end()) == 2
    assert board.load(1) == 0
    for one in (sending, receiving, *(end for pair in pairs for end in pair)):
        one.close()


async def test_an_inbox_gives_what_it_got(board):
    sending, receiving = inbox()
    taken: list[int] = []
    met: list[int] = []

    def take(listener: int, one: socket.socket) -> None:
        taken.append(listener)
        one.close()

    def meet(worker: int, one: socket.socket) -> None:
        met.append(worker)
        one.close()

    box = Inbox(1, receiving, board, take, meet)
    pairs = connections(3)
    board.count_sent(0, 1, 1)
    send(sending, CONNECTIONS, 0, [pairs[0][1].fileno()])
    box.start()  # what waited before is taken, too
    assert (taken, board.load(1)) == ([0], 0)
    send(sending, PEER, 4, [pairs[1][1].fileno()])
    send(sending, CONNECTIONS, 1, [pairs[2][1].fileno()])
    await asyncio.sleep(0.01)
    box.empty()
    assert (taken, met) == ([0, 1], [4])
    box.stop()
    for one in (sending, receiving, *(end for pair in pairs for end in pair)):
        one.close()


def test_what_is_handed_over_is_not_for_programs_that_are_executed():
    sending, receiving = inbox()
    handed, other = socket.socketpair()
    send(sending, CONNECTIONS, 0, [handed.fileno()])
    message = receive(receiving)
    assert message is not None
    [taken] = message[2]
    assert not taken.get_inheritable()
    for one in (sending, receiving, handed, other, taken):
        one.close()
