"""Room for exchanges on a shared connection, signs of life, and when it closes by itself."""

from __future__ import annotations

import h2.events

from gateway.core.failures import Failure
from gateway.upstream.connections.http2.socket import PING_AFTER, PING_PATIENCE, RESETS
from tests.unit.upstream.connections.http2.world import World, goaways, resets


async def test_room_is_what_the_endpoint_says_and_is_found_as_long_as_there_is_some() -> None:
    world = World(most=2)
    assert world.connection.room == 2 and world.offers.has
    first, _ = world.send()
    second, _ = world.send()
    assert world.connection.room == 0 and not world.offers.has
    world.answer(first, end=True)
    assert world.connection.room == 1 and world.offers.has
    world.peer.update_settings({3: 1})
    world.exchange()
    assert world.connection.room == 0 and not world.offers.has
    world.answer(second, end=True)
    assert world.connection.room == 1 and world.offers.has
    assert repr(world.connection) == "<Http2Connection 127.0.0.1:1 open, 0 streams>"


async def test_one_on_which_nothing_may_begin_any_more_ends() -> None:
    """Kept, there would be ever more of them (RFC 9113 section 6.5.2: for short durations only)."""
    for busy in (True, False):
        world = World()
        stream, handler = world.send()
        if not busy:
            world.answer(stream, end=True)
        world.peer.update_settings({3: 0})
        world.exchange()
        assert not world.offers.has and world.connection.closed is not busy
        if busy:
            world.answer(stream, end=True)
        assert handler.told[-1].status == 200 and world.connection.closed


async def test_an_idle_connection_closes_with_goaway() -> None:
    world = World(keepalive=30.0)
    stream, _ = world.send()
    world.pass_time(5)
    world.answer(stream, end=True)
    world.pass_time(29)
    assert not world.connection.closed
    world.pass_time(2)
    assert world.connection.closed and world.socket.aborted
    world.events += world.peer.receive_data(world.socket.sent)
    assert goaways(world) == [0]


async def test_without_idle_connections_it_closes_with_its_last_exchange() -> None:
    world = World(keepalive=0.0)
    first, _ = world.send()
    second, handler = world.send()
    world.answer(first, end=True)
    assert not world.connection.closed
    world.answer(second, end=True)
    assert world.connection.closed and handler.told[-1].status == 200


async def test_a_silent_endpoint_is_asked_for_a_sign_of_life() -> None:
    """Only while something goes on, and seldom: servers of gRPC take more for an attack."""
    world = World(keepalive=3600.0)
    world.pass_time(PING_AFTER + 1)
    assert not world.events[-1:] or not isinstance(world.events[-1], h2.events.PingReceived)
    stream, handler = world.send(headers={})
    stream.deadline = float("inf")
    world.pass_time(PING_AFTER - 1)
    world.answer(stream)
    stream.deadline = float("inf")
    world.pass_time(2)
    world.exchange()
    pings = [event for event in world.events if isinstance(event, h2.events.PingReceived)]
    assert not pings and world.offers.has
    world.pass_time(PING_AFTER)
    assert not world.offers.has and world.connection.room == 0
    world.exchange()
    pings = [event for event in world.events if isinstance(event, h2.events.PingReceived)]
    assert len(pings) == 1 and world.offers.has
    world.pass_time(PING_AFTER)
    world.connection.flush()
    world.pass_time(PING_PATIENCE)
    assert world.connection.closed and handler.told[-1] is Failure.INCOMPLETE_RESPONSE


async def test_after_a_timeout_on_a_silent_connection_nothing_new_is_sent_on_it() -> None:
    world = World()
    _, handler = world.send()
    world.pass_time(10)
    assert handler.told == [(Failure.READ_TIMEOUT, False)]
    assert not world.offers.has
    other, refused = world.send()
    assert other.number  # One that had its place already is sent nevertheless.
    world.exchange()
    assert world.offers.has and not refused.told


async def test_a_timeout_beside_others_that_get_answers_is_no_reason_to_ask() -> None:
    world = World()
    world.send()
    other, _ = world.send()
    world.pass_time(9.9)
    world.answer(other)
    world.pass_time(0.2)
    world.exchange()
    assert world.offers.has
    assert not any(isinstance(event, h2.events.PingReceived) for event in world.events)


async def test_a_connection_with_many_resets_ends_with_what_is_on_it() -> None:
    """Not at once: others have exchanges on it."""
    world = World(most=1000)
    other, handler = world.send()
    burst, rate = RESETS
    for _ in range(burst):
        assert world.offers.has
        stream, _ = world.send()
        stream.give_up()
    world.pass_time(1)
    for _ in range(rate):
        assert world.offers.has
        stream, _ = world.send()
        stream.give_up()
    stream, _ = world.send()
    last, _ = world.send()
    stream.give_up()
    assert not world.offers.has and not world.connection.room
    last.give_up()
    world.exchange()
    assert len(resets(world)) == burst + rate + 2
    world.answer(other, end=True)
    assert handler.told[-1].status == 200 and world.connection.closed


async def test_nothing_is_written_while_the_socket_is_full() -> None:
    world = World()
    world.connection.pause_writing()
    world.send()
    assert not world.socket.sent and not world.peer.open_inbound_streams
    world.connection.resume_writing()
    world.exchange()
    assert world.peer.open_inbound_streams == 1
