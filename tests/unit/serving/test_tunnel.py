"""Tunnels over sockets made by hand: what real ones do only at moments that cannot be arranged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.serving.tunnel import CLOSING, LINGER, SWEEP, Tunnel, Tunnels
from tests.websocket import close, frame

MASK = b"\x00\x00\x00\x00"
GOING_AWAY = close(1001)


class Socket:
    """A transport. `end` hears of its closing when the test says `gone`."""

    def __init__(self, *, tls: bool = False) -> None:
        self.tls = tls
        self.sent = b""
        self.reading = True
        self.state = "open"
        self.options: list[tuple[Any, ...]] = []

    def write(self, data: bytes) -> None:
        assert self.state == "open"
        self.sent += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return not self.tls

    def write_eof(self) -> None:
        assert not self.tls
        self.state = "half"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def get_extra_info(self, name: str) -> Socket | None:
        return None if self.tls else self

    def setsockopt(self, *option: Any) -> None:
        self.options.append(option)


class World:
    def __init__(self, loop: Any, *, client_tls: bool = False, upstream_tls: bool = False) -> None:
        self.now = 100.0
        self.ended: list[Tunnel] = []
        self.tunnel = Tunnel(60.0, self, self.ended.append)  # type: ignore[arg-type]
        self.client, self.upstream = self.tunnel.client, self.tunnel.upstream
        self.to_client, self.to_upstream = Socket(tls=client_tls), Socket(tls=upstream_tls)
        self.client.transport = self.to_client  # type: ignore[assignment]
        self.upstream.transport = self.to_upstream  # type: ignore[assignment]

    def time(self) -> float:
        return self.now

    @property
    def states(self) -> tuple[str, str]:
        return self.to_client.state, self.to_upstream.state


@pytest.fixture
async def loop():
    return asyncio.get_running_loop()


@pytest.fixture
async def world(loop):
    return World(loop)


async def test_bytes_cross_and_are_counted(world):
    world.client.data_received(b"abc")
    world.upstream.data_received(b"defg")
    assert (world.to_upstream.sent, world.to_client.sent) == (b"abc", b"defg")
    assert (world.client.count, world.upstream.count) == (3, 4)
    assert "open, 3 bytes" in repr(world.tunnel) and "open, 4 bytes" in repr(world.tunnel)


async def test_a_slow_side_pauses_the_other_until_it_has_caught_up(world):
    world.client.pause_writing()
    assert (world.to_client.reading, world.to_upstream.reading) == (True, False)
    world.client.resume_writing()
    assert world.to_upstream.reading
    world.upstream.pause_writing()
    assert not world.to_client.reading


async def test_a_side_that_has_ended_is_not_read_again(world):
    world.client.pause_writing()
    assert world.upstream.eof_received() is True
    world.to_upstream.reading = False
    world.client.resume_writing()
    assert not world.to_upstream.reading
    assert "half-closed" in repr(world.upstream)


async def test_the_end_of_both_directions_is_the_end(world):
    assert world.client.eof_received() is True
    assert world.states == ("open", "half")
    assert world.upstream.eof_received() is False, "so its socket closes"
    world.upstream.connection_lost(None)
    assert world.states == ("closed", "half")
    assert world.ended == []
    world.client.connection_lost(None)
    assert world.ended == [world.tunnel]
    world.client.connection_lost(None)
    assert len(world.ended) == 1


async def test_tls_has_no_half_closed_connections(loop):
    world = World(loop, upstream_tls=True)
    assert world.client.eof_received() is False
    assert world.states == ("open", "open"), "closed by its being lost"
    world.client.connection_lost(None)
    assert world.states == ("open", "closed")
    world = World(loop, client_tls=True)
    assert world.client.eof_received() is False
    assert world.states == ("open", "half")


async def test_a_reset_over_tls_is_at_least_abrupt(loop):
    world = World(loop, upstream_tls=True)
    world.client.connection_lost(ConnectionResetError())
    assert world.states == ("open", "aborted")
    assert world.tunnel.reason == "client_reset"


async def test_a_reset_is_passed_on_as_one(world):
    world.upstream.connection_lost(ConnectionResetError())
    assert world.states == ("aborted", "open")
    assert len(world.to_client.options) == 1, "SO_LINGER"
    assert world.tunnel.reason == "upstream_reset"
    world.client.data_received(b"what nobody gets any more")
    world.client.pause_writing()
    world.client.resume_writing()
    assert world.to_upstream.sent == b""
    assert world.client.eof_received() is False


async def test_what_is_left_for_a_side_may_take_a_while(world):
    world.upstream.connection_lost(None)
    assert world.states == ("closed", "open")
    world.tunnel.check(world.now + LINGER - 1)
    assert world.to_client.state == "closed"
    world.tunnel.check(world.now + LINGER)
    assert world.to_client.state == "aborted"
    assert world.to_upstream.state == "open", "lost already"


async def test_idle_is_neither_way(world):
    world.client.data_received(frame(b"x", mask=MASK))
    world.tunnel.check(150.0)
    world.tunnel.check(209.0)
    assert world.states == ("open", "open") and not world.upstream.told
    world.upstream.data_received(frame(b"y"))
    world.tunnel.check(209.5)
    world.tunnel.check(269.0)
    assert not world.upstream.told
    world.tunnel.check(269.5)
    assert world.upstream.told and world.client.told
    assert world.tunnel.reason == "idle_timeout"
    assert world.to_client.sent == frame(b"y") + GOING_AWAY


async def test_told_once_however_often_it_has_to_go(world):
    world.tunnel.go_away("shutdown")
    world.tunnel.go_away("idle_timeout")
    assert (world.to_client.sent, len(world.to_upstream.sent)) == (GOING_AWAY, 8)
    assert world.tunnel.reason == "shutdown"
    world.tunnel.check(world.now + CLOSING)
    assert world.states == ("aborted", "aborted")


async def test_a_stop_shortens_what_is_left_to_be_taken(world):
    world.upstream.connection_lost(None)
    world.tunnel.go_away("shutdown")
    assert world.tunnel.reason == ""
    world.tunnel.check(world.now + CLOSING)
    assert world.to_client.state == "aborted"


async def test_each_side_is_closed_when_it_has_answered(world):
    world.tunnel.go_away("shutdown")
    world.client.data_received(frame(b"on its way", mask=MASK) + close(1001, MASK))
    assert world.states == ("closed", "open")
    world.client.connection_lost(None)
    assert world.states == ("closed", "open"), "it may still answer"
    world.upstream.data_received(close(1001))
    assert world.states == ("closed", "closed")
    assert world.to_client.sent == GOING_AWAY and len(world.to_upstream.sent) == 8


async def test_a_side_that_was_told_and_ends_is_closed(world):
    world.tunnel.go_away("shutdown")
    assert world.client.eof_received() is False
    assert world.to_upstream.state == "open", (
        "nor is the other's end closed, behind its Close frame"
    )


async def test_a_side_held_back_for_one_that_was_told_is_read_again(world):
    world.client.pause_writing()
    assert not world.to_upstream.reading
    world.tunnel.go_away("shutdown")
    assert world.to_upstream.reading
    world.client.pause_writing()
    assert world.to_upstream.reading, "what it says goes nowhere, so it cannot be too much"


async def test_a_close_frame_waits_for_the_frame_before_it(world):
    whole = frame(b"x" * 200)
    world.upstream.data_received(whole[:50])
    world.tunnel.go_away("shutdown")
    assert world.to_client.sent == whole[:50]
    assert len(world.to_upstream.sent) == 8, "the other direction need not wait"
    world.client.data_received(close(1001, MASK))
    assert world.to_client.state == "open", "it has not been told yet"
    world.upstream.data_received(whole[50:100])
    world.upstream.data_received(whole[100:] + frame(b"late") + close(1001))
    assert world.to_client.sent == whole + GOING_AWAY
    assert world.states == ("closed", "closed")


async def test_a_close_frame_that_is_passing_is_not_repeated(world):
    last = close(1000)
    world.upstream.data_received(last[:1])
    world.tunnel.go_away("shutdown")
    world.upstream.data_received(last[1:])
    assert world.to_client.sent == last
    world.client.data_received(close(1000, MASK))
    assert world.to_client.state == "closed"


async def test_those_who_are_closing_are_left_to_it(world):
    world.client.data_received(close(1000, MASK))
    world.tunnel.go_away("shutdown")
    world.upstream.data_received(close(1000))
    assert (world.to_client.sent, world.to_upstream.sent) == (close(1000), close(1000, MASK))
    assert world.states == ("open", "open"), "the endpoint closes"


async def test_a_direction_that_has_ended_cannot_be_told(world):
    assert world.client.eof_received() is True
    world.tunnel.go_away("shutdown")
    assert world.to_upstream.sent == b""
    assert world.states == ("open", "closed")


async def test_a_frame_that_never_ends_is_cut_off(world):
    world.upstream.data_received(frame(b"x" * 200)[:50])
    world.tunnel.go_away("shutdown")
    world.upstream.connection_lost(None)
    assert world.to_client.state == "closed"


async def test_the_rest_of_a_frame_for_a_side_that_is_gone(world):
    whole = frame(b"x" * 200, mask=MASK)
    world.client.data_received(whole[:50])
    world.tunnel.go_away("shutdown")
    world.upstream.connection_lost(None)
    sent = world.to_upstream.sent
    world.client.data_received(whole[50:])
    assert world.to_upstream.sent == sent


async def test_one_sweep_looks_at_all_of_them(loop):
    worlds = [World(loop) for _ in range(3)]
    live = Tunnels()
    for world in worlds:
        live.add(world.tunnel)
    live.sweep(100.0)
    assert len(live) == 3
    live.sweep(100.0 + SWEEP / 2)
    live.sweep(160.0)
    assert {world.tunnel.reason for world in worlds} == {"idle_timeout"}
    live.discard(worlds[0].tunnel)
    live.discard(worlds[0].tunnel)
    live.go_away("shutdown")
    assert len(live) == 2
