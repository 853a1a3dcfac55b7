"""The order of things, and what becomes of a request whose hooks, target or client fail anywhere on
it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.drive import Drive
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.core.problems import render
from gateway.core.wait import Wait, own
from gateway.runtime.pipeline import flatten
from gateway.serving.http1.write import complete
from gateway.serving.lifecycle import serve
from tests.exchange import exchange
from tests.unit.core.test_wait import Ends


class Memory:
    """An Outlet that keeps what it is given: the way of a request without any protocol."""

    def __init__(self, *, full: bool = False) -> None:
        self.admission: Any = SimpleNamespace(admit=lambda exchange: None)
        self.open, self.switching, self.last = True, False, False
        self.snapshot: Any = None
        self.sent: list[object] = []
        self.full = full
        self.room: Wait[None] | None = None

    def send(self, exchange: Exchange, reply: Reply) -> None:
        complete(exchange, reply, False)
        exchange.written = True
        self.sent.append((reply.status, reply.body))

    def begin(self, exchange: Exchange, reply: Reply) -> None:
        exchange.written = True
        self.sent.append(reply.status)

    def write(self, data: bytes) -> Wait[None] | None:
        self.sent.append(data)
        if self.full:
            self.room = Wait()
            return self.room
        return None

    def end(self, exchange: Exchange, trailers: Any) -> None:
        self.sent.append(("end", tuple(trailers)))

    def abort(self) -> None:
        self.sent.append("aborted")


class Stream:
    """A reply's body; an exception among its pieces is raised."""

    trailers = ((b"X-Sum", b"1"),)

    def __init__(self, *pieces: Any) -> None:
        self.pieces = list(pieces)
        self.aborted = False

    async def read(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Wait):
            piece = await piece
        if isinstance(piece, BaseException):
            raise piece
        return piece  # type: ignore[no-any-return]

    def abort(self) -> None:
        self.aborted = True


class World:
    """A snapshot with one route, and what its requests come to."""

    def __init__(self, target: Any, *hooks: Hooks, awaited: bool = False, **outlet: Any) -> None:
        self.finished: list[tuple[int, Failure | None]] = []
        last = Hooks(
            error=lambda exchange, failed: Reply(failed.failure.status, body=b"error"),
            finish=lambda exchange: self.finished.append(
                (exchange.status(), exchange.failed and exchange.failed.failure)
            ),
        )
        pipeline = flatten("p", hooks, (*hooks, last), (last, *hooks))
        unrouted = flatten("unrouted", (), (), (last,))
        self.left = 0
        self.route: Any = SimpleNamespace(
            name="r", pipeline=pipeline, target=target, awaited=awaited, config=None
        )
        self.snapshot: Any = SimpleNamespace(
            tracer=None,
            router=SimpleNamespace(match=lambda exchange: self.route),
            unrouted=unrouted,
            unrouted_for=lambda exchange: unrouted,
            active=0,
            leave=self._leave,
            render=lambda exchange, failed: render(failed, exchange, "problem"),
        )
        self.in_flight = SimpleNamespace(level=0)
        self.server: Any = SimpleNamespace(
            runtime=SimpleNamespace(snapshot=self.snapshot),
            in_flight=self.in_flight,
        )
        self.outlet: Any = Memory(**outlet)
        self.ends = Ends()

    def _leave(self) -> None:
        self.left += 1
        self.snapshot.active -= 1

    def run(self, **facts: Any) -> Drive:
        drive = Drive(serve(exchange(**facts), self.outlet, self.server), self.ends)
        drive.start()
        return drive

    def check_over(self) -> None:
        """Nothing leaks, however it ended, and finish hooks have run once."""
        assert len(self.ends.calls) == 1
        assert (self.left, self.snapshot.active, self.in_flight.level, len(self.finished)) == (
            1,
            0,
            0,
            1,
        )


def answer(exchange: Exchange) -> Reply:
    return Reply(200, body=b"ok")


def test_hooks_target_and_reply_in_their_order():
    order: list[str] = []

    def target(exchange: Exchange) -> Reply:
        order.append("target")
        return Reply(200, body=b"ok")

    hooks = Hooks(
        request=lambda exchange: order.append("request"),
        response=lambda exchange, reply: order.append("response"),
        finish=lambda exchange: order.append("finish"),
    )
    world = World(target, hooks)
    world.run()
    assert order == ["request", "target", "response", "finish"]
    assert world.outlet.sent == [(200, b"ok")]
    world.check_over()


def test_a_request_hook_that_answers_spares_the_target():
    world = World(None, Hooks(request=lambda exchange: Reply(204)))
    world.run()
    assert world.outlet.sent == [(204, b"")]
    world.check_over()


def test_what_is_awaited_is_awaited_in_its_place():
    waits: list[Wait[Any]] = [Wait() for _ in range(3)]

    @own
    async def request(exchange: Exchange) -> Reply | None:
        return await waits[0]  # type: ignore[no-any-return]

    @own
    async def target(exchange: Exchange) -> Reply:
        return await waits[1]  # type: ignore[no-any-return]

    @own
    async def response(exchange: Exchange, reply: Reply) -> None:
        await waits[2]

    world = World(target, Hooks(request=request, response=response), awaited=True)
    world.run()
    assert world.ends.calls == [] and world.in_flight.level == 1
    waits[0].wake(None)
    waits[1].wake(Reply(200, body=b"late"))
    assert world.outlet.sent == []
    waits[2].wake()
    assert world.outlet.sent == [(200, b"late")]
    world.check_over()


def test_a_stream_goes_out_as_it_comes():
    late: Wait[bytes] = Wait()
    world = World(lambda exchange: Reply(200, body=Stream(b"a", late)))
    world.run()
    assert world.outlet.sent == [200, b"a"]
    late.wake(b"b")
    assert world.outlet.sent == [200, b"a", b"b", ("end", Stream.trailers)]
    world.check_over()


def test_a_slow_client_holds_the_stream_back():
    stream = Stream(b"a", b"b")
    world = World(lambda exchange: Reply(200, body=stream), full=True)
    world.run()
    assert stream.pieces == [b"b"]
    world.outlet.room.wake()
    world.outlet.room.wake()
    assert world.outlet.sent[-1] == ("end", Stream.trailers)
    world.check_over()


@pytest.mark.parametrize("error", [Failed(Failure.NO_ENDPOINT), ValueError("a bug")])
@pytest.mark.parametrize("where", ["request", "target", "response"])
def test_a_failure_anywhere_is_answered_by_the_error_hooks(where, error):
    def fails(*_: Any) -> None:
        raise error

    world = World(
        fails if where == "target" else answer, Hooks(**{where: fails} if where != "target" else {})
    )
    world.run()
    status = 503 if isinstance(error, Failed) else 500
    assert world.outlet.sent == [(status, b"error")]
    assert world.finished[0][0] == status
    world.check_over()


def test_a_reply_that_cannot_be_written_is_an_internal_error():
    """A hook of an operator's that adds text instead of bytes."""
    world = World(answer, Hooks(response=lambda exchange, reply: reply.add("X-Text", "text")))  # type: ignore[arg-type]
    world.run()
    assert world.outlet.sent == [(500, b"error")]
    world.check_over()


@pytest.mark.parametrize("error", [Failed(Failure.INCOMPLETE_RESPONSE), ValueError("a bug")])
def test_a_failure_within_a_stream_breaks_it_off_and_adds_nothing(error):
    stream = Stream(b"a", error)
    world = World(lambda exchange: Reply(200, body=stream))
    world.run()
    assert world.outlet.sent == [200, b"a", "aborted"]
    assert stream.aborted
    assert world.finished == [
        (200, error.failure if isinstance(error, Failed) else Failure.INTERNAL)
    ]
    world.check_over()


def test_a_stream_is_given_up_when_a_response_hook_fails():
    def fails(exchange: Exchange, reply: Reply) -> None:
        raise Failed(Failure.INTERNAL)

    stream = Stream(b"a")
    world = World(lambda exchange: Reply(200, body=stream), Hooks(response=fails))
    world.run()
    assert stream.aborted and world.outlet.sent == [(500, b"error")]
    world.check_over()


def test_error_hooks_that_fail_leave_a_plain_answer():
    def fails(exchange: Exchange, failed: Failed) -> None:
        raise ValueError

    world = World(None, Hooks(request=lambda exchange: 1 / 0, error=fails))  # type: ignore[arg-type, return-value]
    world.run()
    ((status, body),) = world.outlet.sent
    assert status == 500 and b"SVC_002" in body
    world.check_over()


@pytest.mark.parametrize("where", ["request", "target", "response", "error", "read", "write"])
def test_a_client_that_leaves_at_any_await_leaks_nothing(where):
    waits: list[Wait[Any]] = []

    @own
    async def waiting(*_: Any) -> Any:
        wait: Wait[Any] = Wait()
        waits.append(wait)
        return await wait

    stream = Stream(Wait() if where == "read" else b"a", b"b")
    target = waiting if where == "target" else lambda exchange: Reply(200, body=stream)
    if where == "error":
        target = lambda exchange: 1 / 0  # noqa: E731
    hooks = Hooks(**{where: waiting}) if where in ("request", "response", "error") else Hooks()
    world = World(target, hooks, awaited=where == "target", full=where == "write")
    drive = world.run()
    assert world.ends.calls == [] and world.in_flight.level == 1
    drive.cancel()
    assert isinstance(world.ends.calls[0][1], asyncio.CancelledError)
    assert all(wait.done for wait in waits)
    if where in ("response", "read", "write"):
        assert stream.aborted
    assert world.finished[0][1] in (Failure.CLIENT_GONE, Failure.INTERNAL)
    world.check_over()


def test_what_is_ambiguous_ends_the_connection():
    def malformed(exchange: Exchange) -> None:
        raise Failed(Failure.MALFORMED)

    world = World(answer)
    world.outlet.admission.admit = malformed
    world.run()
    assert world.outlet.last and world.outlet.sent == [(400, b"error")]
    world.check_over()


def test_a_route_that_is_not_there_does_not():
    def missing(exchange: Exchange) -> None:
        raise Failed(Failure.NO_ROUTE)

    world = World(answer)
    world.snapshot.router.match = missing
    world.run()
    assert not world.outlet.last and world.outlet.sent == [(404, b"error")]
    world.check_over()
