"""gateway/serving/http2/sending.py: when what is sent goes out."""

from __future__ import annotations

import asyncio

import pytest

from gateway.protocols.crumbs import CRUMBS
from gateway.protocols.http2 import session as http2
from gateway.protocols.http2.session import Limits
from gateway.serving.http2.sending import PIECE
from tests.unit.serving.http2.world import World


@pytest.fixture
async def world() -> World:
    return World()


async def test_all_answers_of_one_piece_go_out_together(world):
    written: list[bytes] = []
    write = world.transport.write
    world.transport.write = lambda data: (written.append(data), write(data))
    for _ in range(30):
        world.ask("/a")
    world.talk()
    assert len(written) == 1 and len(world.of(http2.ResponseReceived)) == 30


async def test_a_socket_that_is_full_is_written_no_more(world):
    world.connection.pause_writing()
    stream = world.ask("/a")
    world.talk()
    assert world.answer_of(stream) == (0, b"")
    world.connection.resume_writing()
    world.talk()
    assert world.answer_of(stream) == (200, b"/a")


async def test_a_socket_gets_no_more_than_a_piece_before_it_can_say_no():
    roomy = Limits(window=10**7, connection_window=10**7)
    world = World(roomy, roomy)
    stream = world.ask("/body", method="POST", body=bytes(10 * PIECE))
    written: list[int] = []

    def write(data: bytes) -> None:
        written.append(len(data))
        world.connection.pause_writing()

    world.transport.write = write
    world.connection.data_received(world.client.pending())
    world.connection.data_received(world.client.pending())
    assert max(written) <= PIECE and world.session.queued(stream) >= 9 * PIECE - 1000


async def test_the_rest_of_a_body_is_stopped_behind_its_answer():
    """Not before: a reset drops what of the answer has no window yet."""
    world = World(of_client=Limits(window=10))
    path = b"/" + b"a" * 24
    stream = world.client.request(
        [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path)]
    )
    told = world.talk()
    while told:
        for event in told:
            if type(event) is http2.DataReceived:
                world.client.consumed(stream, len(event.data))
        told = world.talk()
    assert world.answer_of(stream) == (200, path)
    assert not world.connection.streams
    last = [type(event) for event in world.events if getattr(event, "stream_id", 0) == stream]
    assert last[-2:] == [http2.StreamReset, http2.StreamClosed]


async def test_answers_of_one_turn_of_the_loop_go_out_together(world):
    waiting = [world.ask("/wait") for _ in range(3)]
    world.talk()
    for one in world.waits[:2]:
        one.wake()
    assert world.transport.sent == b""
    await asyncio.sleep(0)
    world.talk()
    assert [world.answer_of(one)[0] for one in waiting] == [200, 200, 0]
    world.waits[2].wake()  # No other is left to wait for.
    assert world.transport.sent
    world.talk()
    assert world.answer_of(waiting[2])[0] == 200


async def test_what_waits_for_the_turns_end_goes_out_with_what_is_read_before(world):
    waiting = [world.ask("/wait") for _ in range(2)]
    world.talk()
    world.waits[0].wake()
    quick = world.ask("/a")
    world.talk()
    assert [world.answer_of(one)[0] for one in (*waiting, quick)] == [200, 0, 200]
    await asyncio.sleep(0)
    assert world.transport.sent == b""


async def test_small_pieces_are_written_until_few_wait(world):
    """Each takes far more than its bytes."""
    for _ in range(CRUMBS - 10):  # The beginning of the connection is some, too.
        world.client.ping()
        world.talk()
    assert world.transport.high is None
    for _ in range(10):
        world.client.ping()
        world.talk()
    assert world.transport.high == 1
    world.connection.pause_writing()
    world.connection.resume_writing()
    assert world.transport.high is None
