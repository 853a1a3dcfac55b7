"""The order of things: pick, take or open, send, wait, try again. Over connections of the test's
own, driven by hand."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.traffic import RetryConfig, TimeoutsConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.clock import Clock
from gateway.core.drive import Drive
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.tracing.trace import Trace
from gateway.upstream import forward as module
from gateway.upstream.forward import Forward
from gateway.upstream.pool.pool import Pool
from tests.exchange import exchange

OK = Reply(200, body=b"ok")
RESET = Failed(Failure.CONNECTION_RESET, why="reset")
ONCE = RetryConfig(attempts=2, base_delay=0.0, on=("503", "reset", "connect"))


class Stream:
    """One connection; what is sent on it is answered by the script, None for not at all."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.closed = False
        self.handler: Any = None

    def send(
        self, asked: Any, target: str, host: str, handler: Any, timeouts: Any, limit: float
    ) -> bool:
        self.handler = handler
        self.world.sent.append((handler.endpoint.name, target, limit))
        outcome = self.world.script.pop(0)
        if outcome is None:
            return False
        if isinstance(outcome, tuple):
            handler.failed(*outcome)
        elif isinstance(outcome, Failed):
            handler.failed(outcome, False)
        else:
            handler.answered(outcome)
        return False

    def give_up(self) -> None:
        self.closed = True


class Answering:
    """A body that is still arriving."""

    def __init__(self) -> None:
        self.attempt: Any = None
        self.aborted = False

    async def read(self) -> bytes:
        return b""

    def abort(self) -> None:
        self.aborted = True


class World:
    """A pool of two endpoints and a Forward over it. `idle` kept connections are taken first, then
    others opened."""

    def __init__(self, *script: Any, idle: int = 0, names: str = "ab", **settings: Any) -> None:
        self.now = 100.0
        self.script = list(script)
        self.sent: list[tuple[str, str, float]] = []
        self.idle, self.opened = idle, 0
        self.refused: Failed | None = None
        self.streams: list[Stream] = []
        self.clock = Clock(lambda: self.now, lambda: self.now)
        endpoints = tuple(
            EndpointConfig(f"http://{name}:80", weight=10 if name == "a" else 1) for name in names
        )
        self.pool = Pool(
            "origin", UpstreamConfig(endpoints=endpoints, **settings), clock=self.clock
        )
        self.telemetry = Telemetry()
        route = RouteConfig(name="r", prefix="/", upstream="origin")
        self.forward = Forward(self.pool, self, route, self.telemetry)  # type: ignore[arg-type]
        self.outcome: Any = None
        self.asked = exchange("GET", "/x?y")

    # A Transport.

    def take(self, endpoint: Any, *, look: bool) -> Stream | None:
        if not self.idle:
            return None
        self.idle -= 1
        return self.made()

    async def connect(
        self, endpoint: Any, timeout: float, max_idle: int, keepalive: float
    ) -> Stream:
        self.opened += 1
        refused, self.refused = self.refused, None
        if refused is not None:
            raise refused
        return self.made()

    def made(self) -> Stream:
        self.streams.append(Stream(self))
        return self.streams[-1]

    def run(self) -> Any:
        """Drives one request as far as it goes; its outcome, None while it waits."""

        def over(value: Any, error: BaseException | None) -> None:
            self.outcome = error or value

        self.drive = Drive(self.forward(self.asked), over)
        self.drive.start()
        return self.outcome


def test_an_answer_on_a_kept_connection() -> None:
    world = World(OK, idle=1)
    assert world.run() is OK
    assert world.opened == 0
    assert world.sent == [("a:80", "/x?y", float("inf"))]
    assert (world.asked.upstream, world.asked.endpoint, world.asked.attempts) == (
        "origin",
        "a:80",
        1,
    )
    assert world.pool.in_flight == 0


def test_an_answer_that_comes_later_and_the_time_for_all_of_it() -> None:
    world = World(None, timeouts=TimeoutsConfig(total=3.0))
    assert world.run() is None
    assert world.sent[0][2] == 103.0
    assert world.pool.in_flight == 1
    world.streams[0].handler.answered(OK)
    assert world.outcome is OK
    assert world.pool.in_flight == 0


def test_a_stale_connection_is_replaced_by_a_fresh_one_once() -> None:
    world = World((RESET, True), OK, idle=2, timeouts=TimeoutsConfig(total=3.0))
    world.now = 100.0
    assert world.run() is OK
    assert world.opened == 1, "the second kept one is not tried"
    assert [limit for *_, limit in world.sent] == [103.0, 103.0]
    assert world.asked.attempts == 1


def test_what_must_not_be_repeated_fails_when_its_connection_is_stale() -> None:
    world = World((RESET, True), idle=1)
    world.asked = exchange("POST")
    assert world.run() is RESET
    assert world.pool.in_flight == 0


def test_a_failure_is_tried_again_at_another_endpoint() -> None:
    world = World(RESET, OK, retry=ONCE)
    assert world.run() is OK
    assert [name for name, *_ in world.sent] == ["a:80", "b:80"]
    assert [one.endpoint for one in world.asked.tries or ()] == ["a:80"]
    assert world.telemetry.retries.get(("origin", "reset")) == 1
    assert world.pool.budget.retrying == 0


def test_an_endpoint_that_takes_no_connection_has_been_sent_nothing() -> None:
    world = World(OK, retry=ONCE)
    world.refused = Failed(Failure.CONNECT_FAILED)
    world.asked = exchange("POST")
    assert world.run() is OK
    assert [name for name, *_ in world.sent] == ["b:80"]


def test_without_a_reason_a_failure_is_the_outcome() -> None:
    world = World(RESET, RESET, retry=ONCE)
    assert world.run() is RESET
    assert world.asked.attempts == 2
    world = World(RESET)
    assert world.run() is RESET


async def test_no_time_is_left_for_another() -> None:
    world = World(
        Reply(503),
        retry=RetryConfig(attempts=2, base_delay=5.0, max_delay=9.0, on=("503",)),
        timeouts=TimeoutsConfig(total=3.0),
    )
    assert world.run().status == 503
    assert len(world.sent) == 1


def test_a_retried_answer_that_is_still_arriving_is_given_up() -> None:
    body = Answering()
    world = World(Reply(503, body=body), OK, retry=ONCE)
    assert world.run() is OK
    assert body.aborted


async def test_one_that_is_cancelled_lets_go_of_everything() -> None:
    world = World(None)
    world.run()
    world.drive.cancel()
    assert isinstance(world.outcome, asyncio.CancelledError)
    assert world.streams[0].closed
    assert world.pool.in_flight == 0


async def test_one_that_is_cancelled_between_two_attempts_gives_up_what_arrives() -> None:
    body = Answering()
    world = World(
        Reply(503, body=body), retry=RetryConfig(attempts=2, base_delay=60.0, on=("503",))
    )
    world.run()
    assert world.pool.budget.waiting == 1
    world.drive.cancel()
    assert isinstance(world.outcome, asyncio.CancelledError)
    assert body.aborted
    assert (world.pool.budget.waiting, world.pool.budget.retrying) == (0, 0)


def test_an_error_of_ours_lets_go_of_everything_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(OK, idle=1)
    monkeypatch.setattr(Stream, "send", lambda *_, **__: 1 / 0)
    assert isinstance(world.run(), ZeroDivisionError)
    assert world.streams[0].closed
    assert world.pool.in_flight == 0


class Arriving:
    """A small body that takes its time."""

    complete: bytes | None = None
    length = 2

    def __init__(self, world: World) -> None:
        self.world = world

    async def whole(self, at_most: int) -> bytes:
        assert self.world.pool.in_flight == 0, "no endpoint is held while the client sends"
        self.world.now += 60.0
        self.complete = b"hi"
        return b"hi"


def test_a_slow_client_takes_no_time_from_the_endpoint() -> None:
    """A body that is kept for another attempt is read before an endpoint is picked and its time
    runs."""
    world = World(OK, retry=ONCE, timeouts=TimeoutsConfig(total=3.0))
    world.asked = exchange("PUT", body=Arriving(world))
    assert world.run() is OK
    assert world.sent[0][2] == world.now + 3.0


class Received:
    """A message that is here, of unknown length."""

    complete: bytes | None = None
    length = None
    received = True

    def __init__(self, size: int) -> None:
        self.arrived = size

    async def whole(self, at_most: int) -> bytes:
        assert self.arrived <= at_most
        self.complete = bytes(self.arrived)
        return self.complete

    async def read(self) -> bytes:
        return b""


CALL = {"Content-Type": "application/grpc"}
UNAVAILABLE = [(b"grpc-status", b"14")]


@pytest.mark.parametrize(
    ("size", "headers", "on", "sent"),
    [
        (5, CALL, "unavailable", 2),
        (5, {}, "unavailable", 1),
        (5, CALL, "internal", 1),
        (5, CALL, "503", 1),
        (2**20, CALL, "unavailable", 1),
    ],
)
def test_calls_of_grpc_are_retried_by_their_status(
    size: int, headers: dict[str, str], on: str, sent: int
) -> None:
    failing, fine = Reply(200, UNAVAILABLE), Reply(200, [(b"grpc-status", b"0")])
    retry = RetryConfig(attempts=2, base_delay=0, on=(on,))
    world = World(failing, fine, protocol="h2c", retry=retry)
    world.asked = exchange("POST", headers=headers, body=Received(size), started=perf_counter())
    assert world.run() is (fine if sent == 2 else failing)
    assert len(world.sent) == sent
    if sent == 2:
        assert world.asked.tries is not None and world.asked.tries[0].why == "status unavailable"


def test_a_call_has_its_clients_deadline_where_that_is_the_earliest_limit() -> None:
    for said, total, left in (("2S", 5.0, 2.0), ("9S", 5.0, 5.0), ("odd", None, None)):
        world = World(OK, protocol="h2c", timeouts=TimeoutsConfig(total=total))
        world.asked = exchange("POST", headers={**CALL, "grpc-timeout": said})
        world.asked.started = perf_counter()
        assert world.run() is OK
        limit = world.sent[0][2] - world.now
        assert limit == (pytest.approx(left, abs=0.5) if left else float("inf"))
        assert (module.DEADLINE in world.asked.notes) is (left == 2.0)


def test_a_deadline_that_has_passed_is_no_endpoints_fault() -> None:
    world = World(protocol="h2c")
    world.asked = exchange("POST", headers={**CALL, "grpc-timeout": "1S"})
    world.asked.started = perf_counter() - 2
    failed = world.run()
    assert failed.failure is Failure.DEADLINE_EXCEEDED and not world.sent
    world = World(protocol="h2c")
    world.asked = exchange("POST", headers={**CALL, "grpc-timeout": "1m"})
    world.asked.started = perf_counter()
    world.refused = Failed(Failure.CONNECT_TIMEOUT)
    clock = iter((100.0, 100.0, 101.0, 101.0))
    world.clock = Clock(lambda: next(clock), lambda: 0.0)
    failed = world.run()
    assert failed.failure is Failure.DEADLINE_EXCEEDED
    assert all(one.health.error == "" for one in world.pool.endpoints)


def test_the_span_of_an_attempt_that_the_client_has_left() -> None:
    world = World(None)
    world.asked.trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    assert world.run() is None
    world.drive.cancel()
    [span] = world.asked.trace.spans
    assert span.span_id in world.asked.traceparent
    assert (span.upstream, span.endpoint.name, span.target) == ("origin", "a:80", "/x?y")
    assert (span.status, span.error) == (0, "client_gone")


def test_durations_by_endpoint() -> None:
    world = World(RESET, OK, OK, retry=ONCE)
    assert world.run() is OK
    cells = world.telemetry.upstream_endpoint_duration.cells
    assert {labels: sum(cell.counts) for labels, cell in cells.items()} == {
        ("origin", "a:80"): 1,
        ("origin", "b:80"): 1,
    }
    total = world.telemetry.upstream_duration.cell(("origin",)).total
    assert sum(cell.total for cell in cells.values()) == pytest.approx(total)
