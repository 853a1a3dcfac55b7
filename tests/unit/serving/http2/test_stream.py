"""gateway/serving/http2/stream.py: one request and its body, as its client sees them."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.wait import own
from gateway.protocols.http2 import session as http2
from gateway.protocols.http2.frames import DATA, HEADERS
from gateway.protocols.http2.session import ErrorCode, Limits
from tests.unit.protocols.http2.test_frames import END, WHOLE, frame
from tests.unit.serving.http2.world import World

PADDED = 8


@pytest.fixture
async def world() -> World:
    return World()


class Pieces:
    """A body that a test hands out."""

    def __init__(self, *pieces: bytes, trailers: tuple = (), error: Exception | None = None):
        self.pieces, self.trailers, self.error = list(pieces), trailers, error
        self.aborted = False

    @own
    async def read(self) -> bytes:
        if not self.pieces and self.error is not None:
            raise self.error
        return self.pieces.pop(0) if self.pieces else b""

    def abort(self) -> None:
        self.aborted = True


def answering(world: World, reply) -> None:
    """Requests to /reply get this one."""

    @own
    async def answer(exchange):
        return reply(exchange)

    world.runtime.snapshot.router.match(None).target = answer


async def test_answers_with_and_without_bodies(world):
    assert world.get("/a") == (200, b"/a")
    assert world.get("/a", method="HEAD") == (200, b"")
    assert world.get("/body", method="POST", body=b"x" * 1000) == (200, b"x" * 1000)
    assert world.http2_requests.level == 3
    assert world.finished == ["/a", "/a", "/body"] and world.in_flight.level == 0
    assert not world.connection.streams and world.connection.idle_since


async def test_a_body_that_is_not_read_stops_at_the_window():
    world = World(limits=Limits(window=10_000, connection_window=50_000))
    stream = world.ask("/wait", method="POST", body=bytes(100_000))
    world.talk()
    assert world.client.queued(stream) == 90_000
    world.waits[0].wake()
    world.talk()
    assert world.answer_of(stream) == (200, b"/wait")
    # The rest is not wanted, and the client is told so after its answer.
    assert world.of(http2.StreamReset)[0].error_code == ErrorCode.NO_ERROR
    assert world.session._connection.local_window_size > 40_000


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_an_end_that_a_client_without_a_window_holds_up_has_a_deadline(method):
    """Else a stream, and so its connection, would be there for ever at no cost to its client."""
    world = World(of_client=Limits(window=0))
    if method == "GET":
        answering(world, lambda _: Reply(200, body=Pieces()))
    head = {b":method": b"POST", b":scheme": b"http", b":authority": b"a", b":path": b"/reply"}
    head[b":method"] = method.encode()
    world.client.request(list(head.items()), end=method == "GET")
    world.talk()
    (stream,) = world.connection.streams.values()
    assert world.session.queued(stream.number) == 0 and stream.unsent
    stream.abort()
    world.talk()
    assert not world.connection.streams and world.connection.idle_since and not world.ended


async def test_an_empty_frame_is_not_the_end_of_a_body(world):
    """The endpoint would take what it has for a complete request."""
    got = []

    @own
    async def answer(exchange):
        while piece := await exchange.body.read():
            got.append(piece)
        return Reply(200)

    world.runtime.snapshot.router.match(None).target = answer
    world.raw(frame(HEADERS, 1, b"\x83\x86\x84\x41\x01c", WHOLE) + frame(DATA, 1, b""))
    world.raw(frame(DATA, 1, b"abc"))
    world.raw(frame(DATA, 1, b"\x03" + bytes(3), PADDED))
    assert got == [b"abc"] and world.finished == []
    world.raw(frame(DATA, 1, b"def") + frame(DATA, 1, b"", END))
    assert got == [b"abc", b"def"] and world.finished == ["/"]


async def test_a_body_that_is_read_is_let_in():
    roomy = Limits(window=10**6, connection_window=10**6)
    world = World(Limits(window=10_000, connection_window=50_000), roomy)
    assert world.get("/body", method="POST", body=bytes(100_000)) == (200, bytes(100_000))


async def test_trailers_of_a_request_reach_its_body(world):
    seen = []

    def reply(exchange):
        seen.append(exchange.body)
        return Reply(200)

    answering(world, reply)
    stream = world.client.request(
        [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
    )
    world.client.send(stream, b"x")
    world.client.trailers(stream, [(b"x-sum", b"1"), (b"host", b"evil")])
    world.talk()
    assert seen[0].trailers == [(b"x-sum", b"1")] and seen[0].received


async def test_a_stream_of_pieces_and_trailers(world):
    body = Pieces(b"a" * 10, b"b" * 10, trailers=((b"x-sum", b"20"),))
    answering(world, lambda exchange: Reply(200, body=body))
    assert world.get("/", (b"te", b"trailers")) == (200, b"a" * 10 + b"b" * 10)
    assert world.of(http2.TrailersReceived)[0].headers == ((b"x-sum", b"20"),)
    assert not world.connection.streams


async def test_a_client_that_takes_nothing_stops_its_source():
    world = World(of_client=Limits(window=1000))
    body = Pieces(*[bytes(800)] * 10)
    answering(world, lambda exchange: Reply(200, body=body))
    stream = world.ask("/")
    world.talk()
    assert len(body.pieces) == 8  # One went out, of the second a part.
    assert world.connection.streams[stream].unsent == 600
    for _ in range(20):
        world.client.consumed(stream, sum(len(e.data) for e in world.of(http2.DataReceived)))
        world.events = [e for e in world.events if type(e) is not http2.DataReceived]
        world.talk()
    assert not body.pieces and not world.connection.streams


async def test_what_breaks_off_is_reset_and_not_ended(world):
    body = Pieces(b"half", error=Failed(Failure.BAD_RESPONSE))
    answering(world, lambda exchange: Reply(200, body=body))
    stream = world.ask("/")
    world.talk()
    assert world.answer_of(stream) == (200, b"half")
    assert world.of(http2.StreamReset)[0].error_code == ErrorCode.INTERNAL_ERROR
    answering(world, lambda exchange: Reply(200))
    assert world.get("/") == (200, b"")  # The connection lives on.


async def test_a_client_that_gives_a_stream_up_ends_its_request(world):
    stream = world.ask("/wait")
    world.talk()
    assert world.connection.busy and "open" in repr(world.connection.streams[stream])
    world.client.reset(stream)
    world.talk()
    assert world.finished == ["/wait"] and world.in_flight.level == 0
    assert world.waits[0].done
    assert world.ended == []


async def test_interim_answers_come_first(world):
    def reply(exchange):
        exchange.interim(103, [(b"link", b"</a>")])
        exchange.interim(100, [])  # The client has not asked for it.
        return Reply(200)

    answering(world, reply)
    assert world.get("/") == (200, b"")
    statuses = [e.headers[0][1] for e in world.of(http2.InformationalResponseReceived)]
    assert statuses == [b"103"]


async def test_100_continue_where_the_body_is_wanted(world):
    stream = world.client.request(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"a"),
            (b":path", b"/body"),
            (b"expect", b"100-continue"),
        ]
    )
    world.talk()
    assert world.of(http2.InformationalResponseReceived)[0].headers[0] == (b":status", b"100")
    world.client.send(stream, b"abc", end=True)
    world.talk()
    assert world.answer_of(stream) == (200, b"abc")


async def test_what_is_no_request_is_answered_on_its_stream(world):
    long = "/" + "a" * 9000
    assert world.get(long)[0] == 414
    assert world.get(long, method="POST", body=b"x" * 100)[0] == 414
    assert world.get("/a") == (200, b"/a")


async def test_an_operators_error_resets_the_stream(world, caplog):
    def reply(exchange):
        raise SystemError("no such thing")

    answering(world, reply)
    assert world.get("/")[0] == 500


async def test_a_body_that_comes_too_slowly(world):
    stream = world.client.request(
        [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/body")]
    )
    world.talk()
    world.connection.streams[stream].give_up_body(Failed(Failure.REQUEST_TIMEOUT))
    world.talk()
    assert world.answer_of(stream)[0] == 408


async def test_a_success_is_no_tunnel():
    """To an extended CONNECT a 200 would say that there is one."""
    world = World(connect=True)
    stream = world.client.request(
        [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"http"),
            (b":authority", b"a"),
            (b":path", b"/a"),
            (b"sec-websocket-version", b"13"),
        ]
    )
    world.client.send(stream, b"early")
    world.talk()
    assert world.answer_of(stream) == (501, b"/a")
    assert not world.connection.streams
