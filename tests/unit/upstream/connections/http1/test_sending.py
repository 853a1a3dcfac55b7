"""A request on its way: framing, chunks, trailers, and what is read before more is written."""

from __future__ import annotations

import pytest

from gateway.config.tables.traffic import TimeoutsConfig
from gateway.protocols.crumbs import CRUMBS
from gateway.upstream.connections.interfaces import NEVER
from tests.unit.upstream.connections.http1.world import CHUNKED, Body, World


@pytest.mark.parametrize(
    ("method", "body", "framing", "sent", "follows"),
    [
        ("GET", None, b"", b"", False),
        ("POST", None, b"Content-Length: 0", b"", False),
        ("POST", Body(2, b"hi"), b"Content-Length: 2", b"hi", False),
        ("POST", Body(7), b"Content-Length: 7", b"", True),
        ("POST", Body(None), b"Transfer-Encoding: chunked", b"", True),
    ],
)
def test_how_a_body_is_framed(
    method: str, body: Body | None, framing: bytes, sent: bytes, follows: bool
) -> None:
    world = World()
    assert world.send(method, body) is follows
    assert world.head.startswith(method.encode() + b" /path HTTP/1.1\r\nHost: origin:1\r\n")
    assert framing in world.head
    assert (b"ength" in world.head or b"hunked" in world.head) is bool(framing)
    assert world.sent_body == sent


def test_chunks_and_their_end() -> None:
    world = World()
    world.send("POST", Body(None))
    assert world.connection.write(b"hello") is None
    world.connection.end()
    assert world.sent_body == b"5\r\nhello\r\n0\r\n\r\n"


def test_only_trailers_that_were_announced_and_mean_no_harm_follow_chunks() -> None:
    world = World()
    world.send("POST", Body(None), ("Trailer", "X-Sum, Host, X-Forwarded-For"))
    assert b"\r\nTrailer: x-sum\r\n" in world.head
    world.connection.end(
        [(b"X-Sum", b"1"), (b"Host", b"evil"), (b"X-Forwarded-For", b"evil"), (b"X-Other", b"2")]
    )
    assert world.sent_body == b"0\r\nX-Sum: 1\r\n\r\n"
    world = World()
    world.send("POST", Body(2), ("Trailer", "X-Sum"))
    assert b"Trailer" not in world.head, "a length leaves no place for them"
    world.connection.write(b"hi")
    world.connection.end([(b"X-Sum", b"1")])
    assert world.sent_body == b"hi"


def test_what_waits_to_be_read_is_read_before_more_is_written() -> None:
    world = World()
    world.send("POST", Body(None))
    world.unread = True
    room = world.connection.write(b"hello")
    assert room is not None
    assert world.sent_body == b""
    world.unread = False
    world.connection.data_received(CHUNKED + b"2\r\nok\r\n")
    assert world.sent_body == b"5\r\nhello\r\n", "it answers while it reads"
    assert room.done
    assert not world.connection.closed


def test_a_time_of_0_is_no_limit() -> None:
    world = World()
    world.send(timeouts=TimeoutsConfig(read=0.0, write=0.0))
    assert world.connection.deadline == NEVER
    world.connection.data_received(CHUNKED + b"2\r\nok\r\n")
    assert world.connection.deadline == NEVER


def test_a_body_in_crumbs_is_written_until_few_wait() -> None:
    """Each takes far more than its bytes."""
    world = World()
    world.send("POST", Body(1000))
    for _ in range(CRUMBS):
        assert world.socket.high is None
        assert world.connection.write(b"x") is None
    assert world.socket.high == 1
    world.connection.pause_writing()
    assert world.connection.write(b"x") is not None
    world.connection.resume_writing()
    assert world.socket.high is None
