"""Slow clients, with a clock of the test's: heads, bodies, answers that are not taken, connections
that are idle."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.tables.server import ServerConfig
from gateway.serving.net.deadlines import PROGRESS, Deadlines
from tests.unit.serving.memory import World

CONFIG = ServerConfig(header_timeout=10.0, body_timeout=20.0, write_timeout=30.0, idle_timeout=75.0)


class Swept(World):
    """A connection under deadlines; `unsent` is what its socket has not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[str] = []
        self.deadlines = Deadlines(self.counted.append)
        self.deadlines.configure(CONFIG)
        self.unsent = 0
        self.transport.get_write_buffer_size = lambda: self.unsent  # type: ignore[method-assign]

    def sweep(self, seconds: float) -> None:
        """Time passes, and the sweep comes."""
        self.now += seconds
        self.deadlines.sweep((self.connection,), self.now)


@pytest.fixture
async def world() -> Swept:
    return Swept()


async def test_a_head_that_takes_too_long_is_refused(world):
    world.feed(b"GET / HT")
    world.sweep(9)
    assert world.transport.state == "open"
    world.sweep(2)
    assert world.transport.take().startswith(b"HTTP/1.1 408 ") and world.transport.state == "closed"
    assert world.counted == ["header_timeout"]


async def test_a_head_behind_a_request_has_time_until_that_is_answered(world):
    world.feed(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\nGET / HT")
    world.sweep(11)
    assert world.transport.state == "open" and world.counted == []


async def test_a_connection_that_is_idle_is_closed_in_the_end(world):
    world.feed(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
    world.sweep(74)
    assert world.transport.state == "open"
    world.sweep(2)
    assert world.transport.state == "closed" and world.counted == []


async def test_what_lingers_is_closed_in_the_end(world):
    world.feed(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    assert world.transport.state == "half"
    world.connection.linger_until = world.now + 5
    world.sweep(4)
    assert world.transport.state == "half"
    world.sweep(2)
    assert world.transport.state == "closed"


async def test_a_body_must_get_on(world):
    world.feed(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    world.sweep(0)
    for _ in range(3):
        world.sweep(15)
        world.feed(bytes(PROGRESS))
        world.sweep(1)
    world.feed(b"a drop")
    world.sweep(19)
    assert world.counted == []
    world.sweep(2)
    assert world.counted == ["body_timeout"]
    assert world.transport.take().startswith(b"HTTP/1.1 408 ")


async def test_an_answer_must_be_taken(world):
    connection: Any = world.connection
    world.unsent = 100_000
    world.sweep(0)
    world.unsent -= PROGRESS
    world.sweep(29)
    world.sweep(29)
    assert world.transport.state == "open"
    world.sweep(2)
    assert world.counted == ["write_timeout"] and world.transport.state == "aborted"
    assert connection.transport is world.transport


async def test_streams_of_http2_have_deadlines_of_their_own():
    from gateway.protocols.http2 import session as http2
    from gateway.protocols.http2.session import Limits
    from tests.unit.serving.http2.world import World as Http2World

    world = Http2World(of_client=Limits(window=10))
    counted: list[str] = []
    deadlines = Deadlines(counted.append)
    deadlines.configure(CONFIG)
    world.transport.get_write_buffer_size = lambda: 0
    slow = world.client.request(
        [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/body")]
    )
    unread = world.ask("/" + "a" * 500)
    world.talk()
    for seconds in (0, 15, 15, 15):
        world.now += seconds
        deadlines.sweep((world.connection,), world.now)
    world.talk()
    assert sorted(counted) == ["body_timeout", "write_timeout"]
    assert world.answer_of(slow)[0] == 408
    assert unread in [one.stream_id for one in world.of(http2.StreamReset)]
    assert world.connection.state.name == "OPEN"
