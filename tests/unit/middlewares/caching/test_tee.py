"""Bodies that are stored while they pass, and how much may be."""

from __future__ import annotations

import pytest

from gateway.core.failures import Failed, Failure
from tests.exchange import Stream
from tests.unit.middlewares.caching.world import MINUTE, Cached, answer


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
    assert seen.line == "gateway; fwd=uri-miss"


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
