"""One exchange on a shared connection: what is handed over whole and what as it arrives, bodies
that wait for room, deadlines, and invalid answers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Reply
from gateway.core.failures import Failure
from gateway.upstream.connections.http1.connection import WHOLE
from gateway.upstream.connections.http2.socket import WINDOW
from gateway.upstream.connections.http2.stream import MAX_INTERIM
from gateway.upstream.connections.stream import HIGH_WATER, MAX_CHUNKS
from tests.unit.upstream.connections.http2.world import World, resets


async def test_a_short_answer_is_handed_over_whole() -> None:
    world = World()
    stream, handler = world.send()
    world.answer(stream, ("content-length", "4"), ("x-a", "1"))
    assert not handler.told
    world.peer.send_data(stream.number, b"bo")
    world.exchange()
    assert not handler.told
    world.peer.send_data(stream.number, b"dy", end_stream=True)
    world.exchange()
    (reply,) = handler.told
    assert (reply.status, reply.body, reply.length) == (200, b"body", 4)
    assert reply.headers == [(b"x-a", b"1")] and reply.version == "2.0"
    assert stream.closed and not world.transport.open - {world.connection}


async def test_a_short_answer_in_crumbs_does_not_take_many_times_its_size() -> None:
    world = World()
    stream, handler = world.send()
    world.answer(stream, ("content-length", "20000"))
    for _ in range(100):
        for _ in range(100):
            world.peer.send_data(stream.number, b"ab")
        world.exchange()
        assert len(stream._body) <= MAX_CHUNKS
    world.peer.end_stream(stream.number)
    world.exchange()
    assert handler.told[0].body == b"ab" * 10_000


async def test_a_long_answer_or_one_of_unknown_length_as_it_arrives() -> None:
    for length in (("content-length", str(WHOLE + 1)),), ():
        world = World()
        stream, handler = world.send()
        world.answer(stream, *length)
        (reply,) = handler.told
        world.peer.send_data(stream.number, b"one")
        world.exchange()
        assert await reply.body.read() == b"one"
        if length:
            left = WHOLE + 1 - 3
            for size in (16384,) * (left // 16384) + (left % 16384,):
                world.peer.send_data(stream.number, bytes(size))
                world.exchange()
        world.peer.send_headers(stream.number, [("x-t", "1")], end_stream=True)
        world.exchange()
        assert handler.told[1:] == ["ended"]
        while await reply.body.read():
            pass
        assert reply.body.trailers == ((b"x-t", b"1"),)


async def test_trailers_of_a_short_answer_come_with_it() -> None:
    world = World()
    stream, handler = world.send()
    world.peer.send_headers(stream.number, [(":status", "200")])
    world.peer.send_data(stream.number, b"body")
    world.peer.send_headers(stream.number, [("grpc-status", "0")], end_stream=True)
    world.exchange()
    reply, ended = handler.told
    assert ended == "ended" and await reply.body.read() == b"body"
    assert reply.body.trailers == ((b"grpc-status", b"0"),)


@pytest.mark.parametrize(
    ("method", "status", "stated", "length"),
    [("HEAD", "200", "7", 7), ("GET", "304", "7", 7), ("GET", "204", "", 0), ("GET", "200", "", 0)],
)
async def test_answers_without_a_body(method: str, status: str, stated: str, length: int) -> None:
    world = World()
    stream, handler = world.send(method)
    fields = [(":status", status), *([("content-length", stated)] if stated else [])]
    world.peer.send_headers(stream.number, fields, end_stream=True)
    world.exchange()
    (reply,) = handler.told
    assert (reply.status, reply.body, reply.length) == (int(status), b"", length)


async def test_what_is_not_read_is_not_acknowledged() -> None:
    world = World()
    stream, handler = world.send()
    world.answer(stream)
    (reply,) = handler.told
    sent = 0
    while room := min(world.peer.local_flow_control_window(stream.number), 16384):
        world.peer.send_data(stream.number, bytes(room))
        sent += room
        world.exchange()
    assert HIGH_WATER < sent <= HIGH_WATER + WINDOW + 16384
    assert world.peer.outbound_flow_control_window > 2**30  # Other exchanges have theirs.
    read = 0
    while read < sent - HIGH_WATER // 2:
        read += len(await reply.body.read())
    world.exchange()
    assert world.peer.local_flow_control_window(stream.number) >= WINDOW // 2
    reply.body.abort()
    world.exchange()
    assert resets(world) == [8] and handler.told[-1] is Failure.CLIENT_GONE
    reply.body.abort()


async def test_a_slow_client_is_not_the_endpoints_fault() -> None:
    world = World()
    stream, handler = world.send()
    world.answer(stream)
    stream.pause_reading()
    world.pass_time(50)
    assert len(handler.told) == 1
    stream.resume_reading()
    world.pass_time(10)
    assert handler.told[-1] is Failure.READ_TIMEOUT


@pytest.mark.parametrize(
    ("code", "kept", "told"),
    [
        (7, True, (Failure.NOT_RECEIVED, True)),
        (7, False, (Failure.NOT_RECEIVED, False)),
        (8, True, (Failure.CONNECTION_RESET, False)),
        (2, True, (Failure.CONNECTION_RESET, False)),
        (0, True, (Failure.CONNECTION_RESET, False)),
        (999, True, (Failure.CONNECTION_RESET, False)),
    ],
)
async def test_resets(code: int, kept: bool, told: object) -> None:
    world = World()
    stream, handler = world.send(kept=kept)
    world.peer.reset_stream(stream.number, code)
    world.exchange()
    assert handler.told == [told] and stream.closed
    begun, handler = world.send(kept=kept)
    world.answer(begun)
    world.peer.reset_stream(begun.number, code)
    world.exchange()
    assert handler.told[-1] is Failure.INCOMPLETE_RESPONSE


@pytest.mark.parametrize("kept", [True, False])
async def test_a_lost_connection(kept: bool) -> None:
    world = World()
    _, handler = world.send(kept=kept)
    begun, told = world.send(kept=kept)
    world.answer(begun)
    world.connection.connection_lost(None)
    assert not world.socket.sent  # A transport that is closed takes nothing, and may raise.
    assert handler.told == [(Failure.CONNECTION_RESET, kept)]
    assert told.told[-1] is Failure.INCOMPLETE_RESPONSE


HEADS: list[list[tuple[str, str]]] = [
    [],
    [("x", "y")],
    [(":status", "200"), (":status", "200")],
    [(":status", "abc")],
    [(":status", "20")],
    [(":status", "999")],
    [(":status", "200"), (":path", "/")],
    [("x", "y"), (":status", "200")],
    [(":status", "200"), ("Upper", "y")],
    [(":status", "200"), ("connection", "close")],
    [(":status", "200"), ("transfer-encoding", "chunked")],
    [(":status", "200"), ("keep-alive", "1")],
    [(":status", "200"), ("x", "a\r\nb: c")],
    [(":status", "200"), ("x", "a\0b")],
    [(":status", "200"), ("x y", "a")],
    [(":status", "200"), ("", "a")],
    [(":status", "200"), ("content-length", "1"), ("content-length", "2")],
    [(":status", "200"), ("content-length", "-1")],
    [(":status", "200"), ("content-length", "9223372036854775808")],
    [(":status", "200"), *[(f"x-{number}", "y") for number in range(300)]],
    [(":status", "200"), *[(f"x-{number}", "y" * 1000) for number in range(70)]],
    [(":status", "101")],
    [(":status", "99")],
]


def lax(world: World) -> Any:
    """The endpoint checks nothing that it sends."""
    world.peer.config.validate_outbound_headers = False
    world.peer.config.normalize_outbound_headers = False
    return world.peer


@pytest.mark.parametrize("head", HEADS, ids=str)
async def test_heads_that_are_none(head: list[tuple[str, str]]) -> None:
    """Refused, and other exchanges go on."""
    world = World()
    stream, handler = world.send(kept=True)
    other, _ = world.send()
    peer = lax(world)
    data = peer.encoder.encode(head)
    for start in range(0, max(1, len(data)), 16384):
        part = data[start : start + 16384]
        last = start + 16384 >= len(data)
        kind = 9 if start else 1
        size = len(part).to_bytes(3, "big")
        flags = bytes([kind, 4 if last else 0])
        world.receive(size + flags + stream.number.to_bytes(4, "big") + part)
    world.exchange()
    assert handler.told == [(Failure.BAD_RESPONSE, False)], handler.told
    assert not world.connection.closed and world.connection.streams == {other.number: other}


@pytest.mark.parametrize(
    ("stated", "parts", "whole"), [("5", (b"abc",), False), ("2", (b"abc",), False)]
)
async def test_a_length_that_is_not_that_of_the_body(
    stated: str, parts: tuple[bytes, ...], whole: bool
) -> None:
    world = World()
    stream, handler = world.send()
    lax(world)
    world.answer(stream, ("content-length", stated))
    for part in parts:
        world.peer.send_data(stream.number, part, end_stream=True)
    world.exchange()
    assert handler.told == [(Failure.BAD_RESPONSE, False)]


async def test_interim_answers_go_on_up_to_a_number() -> None:
    world = World()
    stream, handler = world.send()
    for _ in range(MAX_INTERIM):
        world.peer.send_headers(stream.number, [(":status", "103"), ("link", "</a>")])
        world.exchange()
    assert handler.told == [(103, [(b"link", b"</a>")])] * MAX_INTERIM
    world.peer.send_headers(stream.number, [(":status", "103")])
    world.exchange()
    assert handler.told[-1] == (Failure.BAD_RESPONSE, False)


async def test_an_interim_answer_that_is_too_large() -> None:
    world = World()
    stream, handler = world.send()
    fields = [(f"x-{number}", "y" * 1000) for number in range(70)]
    world.peer.send_headers(stream.number, [(":status", "103"), *fields])
    world.exchange()
    assert handler.told == [(Failure.BAD_RESPONSE, False)] and not world.connection.closed


async def test_too_many_trailers() -> None:
    world = World()
    stream, handler = world.send()
    world.answer(stream)
    trailers = [(f"x-{number}", "y") for number in range(300)]
    world.peer.send_headers(stream.number, trailers, end_stream=True)
    world.exchange()
    assert handler.told[-1] is Failure.BAD_RESPONSE


async def test_what_is_known_of_it() -> None:
    world = World()
    stream, handler = world.send()
    assert repr(stream) == "<RequestStream 1 to 127.0.0.1:1 busy>"
    assert stream.endpoint is world.endpoint
    stream.retire()
    world.answer(stream, end=True)
    assert isinstance(handler.told[0], Reply) and world.connection.closed
    assert repr(stream) == "<RequestStream 1 to 127.0.0.1:1 closed>"
