"""Bodies that are stored while they pass, and how much may be."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import deque

import pytest

from gateway.core.failures import Failed, Failure
from gateway.core.wait import Wait
from gateway.middlewares.caching.storage.tee import Tee
from tests.exchange import Stream
from tests.unit.middlewares.caching.world import MINUTE, Cached, answer
from tests.until import until


async def test_a_stream_is_stored_once_it_has_passed():
    world = Cached()
    stream = Stream(b"one ", b"two")
    seen = world.ask(answer(MINUTE, stream, length=7))
    assert seen.line == "gateway; fwd=uri-miss; stored"
    assert seen.reply is not None
    body = seen.reply.body
    assert not isinstance(body, bytes)
    assert await body.read() == b"one "
    assert world.ask(answer({})).cache == "miss"
    assert await body.read() == b"two"
    assert len(world.memory) == 0
    assert await body.read() == b""
    assert await body.read() == b""
    assert world.ask().body == b"one two"
    assert len(world.memory) == 1


@pytest.mark.parametrize(
    ("why", "stream", "length"),
    [
        ("it broke off", Stream(b"one", Failed(Failure.INCOMPLETE_RESPONSE)), None),
        ("it is shorter than it said", Stream(b"one"), 4),
        ("it grew too large", Stream(b"x" * 600, b"x" * 600), None),
    ],
)
async def test_a_stream_is_not_stored(why: str, stream: Stream, length: int | None):
    world = Cached({"max_entry": 1000})
    seen = world.ask(answer(MINUTE, stream, length=length))
    try:
        assert await seen.read()
    except Failed:
        assert why == "it broke off"
        assert await seen.read() == b""
    assert len(world.memory) == 0


async def test_an_aborted_stream_is_not_stored():
    world = Cached()
    stream = Stream(b"one", b"two")
    seen = world.ask(answer(MINUTE, stream))
    assert seen.reply is not None
    body = seen.reply.body
    assert not isinstance(body, bytes)
    await body.read()
    body.abort()
    assert stream.aborted == 1
    while await body.read():
        pass
    assert len(world.memory) == 0


async def test_a_stream_known_to_be_too_large_is_left_alone():
    world = Cached({"max_entry": 1000})
    stream = Stream(b"x" * 2000)
    seen = world.ask(answer(MINUTE, stream, length=2000))
    assert seen.reply is not None
    assert seen.reply.body is stream
    assert seen.line == "gateway; fwd=uri-miss; detail=size"


def test_the_largest_entry_counts_fields_and_all():
    assert Cached({"max_entry": "10KiB"}).ask(answer(MINUTE, b"x" * 8000)).line.endswith("stored")
    assert (
        not Cached({"max_entry": "10KiB"}).ask(answer(MINUTE, b"x" * 9500)).line.endswith("stored")
    )
    assert (
        not Cached({"max_entry": "10KiB"})
        .ask(answer({**MINUTE, "X-A": "a" * 9000}, b"x"))
        .line.endswith("stored")
    )


def test_the_store_stays_within_its_size_and_a_smaller_one_applies_at_once():
    world = Cached({"max_size": "100KiB"})
    for number in range(100):
        world.ask(answer(MINUTE, b"x" * 2000), target=f"/{number}")
    assert 80 * 1024 < world.memory.used <= 100 * 1024
    smaller = Cached({"max_size": "20KiB"}, on=world)
    assert smaller.ask(target="/99").cache == "hit"
    smaller.ask(answer(MINUTE), target="/new")
    assert world.memory.used <= 20 * 1024


class Slow:
    """A stream whose chunks come one by one, as they are given."""

    def __init__(self) -> None:
        self.coming: deque[Wait[bytes]] = deque([Wait()])
        self.reads = self.aborted = 0

    async def read(self) -> bytes:
        self.reads += 1
        return await self.coming[-1]

    def give(self, data: bytes | Failed) -> None:
        wait = self.coming[-1]
        self.coming.append(Wait())
        if isinstance(data, bytes):
            wait.wake(data)
        else:
            wait.fail(data)

    def abort(self) -> None:
        self.aborted += 1


def teed(limit: int = 100) -> tuple[Slow, Tee, list[bytes | None]]:
    slow, kept = Slow(), []
    return slow, Tee(slow, limit, kept.append), kept  # type: ignore[return-value]


async def test_once_others_wait_it_is_read_ahead_of_the_client():
    slow, tee, kept = teed()
    tee.hurry()
    for data in (b"one ", b"two", b""):
        slow.give(data)
    assert kept == [b"one two"]
    assert [await tee.read() for _ in range(4)] == [b"one ", b"two", b"", b""]


async def test_it_is_read_by_one_at_a_time():
    slow, tee, kept = teed()
    reading = asyncio.ensure_future(tee.read())
    await until(lambda: slow.reads == 1)
    tee.hurry()
    assert slow.reads == 1
    slow.give(b"one ")
    assert await reading == b"one "
    assert slow.reads == 2
    following = asyncio.ensure_future(tee.read())
    await asyncio.sleep(0)
    slow.give(b"two")
    assert await following == b"two"
    slow.give(b"")
    assert kept == [b"one two"]


async def test_beyond_the_limit_the_client_sets_the_pace_again():
    slow, tee, kept = teed(5)
    tee.hurry()
    slow.give(b"123")
    slow.give(b"456")
    assert (kept, slow.reads) == ([None], 2)
    assert [await tee.read(), await tee.read()] == [b"123", b"456"]
    assert slow.reads == 2
    reading = asyncio.ensure_future(tee.read())
    await until(lambda: slow.reads == 3)
    slow.give(b"7")
    assert await reading == b"7"


async def test_what_breaks_off_while_it_is_read_ahead():
    slow, tee, kept = teed()
    tee.hurry()
    slow.give(b"one")
    slow.give(Failed(Failure.INCOMPLETE_RESPONSE))
    assert await tee.read() == b"one"
    for _ in range(2):
        with pytest.raises(Failed):
            await tee.read()
    assert kept == [None]


async def test_given_up_while_it_is_read_ahead():
    slow, tee, kept = teed()
    tee.hurry()
    tee.abort()
    assert (kept, slow.aborted) == ([None], 1)


@pytest.mark.parametrize("hurried", [False, True])
async def test_crumbs_do_not_take_many_times_their_size(hurried):
    """An answer of 1 MB took 21."""
    count = 20_000
    kept: list[bytes | None] = []
    tee = Tee(
        Stream(*(b"%d" % (10 + place % 90) for place in range(count))), count * 2, kept.append
    )
    tracemalloc.start()
    try:
        if hurried:
            tee.hurry()
        else:
            for _ in range(count):
                await tee.read()
        assert tracemalloc.get_traced_memory()[0] < 8 * count
    finally:
        tracemalloc.stop()
    while await tee.read():
        pass
    assert [len(one or b"") for one in kept] == [count * 2]
