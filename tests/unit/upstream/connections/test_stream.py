"""A body as it arrives: in order, with back-pressure, to its end or to what broke it off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.drive import Drive
from gateway.core.failures import Failed, Failure
from gateway.protocols.crumbs import CRUMB
from gateway.upstream.connections.stream import HIGH_WATER, MAX_CHUNKS, PIECE, AnswerStream

BROKEN = Failed(Failure.INCOMPLETE_RESPONSE)


class Source:
    def __init__(self) -> None:
        self.did: list[str] = []

    def pause_reading(self) -> None:
        self.did.append("pause")

    def resume_reading(self) -> None:
        self.did.append("resume")

    def give_up(self) -> None:
        self.did.append("give up")


def reading(stream: AnswerStream) -> list[Any]:
    """What a reader gets, as it gets it."""
    got: list[Any] = []

    async def read() -> None:
        while chunk := await stream.read():
            got.append(chunk)

    Drive(read(), lambda value, error: got.append(error or "end")).start()
    return got


def test_chunks_are_read_as_they_come() -> None:
    stream = AnswerStream(Source())
    first, second = b"a" * CRUMB, b"b" * CRUMB
    stream.feed([first, second])
    got = reading(stream)
    assert got == [first, second]
    stream.feed([b"c"])
    assert got == [first, second], "until it is woken"
    stream.wake()
    stream.end(None, ((b"X-Sum", b"1"),))
    assert got == [first, second, b"c", "end"]
    assert stream.trailers == ((b"X-Sum", b"1"),)


def test_what_had_come_is_read_before_what_broke_it_off() -> None:
    stream = AnswerStream(Source())
    stream.feed([b"a"])
    stream.end(BROKEN)
    assert reading(stream) == [b"a", BROKEN]


def test_a_slow_reader_holds_the_source_back() -> None:
    source = Source()
    stream = AnswerStream(source)
    stream.feed([b"x" * HIGH_WATER])
    assert source.did == []
    stream.feed([b"y", b"z"])
    stream.feed([b"more"])
    assert source.did == ["pause"]
    assert len(reading(stream)) == 2
    assert source.did == ["pause", "resume"]


def test_giving_up_reaches_the_source_until_the_end() -> None:
    source = Source()
    stream = AnswerStream(source)
    stream.abort()
    stream.end(None)
    stream.abort()
    assert source.did == ["give up"]


async def test_a_cancelled_read_loses_nothing() -> None:
    stream = AnswerStream(Source())
    task = asyncio.create_task(stream.read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stream.feed([b"a"])
    stream.wake()
    assert await stream.read() == b"a"


def test_crumbs_do_not_take_many_times_their_size() -> None:
    source = Source()
    stream = AnswerStream(source)
    for _ in range(20):
        stream.feed([b"ab"] * 1000)
        assert len(stream._chunks) <= MAX_CHUNKS
    assert b"".join(reading(stream)) == b"ab" * 20_000
    assert not source.did


def test_crumbs_that_wait_are_read_together() -> None:
    """Each would be coded and flushed for itself: ten of a byte made seventy bytes of gzip."""
    stream = AnswerStream(Source())
    stream.feed([b"a", b"b", b"c" * PIECE, b"d", b"e"])
    assert reading(stream) == [b"ab" + b"c" * PIECE, b"de"]
