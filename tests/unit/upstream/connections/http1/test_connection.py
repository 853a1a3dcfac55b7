"""An exchange on a connection: what is told, in which order, and what becomes of the connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.failures import Failure
from gateway.upstream.connections.interfaces import NEVER
from gateway.upstream.connections.stream import HIGH_WATER
from tests.unit.upstream.connections.http1.world import CHUNKED, OK, Body, World


def test_an_early_answer_ends_the_exchange_and_the_connection() -> None:
    world = World()
    world.send("POST", Body(100))
    world.unread = True
    world.connection.write(b"hello")
    world.connection.data_received(OK)
    (reply,) = world.told
    assert (reply.status, reply.body) == (200, b"ok")
    assert world.socket.aborted
    assert world.sent_body == b""
    assert world.connection.write(b"more") is None
    world.connection.end()
    assert world.sent_body == b""


def test_an_answer_that_came_before_a_failed_write_is_saved() -> None:
    world = World()

    class Saving(type(world.connection)):  # type: ignore[misc]
        __slots__ = ()

        def salvage(self) -> bytes:
            return OK

    world.connection.__class__ = Saving
    world.send("POST", Body(100))
    world.connection.connection_lost(BrokenPipeError())
    (reply,) = world.told
    assert reply.body == b"ok"
    assert world.endpoint.idle == []


def test_interim_answers_are_told_first() -> None:
    world = World()
    world.send()
    world.connection.data_received(
        b"HTTP/1.1 103 E\r\nLink: </a>\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + OK
    )
    *interim, reply = world.told
    assert interim == [(103, [(b"Link", b"</a>")]), (199, [])]
    assert reply.status == 200
    assert world.endpoint.idle == [world.connection]


def test_a_stream_is_told_its_end_before_its_reader() -> None:
    world = World()
    world.send()
    world.connection.data_received(CHUNKED + b"2\r\nok\r\n")
    (reply,) = world.told
    world.connection.data_received(b"0\r\n\r\n")
    assert world.told == [reply, "ended"]
    assert world.endpoint.idle == [world.connection]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", (Failure.CONNECTION_RESET, False)),
        (b"HTTP/1.1 200", (Failure.INCOMPLETE_RESPONSE, False)),
        (b"nonsense", (Failure.BAD_RESPONSE, False)),
        (b"HTTP/1.1 600 X\r\n\r\n", (Failure.BAD_RESPONSE, False)),
    ],
)
def test_how_it_fails(data: bytes, told: Any) -> None:
    world = World()
    world.send("POST", Body(5))
    if data:
        world.connection.data_received(data)
    world.connection.connection_lost(None)
    assert world.told == [told]


def test_deadlines_say_what_took_too_long() -> None:
    for prepare, failure in (
        (lambda world: world.send(), Failure.READ_TIMEOUT),
        (lambda world: world.send("POST", Body(5)), Failure.WRITE_TIMEOUT),
    ):
        world = World()
        prepare(world)
        world.connection.limit = NEVER
        world.connection.expire(world.connection.deadline)
        assert world.told == [(failure, False)]
    world = World()
    world.send()
    world.connection.expire(5.0)
    assert world.told == [(Failure.TIMEOUT, False)]


def test_bytes_that_were_not_asked_for_close_it() -> None:
    world = World()
    world.send()
    world.connection.data_received(OK)
    assert world.endpoint.idle == [world.connection]
    world.connection.data_received(OK)
    assert world.endpoint.idle == []
    assert world.connection.closed


@pytest.mark.parametrize(
    ("lines", "answer", "kept"),
    [
        ((), b"HTTP/1.1 401 U\r\nWWW-Authenticate: Negotiate\r\n", False),
        (
            (),
            b"HTTP/1.1 401 U\r\nWWW-Authenticate: Basic realm=a\r\nWWW-Authenticate: ntlm\r\n",
            False,
        ),
        ((), b"HTTP/1.1 401 U\r\nWWW-Authenticate: Bearer realm=negotiate\r\n", True),
        ((("Authorization", "NTLM TlRMTVNTUAAD"),), b"HTTP/1.1 200 OK\r\n", False),
        ((("authorization", "negotiate oRQ"),), b"HTTP/1.1 200 OK\r\n", False),
        ((("Authorization", "Bearer negotiate"),), b"HTTP/1.1 200 OK\r\n", True),
    ],
)
def test_a_connection_that_carries_an_identity_serves_no_other_client(
    lines: tuple[tuple[str, str], ...], answer: bytes, kept: bool
) -> None:
    """NTLM and Negotiate authenticate the connection, not the request (RFC 4559 section 6)."""
    world = World()
    world.send("GET", None, *lines)
    world.connection.data_received(answer + b"Content-Length: 0\r\n\r\n")
    assert len(world.told) == 1
    assert (world.endpoint.idle == [world.connection]) is kept
    assert world.connection.closed is not kept


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"200 OK", b""),
        (b"200 Fine", b"Fine"),
        (b"404 Not Found", b""),
        (b"299 Odd", b"Odd"),
        (b"200 ", b""),
        (b"299", b""),
    ],
)
def test_a_reason_phrase_of_its_own_stays(line: bytes, reason: bytes) -> None:
    world = World()
    for _ in range(3):  # The third is taken without being parsed.
        world.send()
        world.connection.data_received(b"HTTP/1.1 " + line + b"\r\nContent-Length: 2\r\n\r\nok")
        assert world.endpoint.idle.pop() is world.connection
    assert [reply.reason for reply in world.told] == [reason] * 3


async def test_an_answer_in_crumbs_does_not_keep_others_from_their_turn() -> None:
    """Nothing more of it is read before the loop's next turn, or while its client is slow."""
    world = World()
    world.send()
    world.connection.data_received(CHUNKED)
    (reply,) = world.told
    for _ in range(2):
        world.connection.data_received(b"1\r\nx\r\n" * 2000)
        assert world.connection._reading_paused
        await asyncio.sleep(0)
        assert not world.connection._reading_paused
    world.connection.data_received(b"1\r\nx\r\n" * HIGH_WATER)
    await asyncio.sleep(0)
    assert world.connection._reading_paused
    while world.connection._reading_paused:
        assert await reply.body.read()
