"""One connection: batches, deadlines, answers that come late, and what is no Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.drive import Drive
from gateway.store.redis.connection import Answered, Command, Connection
from gateway.store.stores import StoreDown


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


def made(deadline: float = 5.0) -> tuple[Connection, Wire, list[Any]]:
    heard: list[Any] = []
    connection = Connection(
        deadline,
        lambda ask, answer: (heard.append(answer), ask.wake(answer))[0],
        lambda: heard.append("late"),
        lambda connection: heard.append("lost"),
    )
    return connection, Wire(), heard


async def test_what_is_sent_before_there_is_a_connection_goes_out_with_it():
    connection, wire, _ = made()
    ask = Command((b"PING",))
    connection.send(ask)
    await asyncio.sleep(0)
    assert repr(connection) == "<Connection 1 waiting>"
    connection.connection_made(wire)
    assert wire.written == b"*1\r\n$4\r\nPING\r\n"
    connection.data_received(b"+PO")
    connection.data_received(b"NG\r\n")
    assert await ask == b"PONG"


async def test_a_closed_one_takes_nothing():
    connection, wire, _ = made()
    connection.close()
    connection.close()
    assert repr(connection) == "<Connection 0 waiting closed>"
    connection.connection_made(wire)
    assert wire.aborted
    ask = Command((b"PING",))
    connection.send(ask)
    with pytest.raises(StoreDown, match="closed"):
        await ask
    connection.connection_lost(None)


async def test_late_ones_fail_and_their_answers_are_dropped():
    connection, wire, heard = made(0.001)
    connection.connection_made(wire)
    first, second = Command((b"A",)), Command((b"B",))
    connection.send(first)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(StoreDown, match="within 1 ms"):
        await first
    connection.send(second)
    connection.data_received(b"+late\r\n+soon\r\n")
    assert await second == b"soon" and heard == ["late", b"soon"]
    await asyncio.sleep(0.01)
    assert heard == ["late", b"soon"]


async def test_a_batch_that_is_answered_within_the_grace():
    connection, wire, heard = made()
    connection.connection_made(wire)
    ask = Command((b"A",))
    connection.send(ask)
    await asyncio.sleep(0)
    connection._due(1, 5.0)
    connection.data_received(b"+x\r\n")
    connection._give_up(1, 5.0)
    assert heard == [b"x"]
    connection.send(Command((b"B",)))
    connection.close()
    await asyncio.sleep(0)  # the flush finds it closed


async def test_nonsense_ends_it():
    connection, wire, heard = made()
    connection.connection_made(wire)
    ask = Command((b"A",))
    connection.send(ask)
    connection.data_received(b"nonsense\r\n")
    with pytest.raises(StoreDown):
        await ask
    assert wire.aborted and heard == ["lost"]


async def test_what_waits_may_send_again_while_others_fail():
    """Failing a command resumes what awaits it at once, in the middle of giving up a batch."""
    connection, wire, heard = made()
    connection.connection_made(wire)

    async def twice() -> Any:
        first = Command((b"A",))
        connection.send(first)
        with pytest.raises(StoreDown):
            await first
        second = Command((b"B",))
        connection.send(second)
        return await second

    over: list[Any] = []
    for _ in range(3):
        Drive(twice(), lambda value, error: over.append(value or error)).start()
    await asyncio.sleep(0)
    connection._give_up(3, 5.0)
    await asyncio.sleep(0)
    connection.data_received(b"+late\r\n" * 3 + b"+soon\r\n" * 3)
    assert over == [b"soon"] * 3 and heard == ["late", *[b"soon"] * 3]


async def test_a_callback_hears_the_outcome_once():
    connection, wire, _ = made()
    connection.connection_made(wire)
    heard: list[Any] = []
    for _ in range(2):
        command = Answered((b"A",))
        command.callback = heard.append
        connection.send(command)
    connection.data_received(b"+x\r\n")
    connection.close()
    assert heard == [b"x", None]
