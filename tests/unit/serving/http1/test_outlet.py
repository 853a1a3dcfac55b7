"""What is written to a client of HTTP/1.1: interim answers, streams with back-pressure, and nothing
after the end."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Reply
from gateway.protocols.crumbs import CRUMB, CRUMBS
from tests.unit.serving.memory import World


@pytest.fixture
async def world() -> World:
    return World()


def begin(world: World, *lines: bytes, version: bytes = b"1.1") -> Any:
    """A request that waits for its answer; its exchange."""
    head = b"\r\n".join([b"GET /wait HTTP/" + version, b"Host: a", *lines, b"", b""])
    world.feed(head)
    return world.connection.exchange


async def test_interim_answers_come_before_the_final_one(world):
    exchange = begin(world)
    exchange.interim(103, [(b"Link", b"</a>; rel=preload")])
    exchange.interim(199, [])
    assert (
        world.transport.take()
        == b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 199 \r\n\r\n"
    )
    world.waits[0].wake()
    assert world.transport.take().startswith(b"HTTP/1.1 200 OK\r\n")
    exchange.interim(103, [])
    assert world.transport.take() == b"", "the request is over"


async def test_clients_of_http_1_0_know_none(world):
    assert begin(world, version=b"1.0").interim is None


async def test_continue_goes_on_once_to_a_client_that_waits_for_it(world):
    world.feed(
        b"POST /wait HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    exchange = world.connection.exchange
    assert exchange is not None and exchange.interim is not None
    exchange.interim(100, [])
    exchange.interim(100, [])
    assert world.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_continue_is_the_endpoints_affair_where_nobody_asked(world):
    begin(world).interim(100, [])
    assert world.transport.take() == b""


async def test_a_full_socket_is_to_be_waited_for(world):
    exchange, outlet = begin(world), world.connection
    outlet.begin(exchange, Reply(200, length=6))
    assert outlet.write(b"abc") is None
    outlet.pause_writing()
    room = outlet.write(b"def")
    assert room is not None and not room.done
    outlet.resume_writing()
    assert room.done
    assert world.transport.take().endswith(b"\r\n\r\nabcdef")


async def test_chunks_and_their_end(world):
    exchange, outlet = begin(world, b"TE: trailers", b"Connection: TE"), world.connection
    reply = Reply(200)
    reply.length = None
    outlet.begin(exchange, reply)
    outlet.write(b"abc")
    outlet.end(exchange, [(b"X-Sum", b"1")])
    assert world.transport.take().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")


async def test_a_client_that_is_gone_is_written_nothing(world):
    exchange, outlet = begin(world), world.connection
    outlet.connection_lost(None)
    outlet.send(exchange, Reply(200))
    outlet.begin(exchange, Reply(200, length=3))
    assert outlet.write(b"abc") is None
    outlet.end(exchange, ())
    outlet.interim(103, [])
    outlet.abort()
    assert world.transport.take() == b"" and not outlet.open


async def test_behind_the_last_chunk_no_size_of_another_begins(world):
    exchange = begin(world)
    outlet = world.connection
    outlet.begin(exchange, Reply(200, (), None))
    assert outlet.probe == b"0"
    outlet.end(exchange, ())
    assert outlet.probe == b""


async def test_an_answer_in_crumbs_is_written_until_few_wait(world):
    """Each takes far more than its bytes."""
    begin(world)
    for _ in range(CRUMBS):
        assert world.transport.high is None
        world.connection.write(b"x")
    assert world.transport.high == 1
    world.connection.pause_writing()
    world.connection.resume_writing()
    assert world.transport.high is None
    for _ in range(CRUMBS):
        world.connection.write(b"x" * CRUMB)
    assert world.transport.high is None
