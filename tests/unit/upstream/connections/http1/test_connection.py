"""An exchange on a connection: what is written, what is told, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.interfaces import NEVER
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
from tests.exchange import exchange

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMEOUTS = TimeoutsConfig(read=10.0, write=20.0)


class Socket:
    def __init__(self) -> None:
        self.sent = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Body:
    def __init__(self, length: int | None, whole: bytes | None = None) -> None:
        self.length = length
        self.complete = whole


class World:
    """A connection and the handler of its exchange, which notes what it is told."""

    accept = b""

    def __init__(self) -> None:
        self.transport = Transport()
        self.endpoint = Endpoint("origin", EndpointConfig("http://127.0.0.1:1"))
        self.connection = Connection(self.transport, self.endpoint, 10)
        self.socket = Socket()
        self.connection.connection_made(self.socket)  # type: ignore[arg-type]
        self.told: list[Any] = []
        self.unread = False
        world = self

        class Watched(type(self.connection)):  # type: ignore[misc]
            __slots__ = ()

            def has_unread_input(self) -> bool:
                return world.unread

        self.connection.__class__ = Watched

    def interim(self, status: int, fields: Any) -> None:
        self.told.append((status, fields))

    def answered(self, reply: Reply) -> None:
        self.told.append(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        self.told.append((failed.failure, stale))

    def ended(self, failed: Failed | None) -> None:
        self.told.append("ended" if failed is None else failed.failure)

    def send(self, method: str = "GET", body: Body | None = None, *lines: tuple[str, str]) -> bool:
        asked: Exchange = exchange(method, "/", headers=dict(lines))
        asked.body = body  # type: ignore[assignment]
        return self.connection.send(asked, "/path", "origin:1", self, TIMEOUTS, limit=5.0)

    @property
    def head(self) -> bytes:
        return self.socket.sent.partition(b"\r\n\r\n")[0]

    @property
    def sent_body(self) -> bytes:
        return self.socket.sent.partition(b"\r\n\r\n")[2]


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
def test_how_a_body_is_framed(method: str, body: Body | None, framing: bytes, sent: bytes, follows: bool) -> None:
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
    world.connection.end([(b"X-Sum", b"1"), (b"Host", b"evil"), (b"X-Forwarded-For", b"evil"), (b"X-Other", b"2")])
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
    world.connection.data_received(b"HTTP/1.1 103 E\r\nLink: </a>\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + OK)
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
