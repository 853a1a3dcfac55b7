"""Endpoints that send anything: whatever comes, every exchange has one outcome, and nothing is
raised or kept."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Reply
from gateway.core.failures import Failure
from gateway.upstream.connections.http2.stream import MAX_INTERIM
from tests.unit.upstream.connections.http2.test_connection import frame
from tests.unit.upstream.connections.http2.world import Body, Handler, World

KINDS = st.one_of(st.integers(0, 10), st.integers(0, 255))
FRAMES = st.tuples(
    KINDS,
    st.one_of(st.sampled_from((0, 1, 4, 5, 8, 0x20, 0x2D)), st.integers(0, 255)),
    st.sampled_from((0, 1, 3, 5, 2, 2**31 - 1)),
    st.one_of(st.binary(max_size=40), st.sampled_from((b"\x88", b"\x88\x0f\r\x015", bytes(4)))),
)


def check(world: World, handlers: list[Handler]) -> None:
    """At most one answer, and one end behind it where it arrives; nothing is left behind."""
    if not world.connection.closed:
        world.connection.connection_lost(None)
    for handler in handlers:
        told = [one for one in handler.told if not (isinstance(one, tuple) and one[0] in INTERIM)]
        assert 1 <= len(told) <= 2, told
        streams = isinstance(told[0], Reply) and not isinstance(told[0].body, bytes)
        assert len(told) == (2 if streams else 1), told
    assert not world.connection.streams and not world.transport.open


INTERIM = range(100, 200)


def begun() -> tuple[World, list[Handler]]:
    world = World()
    handlers = [world.send()[1], world.send("POST", body=Body())[1], world.send("HEAD")[1]]
    return world, handlers


def feed(world: World, data: bytes, rng: random.Random) -> None:
    """In pieces of any size."""
    while data and not world.connection.closed:
        size = rng.choice((1, 5, 9, 100, len(data)))
        world.connection.data_received(data[:size])
        data = data[size:]


@settings(max_examples=150, deadline=None)
@given(st.lists(FRAMES, max_size=12), st.randoms(use_true_random=False))
async def test_any_frames(frames: list[Any], rng: random.Random) -> None:
    world, handlers = begun()
    for kind, flags, stream, payload in frames:
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        feed(world, head + payload, rng)
    check(world, handlers)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.randoms(use_true_random=False))
async def test_any_bytes(data: bytes, rng: random.Random) -> None:
    world, handlers = begun()
    feed(world, data, rng)
    check(world, handlers)


def conversation(world: World) -> bytes:
    """What a good endpoint sends: an interim answer, bodies, trailers, a ping, a reset."""
    peer = world.peer
    peer.send_headers(1, [(":status", "103"), ("link", "</a>")])
    peer.send_headers(1, [(":status", "200"), ("content-length", "5"), ("x-a", "1")])
    peer.ping(b"12345678")
    peer.send_data(1, b"hello", end_stream=True)
    peer.send_headers(3, [(":status", "200")])
    peer.send_data(3, b"x" * 1000, pad_length=10)
    peer.increment_flow_control_window(1000)
    peer.send_headers(3, [("x-sum", "1")], end_stream=True)
    peer.reset_stream(5, 2)
    data: bytes = peer.data_to_send()
    return data


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 6))
async def test_good_frames_with_faults(rng: random.Random, faults: int) -> None:
    """Bytes changed, left out, doubled."""
    world, handlers = begun()
    data = bytearray(conversation(world))
    for _ in range(faults):
        at = rng.randrange(len(data))
        way = rng.randrange(3)
        if way == 0:
            data[at] = rng.randrange(256)
        elif way == 1:
            del data[at : at + rng.randrange(1, 12)]
        else:
            data[at:at] = data[at : at + rng.randrange(1, 30)]
    feed(world, bytes(data), rng)
    if not faults:
        assert isinstance(handlers[0].told[-1], Reply) and handlers[0].told[-1].body == b"hello"
        assert handlers[1].told[-1] == "ended"
    check(world, handlers)


async def test_a_connection_that_is_lost_at_any_byte() -> None:
    """Each exchange has its whole answer, or fails by its own reason; never a part for the whole."""
    lost = (Failure.CONNECTION_RESET, Failure.INCOMPLETE_RESPONSE)
    complete = [False, False]
    for size in range(len(conversation(begun()[0])) + 1):
        world, handlers = begun()
        world.receive(conversation(world)[:size])
        world.connection.connection_lost(None)
        check(world, handlers)
        short, long = handlers[0].told[-1], handlers[1].told
        if isinstance(short, Reply):
            assert (short.body, short.length, short.index[b"x-a"]) == (b"hello", 5, b"1")
        else:
            assert short[0] in lost and not short[1]
        if long[-1] == "ended":
            assert await long[0].body.read() == b"x" * 1000
            assert long[0].body.trailers == ((b"x-sum", b"1"),)
        else:
            assert long[-1] in lost or long[-1] == (Failure.CONNECTION_RESET, False)
        now = [isinstance(short, Reply), long[-1] == "ended"]
        assert now >= complete
        complete = now
    assert complete == [True, True]


async def test_the_other_codec_takes_what_is_sent() -> None:
    """Nothing that goes to the endpoint is odd, whatever it has sent."""
    world, handlers = begun()
    feed(world, conversation(world), random.Random(1))
    world.exchange()
    check(world, handlers)


async def test_heads_that_are_far_larger_than_what_came() -> None:
    """One field of 4,000 bytes in HPACK's table, and interim answers that name it by a byte, sixty
    times each: 64 KiB at a time that say 200 MB."""
    world = World()
    _, handler = world.send()
    interim = b"\x08\x03103"
    world.receive(frame(1, interim + b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000, 4, 1))
    flood = (
        frame(1, interim + b"\xbe" * 15, 4, 1) * 4 + frame(1, interim + b"\xbe" * 60, 4, 1) * 800
    )
    tracemalloc.start()
    world.receive(flood)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert handler.told[-1] == (Failure.BAD_RESPONSE, False) and len(handler.told) <= MAX_INTERIM
    assert peak < 80_000_000
