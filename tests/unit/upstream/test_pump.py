"""Sending a body as it arrives: no faster than it is taken, to its end, or to what breaks it
off."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gateway.core.failures import Failed, Failure
from gateway.core.wait import Wait
from gateway.upstream.pump import Pump

GROWN = Failed(Failure.BODY_TOO_LARGE)


class Body:
    """A body that arrives when a test says so."""

    trailers = ((b"X-Sum", b"1"),)

    def __init__(self) -> None:
        self.waits: Wait[bytes] | None = None
        self.reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        self.waits = Wait()
        return await self.waits

    def comes(self, chunk: bytes | Exception) -> None:
        assert self.waits is not None
        self.waits.fail(chunk) if isinstance(chunk, Exception) else self.waits.wake(chunk)


class Stream:
    """Notes what is sent on it."""

    def __init__(self) -> None:
        self.closed = False
        self.sent: list[Any] = []
        self.room: Wait[None] | None = None

    def hold(self) -> None:
        pass

    def write(self, chunk: bytes) -> Wait[None] | None:
        self.sent.append(chunk)
        return self.room

    def end(self, trailers: Any = ()) -> None:
        self.sent.append(trailers)

    def break_off(self, failed: Failed) -> None:
        self.closed = True
        self.sent.append(failed)


class Attempt:
    pump: Any = None
    broken: Failed | None = None

    def failed(self, failed: Failed, stale: bool) -> None:
        self.broken = failed


def pumping() -> tuple[Body, Stream, Attempt, Pump]:
    body, stream, attempt = Body(), Stream(), Attempt()
    pump = Pump(body, stream, attempt)  # type: ignore[arg-type]
    pump.start()
    assert attempt.pump is pump
    return body, stream, attempt, pump


def test_a_body_and_its_trailers() -> None:
    body, stream, attempt, pump = pumping()
    body.comes(b"a")
    body.comes(b"b")
    assert not pump.over.done
    body.comes(b"")
    assert stream.sent == [b"a", b"b", Body.trailers]
    assert pump.over.done
    assert attempt.pump is None, "it has been sent whole"


def test_it_waits_for_room() -> None:
    body, stream, _, _ = pumping()
    stream.room = room = Wait()
    body.comes(b"a")
    assert body.reads == 1
    stream.room = None
    room.wake()
    assert body.reads == 2


def test_it_ends_with_its_stream_and_was_not_sent_whole() -> None:
    body, stream, attempt, pump = pumping()
    stream.closed = True
    body.comes(b"a")
    assert stream.sent == []
    assert pump.over.done
    assert attempt.pump is pump


def test_cancelled_it_reads_no_more() -> None:
    _, stream, attempt, pump = pumping()
    pump.cancel()
    assert pump.over.done
    assert stream.sent == []
    assert attempt.broken is None


@pytest.mark.parametrize(
    ("error", "failure"), [(GROWN, Failure.BODY_TOO_LARGE), (ValueError(), Failure.INTERNAL)]
)
def test_whatever_breaks_it_off_ends_the_attempt(
    error: Exception, failure: Failure, caplog: pytest.LogCaptureFixture
) -> None:
    body, stream, attempt, pump = pumping()
    body.comes(error)
    assert stream.closed
    assert attempt.broken is not None
    assert attempt.broken.failure is failure
    assert pump.over.done
    assert [record.levelno for record in caplog.records] == (
        [logging.ERROR] if failure is Failure.INTERNAL else []
    )
