"""Looking after a client that sends nothing more: how often, with what, and when it has left."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.serving.http1 import departure
from gateway.serving.http1.departure import Departure, has_ended
from tests.until import until


class World:
    """A connection of a client whose socket is `peer`."""

    def __init__(self, probe: bytes = b"0") -> None:
        self.mine, self.peer = socket.socketpair()
        self.aborted = asyncio.Event()
        self.written: list[bytes] = []
        self.given_away = False
        self.probe = probe
        self.body: Any = None
        self.exchange: Any = SimpleNamespace(written=True, bytes_out=0)
        self.transport: Any = SimpleNamespace(
            get_extra_info=lambda name: self.mine,
            abort=self._abort,
            write=self.written.append,
        )

    def _abort(self) -> None:
        self.aborted.set()
        self.transport = None

    def close(self) -> None:
        self.transport = None
        self.mine.close()
        self.peer.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(departure, "GRACE", 0.002)
    monkeypatch.setattr(departure, "REPLY", 0.001)
    monkeypatch.setattr(departure, "QUIET", 0.02)
    made = World()
    yield made
    made.close()


def looks(world: World, number: int) -> Departure:
    """A Departure that has looked `number` times, with nothing in between."""
    made = Departure(world)  # type: ignore[arg-type]
    for _ in range(number):
        made._look()
    return made


async def test_one_that_waits_is_sent_something_ever_more_seldom(world):
    looks(world, 40)
    assert world.written == [b"0"] * 6  # After 1, 2, 4, 8, 16 and 32 looks.
    assert not world.aborted.is_set()


async def test_there_is_an_end_of_that(world, monkeypatch):
    monkeypatch.setattr(departure, "MAX_LOOKS", 8)
    looks(world, 40)
    assert len(world.written) == 4


async def test_an_answer_that_gets_on_begins_anew(world):
    made = looks(world, 4)
    world.exchange.bytes_out = 5
    made._look()
    assert len(world.written) == 4


async def test_one_that_has_left_is_ended(world):
    world.peer.close()
    Departure(world)
    await asyncio.wait_for(world.aborted.wait(), 10)


async def test_where_nothing_can_be_sent_it_is_silence_that_counts(world):
    world.probe = b""
    Departure(world)
    await asyncio.wait_for(world.aborted.wait(), 10)
    assert world.written == []


@pytest.mark.parametrize(
    "busy",
    [
        pytest.param(lambda world: setattr(world, "exchange", None), id="between requests"),
        pytest.param(
            lambda world: (
                setattr(world.exchange, "written", False),
                setattr(world, "body", SimpleNamespace(received=False)),
            ),
            id="while its body is read",
        ),
    ],
)
async def test_but_not_where_the_client_is_not_waited_for(world, busy):
    world.probe = b""
    busy(world)
    made = Departure(world)
    made._quiet_since -= 100
    made._look()
    assert not world.aborted.is_set()


async def test_nothing_is_looked_at_any_more(world):
    world.given_away = True
    world.peer.close()
    looks(world, 3)
    world.transport = None
    looks(world, 3)
    assert world.written == [] and not world.aborted.is_set()


async def test_the_end_is_seen_behind_what_has_not_been_read():
    world = World()
    world.peer.sendall(b"unread")
    transport = world.transport
    assert not has_ended(transport)
    world.peer.shutdown(socket.SHUT_WR)
    await until(lambda: has_ended(transport))
    world.close()
