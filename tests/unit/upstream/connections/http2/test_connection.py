"""A connection that many exchanges share: room for them, signs of life, endpoints that break the
rules, and its end."""

from __future__ import annotations

import asyncio
import struct

import h2.errors
import h2.events
import pytest

from gateway.core.failures import Failed, Failure
from gateway.upstream.connections.http2 import connection as module
from gateway.upstream.connections.http2.socket import WINDOW
from tests.unit.upstream.connections.http2.world import Body, World


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


async def test_nothing_goes_out_before_the_settings_are_here() -> None:
    world = World(greet=False)
    assert not world.connection.ready.done and world.connection.room == 0
    world.connection.deadline = world.now + 5
    world.pass_time(5)
    with pytest.raises(Failed) as caught:
        await world.connection.ready
    assert caught.value.failure is Failure.CONNECT_TIMEOUT and world.socket.aborted


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", frame(6, bytes(8))])
async def test_what_does_not_begin_with_settings_is_no_connection(data: bytes) -> None:
    world = World(greet=False)
    if data:
        world.receive(data)
    else:
        world.connection.connection_lost(None)
    with pytest.raises(Failed, match="no HTTP/2") as caught:
        await world.connection.ready
    assert caught.value.failure is Failure.CONNECT_FAILED and world.connection.closed


async def test_goaway_ends_what_was_not_begun_and_lets_the_rest_go_on() -> None:
    world = World()
    first, told = world.send()
    _, refused = world.send(kept=True)
    world.receive(frame(7, struct.pack("!II", first.number, 0)))
    assert refused.told == [(Failure.NOT_RECEIVED, True)]
    assert not world.offers.has and not world.connection.closed
    late, unsent = world.send(kept=True)
    assert late.closed and unsent.told == [(Failure.NOT_RECEIVED, True)]
    world.answer(first, end=True)
    assert told.told[-1].status == 200 and world.connection.closed


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (frame(0, b"x", stream=0), "DATA on no stream"),
        (frame(8, struct.pack("!I", 0)), "a window update of 0"),
        (frame(8, struct.pack("!I", 2**31 - 1)), "a window that overflows"),
        (frame(4, bytes(5)), "SETTINGS of five bytes"),
        (frame(4, struct.pack("!HI", 4, 2**31)), "a window that is too large"),
        (frame(6, bytes(7)), "a PING of seven bytes"),
        (frame(5, bytes(8), 4, 1), "a push that was refused"),
        (frame(0, bytes(2**14), 0, 1) * (WINDOW // 2**14 + 1), "DATA beyond the window"),
        (frame(9, b"", 4, 1), "a continuation of nothing"),
        (frame(1, b"\x88", 0, 1) + frame(9, b"", 0, 1) * 100, "endless continuations"),
        (frame(1, b"\x88\xff\xff\xff\xff\xff\xff", 4, 1), "HPACK out of range"),
        (frame(0)[:-9] + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", "a frame of 16 MB"),
        (frame(1, b"\x88", 4, 2), "a stream of the server's"),
    ],
)
async def test_an_endpoint_that_breaks_the_rules(data: bytes, what: str) -> None:
    """All it has brought about is that its exchanges fail and the connection ends."""
    world = World()
    _, handler = world.send()
    if what == "DATA beyond the window":
        data = frame(1, b"\x88", 4, 1) + data
    world.receive(data)
    assert world.connection.closed, what
    assert handler.told[-1] in (Failure.BAD_RESPONSE, (Failure.BAD_RESPONSE, False)), what
    assert not world.connection.streams and not world.transport.open


async def test_a_header_list_that_grows_in_the_table_ends_the_connection() -> None:
    """An HPACK bomb: one field of 4,000 bytes, referred to by a byte each."""
    world = World()
    _, handler = world.send()
    field = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"x" * 4000
    world.receive(frame(1, b"\x88" + field + b"\xbe" * 8000, 4, 1))
    assert world.connection.closed and handler.told == [(Failure.BAD_RESPONSE, False)]


@pytest.mark.parametrize(
    "flood",
    [
        frame(6, bytes(8), 1),
        frame(8, struct.pack("!I", 1)),
        frame(4),
        frame(6, bytes(8)),
        frame(0, b"", 0, 1),
        frame(0xFA, b"x" * 10),
        frame(2, bytes(5), 0, 1),
    ],
)
async def test_frames_that_say_nothing_end_the_connection(
    flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_FRAMES", 1000)
    world = World()
    stream, handler = world.send()
    world.answer(stream)
    sent = 0
    while not world.connection.closed and sent < 50_000:
        world.receive(flood * 100)
        world.socket.sent = b""
        sent += 100
    # The codec counts what it skips, unknown frames and priorities, and is more patient.
    assert handler.told[-1] is Failure.BAD_RESPONSE
    assert sent <= (20_000 if flood[3] in (0xFA, 2) else 2000)


async def test_frames_that_bring_something_are_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_FRAMES", 50)
    world = World()
    stream, handler = world.send()
    world.answer(stream)
    for _ in range(100):
        world.receive(frame(0, b"x", 0, stream.number) + frame(8, struct.pack("!I", 1)))
    assert not world.connection.closed and handler.told[-1].status == 200


async def test_a_retired_connection_closes_behind_its_last_exchange() -> None:
    world = World()
    stream, handler = world.send()
    world.connection.retire()
    assert not world.offers.has and not world.connection.closed
    world.answer(stream, end=True)
    assert handler.told[-1].status == 200 and world.connection.closed
    idle = World()
    idle.connection.retire()
    assert idle.connection.closed


async def test_giving_it_up_resets_what_goes_on() -> None:
    world = World()
    stream, handler = world.send()
    world.answer(stream)
    world.connection.give_up()
    assert handler.told[-1] is Failure.CLIENT_GONE and world.connection.closed
    world.connection.give_up()


async def test_goaway_with_a_code_is_not_held_against_answers_under_way() -> None:
    world = World()
    stream, handler = world.send()
    code = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    world.receive(frame(7, struct.pack("!II", stream.number, code) + b"too_many_pings"))
    world.answer(stream, end=True)
    assert handler.told[-1].status == 200


async def test_frames_that_are_due_do_not_end_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Windows are opened for a long body, and pings ask for a sign of life now and then."""
    monkeypatch.setattr(module, "IDLE_FRAMES", 100)
    world = World()
    stream, handler = world.send("POST", body=Body())
    updates = frame(8, struct.pack("!I", 100)) + frame(8, struct.pack("!I", 100), 0, 1)
    for _ in range(500):
        stream.write(bytes(100))
        world.receive(updates)
        world.socket.sent = b""
    stream.deadline = world.connection.deadline = float("inf")
    for _ in range(500):
        world.pass_time(2)
        world.receive(frame(6, bytes(8)))
        world.socket.sent = b""
    assert not world.connection.closed and not handler.told
    world.receive(frame(6, bytes(8)) * 50)
    assert not world.connection.closed
    for _ in range(3):
        world.receive(frame(6, bytes(8)) * 50)
    assert handler.told == [(Failure.BAD_RESPONSE, False)]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_body_in_crumbs_does_not_keep_others_from_their_turn(lost: bool) -> None:
    """What is left waits for the loop's next turn, and nothing else is read meanwhile; a connection
    that is lost has brought it all the same."""
    world = World()
    stream, handler = world.send()
    world.answer(stream)
    crumbs = frame(0, b"x", 0, stream.number) * 20_000
    world.receive(crumbs)
    (reply,) = handler.told
    turns, last = 1, frame(0, b"y", 1, stream.number)
    assert world.socket.paused and len(await reply.body.read()) < 4000
    world.receive(last)
    if lost:
        world.connection.connection_lost(None)
    while handler.told[-1] != "ended":
        turns += 1
        await asyncio.sleep(0)
    assert turns == 1 if lost else turns > 5
    assert not world.socket.paused or lost
    read = b""
    while part := await reply.body.read():
        read += part
    assert read.count(b"x") > 16_000 and read.endswith(b"y")
    await asyncio.sleep(0)
