"""gateway/serving/http2/connection.py: many streams, its end, and what a client may not do."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.failures import Failed, Failure
from gateway.protocols.http2 import session as http2
from gateway.protocols.http2.frames import CONTINUATION, DATA, HEADERS, RST_STREAM
from gateway.protocols.http2.session import ErrorCode, Limits
from gateway.serving.http2.connection import DROPPED, FRAMES, LINGER, RESETS, ROUND_TRIP, State
from tests.unit.protocols.http2.test_frames import END, PING, WHOLE, frame
from tests.unit.serving.http2.world import World

CALM = ErrorCode.ENHANCE_YOUR_CALM
GET = b"\x82\x86\x84\x41\x01c"
WAIT = b"\x82\x86\x04\x05/wait\x41\x01c"
WINDOW_UPDATE, SETTINGS, PRIORITY_UPDATE = 8, 4, 16


@pytest.fixture
async def world() -> World:
    return World()


async def test_many_streams_are_answered_as_they_are_ready(world):
    waiting = [world.ask("/wait/1"), world.ask("/wait/2")]
    quick = world.ask("/a")
    world.talk()
    assert world.answer_of(quick) == (200, b"/a")
    world.waits[1].wake()
    await asyncio.sleep(0)
    world.talk()
    assert [world.answer_of(one)[0] for one in waiting] == [0, 200]
    world.waits[0].wake()
    world.talk()
    assert world.answer_of(waiting[0]) == (200, b"/wait/1")
    assert repr(world.connection) == "<Http2Connection 192.0.2.1 open, 0 streams>"


async def test_a_lost_connection_gives_everything_up(world):
    world.ask("/wait/1")
    world.ask("/wait/2")
    world.talk()
    assert not world.connection.eof_received()
    world.connection.connection_lost(None)
    assert world.finished == ["/wait/1", "/wait/2"] and world.in_flight.level == 0
    assert world.lost == 1 and "closed" in repr(world.connection)
    world.connection.flush()
    world.connection.abort()


async def test_bytes_for_a_stream_that_is_gone_are_let_in(world):
    """Else the connection's window would close for all the others."""
    for _ in range(5):
        stream = world.client.request(
            [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/a")]
        )
        world.client.send(stream, bytes(30_000), end=False)
        world.talk()
    assert world.session._connection.local_window_size > 30_000


# How it ends.


async def test_a_graceful_end_takes_what_is_on_its_way(world):
    waiting = world.ask("/wait")
    world.talk()
    world.connection.leave()
    late = world.ask("/late") or None  # The client does not know yet.
    world.talk()
    assert world.goaway == ErrorCode.NO_ERROR and world.connection.state is State.LAST
    if late:
        assert world.answer_of(late) == (200, b"/late")
    assert world.transport.state == "open" and world.connection.busy
    world.waits[0].wake()
    world.talk()
    assert world.answer_of(waiting) == (200, b"/wait")
    assert world.transport.state == "half" and world.connection.state is State.ENDED
    assert world.ended == []


async def test_a_client_that_does_not_answer_has_a_round_trips_time(world):
    world.ask("/wait")
    world.talk()
    world.connection.leave()
    world.transport.take()
    world.connection.check(world.connection._leaving_since + ROUND_TRIP / 2)
    assert world.connection.state is State.LEAVING
    world.connection.check(world.connection._leaving_since + ROUND_TRIP + 0.1)
    assert world.connection.state is State.LAST


async def test_a_listener_that_drains_ends_it(world):
    world.draining = True
    world.connection.check(world.now)
    world.talk()
    assert world.connection.state is State.ENDED and world.goaway == 0


async def test_the_last_of_so_many_requests():
    world = World(max_requests=3)
    for _ in range(3):
        assert world.get("/a")[0] == 200
    assert world.goaway == 0 and world.transport.state == "half"
    assert world.ask("/a") == 0


async def test_close_waits_for_the_client_to_read_the_end(world, monkeypatch):
    world.connection.close()
    world.talk()
    assert world.transport.state == "half"
    world.connection.close()
    assert world.transport.state == "half"
    world.connection.linger_until -= LINGER + 1
    world.connection.close()
    assert world.transport.state == "closed"
    world.connection.data_received(b"whatever")


async def test_over_tls_there_is_no_half_closing(world):
    world.transport.can_write_eof = lambda: False
    world.connection.close()
    world.talk()
    assert world.transport.state == "closed"


async def test_a_client_that_has_reset_the_connection(world):
    def write_eof() -> None:
        raise OSError

    world.transport.write_eof = write_eof
    world.connection.close()
    world.talk()
    assert world.transport.state == "aborted"


async def test_a_client_that_is_told_the_end_and_goes_on_is_left_to_the_kernel(world):
    world.connection.refuse(Failed(Failure.RATE_LIMITED))
    for _ in range(4):
        world.raw(bytes(DROPPED // 4))
        assert world.transport.reading
    world.raw(bytes(1))
    assert not world.transport.reading
    world.raw(bytes(1))
    assert world.transport.state == "half"


async def test_a_client_that_leaves(world):
    world.client.goaway(ErrorCode.PROTOCOL_ERROR)
    world.talk()
    assert world.transport.state == "half" and world.ended == []


async def test_abuse_of_a_client_that_leaves_counts(world):
    world.ask("/wait")
    world.client.goaway(ErrorCode.NO_ERROR)
    world.talk()
    assert world.transport.state == "open"
    world.raw(frame(WINDOW_UPDATE, 0, bytes(4)))
    assert world.transport.state == "half" and world.ended == ["protocol_error"]


async def test_a_client_that_leaves_for_an_error_is_heard_no_more(world):
    """Else nothing it did could be told from what it says was done to it."""
    world.ask("/wait")
    world.client.goaway(ErrorCode.PROTOCOL_ERROR)
    world.talk()
    assert world.connection.state is State.ENDED and not world.connection.streams
    world.raw(frame(WINDOW_UPDATE, 0, bytes(4)))
    assert world.transport.state == "half" and world.ended == []


async def test_a_refused_connection_is_told(world):
    world.connection.refuse(Failed(Failure.RATE_LIMITED), linger=False)
    world.connection.refuse(Failed(Failure.RATE_LIMITED))
    world.talk()
    assert world.goaway == CALM and world.transport.state == "half"
    assert not world.connection.awaiting_head


async def test_what_deadlines_ask_of_connections_means_nothing_here(world):
    world.connection.give_up_body(Failed(Failure.REQUEST_TIMEOUT))
    world.connection.look_for_end()
    assert world.connection.body is None and not world.connection.holds
    assert world.connection.awaiting_head


async def test_a_head_that_does_not_end_is_noticed(world):
    world.raw(frame(HEADERS, 1, b"\x82"))
    assert world.connection.head_since == world.now
    world.raw(frame(9, 1, b"\x86\x84\x41\x01c", WHOLE))
    assert not world.connection.head_since


async def test_a_head_that_belongs_to_no_stream_leaves_the_connection_idle(world):
    """Trailers, in pieces, for a request that has been answered and cut: nothing is told of them."""
    world.raw(frame(HEADERS, 1, b"\x83\x86\x84\x41\x01c", WHOLE))
    assert not world.connection.streams and world.connection.idle_since
    world.raw(frame(HEADERS, 1, b"\x00\x01x", END))
    assert world.connection.head_since and not world.connection.idle_since
    world.raw(frame(CONTINUATION, 1, b"\x01y", WHOLE))
    assert world.connection.state is State.OPEN
    assert not world.connection.head_since and world.connection.idle_since


# What a client may not do.


def flood(world: World, data: bytes, count: int) -> None:
    """The client sends `data` so many times, and reads what it gets."""
    for _ in range(count):
        if world.connection.state is State.ENDED:
            return
        world.raw(data)


async def test_rapid_reset(world):
    """CVE-2023-44487: streams that are given up before they are answered cost an upstream each."""
    for _ in range(RESETS[0] + 20):
        stream = world.ask("/wait")
        world.talk()
        world.client.reset(stream)
        world.talk()
        if world.connection.state is State.ENDED:
            break
    assert len(world.waits) == RESETS[0] + 1
    assert world.goaway == CALM and world.ended == ["resets"]
    assert world.in_flight.level == 0


async def test_resets_in_one_piece_begin_nothing_and_count_as_well(world):
    piece = b"".join(
        frame(HEADERS, stream, WAIT, WHOLE | END) + frame(RST_STREAM, stream, bytes(3) + b"\x08")
        for stream in range(1, 2 * RESETS[0] + 40, 2)
    )
    world.raw(piece)
    assert world.waits == []
    assert world.goaway == CALM and world.ended == ["resets"]


async def test_what_the_gateway_breaks_off_is_not_its_clients_mistake(world):
    for _ in range(RESETS[0] + 20):
        world.ask("/wait")
        world.talk()
        (stream,) = world.connection.streams.values()
        stream.abort()
        world.talk()
    assert world.ended == [] and world.connection.state is State.OPEN
    assert world.in_flight.level == 0


async def test_resets_of_a_stream_that_has_ended_are_bounded(world):
    assert world.get("/a")[0] == 200
    flood(world, frame(RST_STREAM, 1, bytes(3) + b"\x08"), FRAMES[0] + 20)
    assert world.goaway == CALM and world.ended == ["frames"]


async def test_streams_that_its_mistakes_end_count_as_well(world):
    """CVE-2025-8671: the gateway resets them, at the client's wish."""
    stream = 1
    while world.connection.state is not State.ENDED:
        world.raw(frame(HEADERS, stream, b"\x83" + WAIT[1:] + b"\x0f\x0d\x010", WHOLE))
        world.raw(frame(DATA, stream, b"more than its length"))
        stream += 2
    assert stream == 2 * RESETS[0] + 3
    assert world.goaway == CALM and world.ended == ["resets"]


async def test_a_mistake_right_behind_a_request_is_told_at_once(world):
    world.raw(frame(HEADERS, 1, WAIT, WHOLE | END) + frame(WINDOW_UPDATE, 1, bytes(4)))
    assert world.goaway == ErrorCode.PROTOCOL_ERROR and world.finished == ["/wait"]


async def test_malformed_requests_are_bounded(world):
    bad = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b"connection", b"x")]
    for _ in range(RESETS[0] + 20):
        if not world.client.request(bad, end=True):
            break
        world.talk()
    assert world.finished == [] and world.ended == ["resets"] and world.goaway == CALM


@pytest.mark.parametrize(
    "data",
    [
        frame(PING, 0, bytes(8)),
        frame(SETTINGS, 0, b"\0\x04\0\0\xff\xff"),
        frame(WINDOW_UPDATE, 0, b"\0\0\0\x01"),
        frame(PRIORITY_UPDATE, 0, b"\0\0\0\x01u=1"),
        frame(2, 1, b"\0\0\0\0\x10"),
        frame(200, 5, bytes(100)),
    ],
    ids=["ping", "settings", "window", "priority update", "priority", "unknown"],
)
async def test_frames_that_bring_no_work_are_bounded(world, data):
    flood(world, data * 10, FRAMES[0] // 5)
    assert world.goaway == CALM and world.ended == ["frames"]


async def test_empty_data_is_bounded(world):
    world.raw(frame(HEADERS, 1, GET.replace(b"\x82", b"\x83"), WHOLE))
    flood(world, frame(DATA, 1) * 10, FRAMES[0] // 5)
    assert world.goaway == CALM and world.ended == ["frames"]


async def test_resets_of_what_is_gone_are_bounded(world):
    assert world.get("/a")[0] == 200
    flood(world, frame(3, 1, bytes(4)) * 10, FRAMES[0] // 5)
    assert world.goaway == CALM and world.ended == ["frames"]


async def test_windows_of_a_byte_are_bounded():
    """Each makes a frame of one byte: ten bytes of work for one of the answer."""
    world = World(of_client=Limits(window=0))
    world.ask("/a" * 2000)
    world.talk()
    flood(world, frame(WINDOW_UPDATE, 1, b"\0\0\0\x01"), 5 * FRAMES[0])
    assert world.goaway == CALM and world.ended == ["frames"]


async def test_an_honest_clients_acknowledgements_are_no_flood():
    world = World(of_client=Limits(window=2000, connection_window=65535))
    for _ in range(200):
        stream = world.ask("/" + "a" * 4000)
        for _ in range(10):
            for event in world.talk():
                if type(event) is http2.DataReceived:
                    world.client.consumed(stream, len(event.data))
        assert world.answer_of(stream)[0] == 200
        world.events.clear()
    assert world.ended == []


async def test_a_continuation_flood_ends_the_connection(world):
    world.raw(frame(HEADERS, 1, b"\x82"))
    flood(world, frame(9, 1, b"\0\x01x\x01a"), 100)
    assert world.ended == ["enhance_your_calm"] and world.transport.state == "half"


async def test_a_bomb_of_hpack_ends_the_connection(world):
    """One field of the dynamic table, named again and again: a byte each."""
    field = b"\x40\x01x\x7f\xa0\x1e" + b"a" * 3999
    world.raw(frame(HEADERS, 1, GET + field + b"\xbe" * 9000, WHOLE | END))
    assert world.ended == ["enhance_your_calm"] and world.finished == []


async def test_streams_beyond_the_limit_are_refused():
    world = World(limits=Limits(streams=3))
    for number in range(1, 11, 2):
        world.raw(frame(HEADERS, number, GET + b"\x04\x05/wait", WHOLE | END))
    assert len(world.connection.streams) <= 3


async def test_refused_streams_are_bounded():
    world = World(limits=Limits(streams=1))
    number = 1
    while world.connection.state is not State.ENDED and number < 20_000:
        world.raw(b"".join(frame(HEADERS, number + n, WAIT, WHOLE | END) for n in range(0, 40, 2)))
        number += 40
    assert number < 10_000


async def test_answers_that_are_not_read_take_no_memory(world):
    world.connection.pause_writing()
    flood(world, frame(PING, 0, bytes(8)), 2000)
    assert world.connection.state is State.ENDED


async def test_what_is_not_http2_is_told(world):
    world.raw(b"GET / HTTP/1.1\r\n\r\n" * 5)
    assert world.connection.state is State.ENDED and world.transport.state == "half"
    assert len(world.ended) == 1
