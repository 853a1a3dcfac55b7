"""Which requests wait for which."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from gateway.core.exchange import Reply
from gateway.core.hooks import KEPT
from gateway.middlewares.caching.flights import ALONE_SECONDS, Flights
from tests.exchange import Stream
from tests.unit.middlewares.caching.world import ALICE, BOB, DOWN, MINUTE, TAGGED, Cached, answer
from tests.until import until


def begun(world: Cached, **more: Any) -> Reply | Awaitable[Reply | None] | None:
    """What comes of a second request while the first is under way: an awaitable if it waits."""
    assert world.hooks.request is not None
    return world.hooks.request(world.exchange(**more))


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        ({}, {}, True),
        ({}, {"headers": {"If-None-Match": '"1"'}}, True),
        ({"headers": {"If-None-Match": '"1"'}}, {}, False),
        ({}, {"target": "/other"}, False),
        ({}, {"route": "other"}, False),
        ({}, {"method": "HEAD"}, False),
        ({"method": "HEAD"}, {}, False),
        ({}, {"headers": {"Range": "bytes=0-1"}}, False),
        ({}, {"headers": {"Cache-Control": "no-cache"}}, False),
        ({}, {"headers": {"Cache-Control": "no-store"}}, False),
    ],
)
async def test_for_what_a_request_waits(first: dict[str, Any], second: dict[str, Any], waits: bool):
    world = Cached()
    complete = world.begin(world.exchange(**first))
    waiting = begun(world, **second)
    assert (waiting is not None) == waits
    complete(answer(MINUTE))
    if waiting is not None:
        reply = await waiting  # type: ignore[misc]
        assert isinstance(reply, Reply)
        assert reply.body == b"body"
        assert reply.blocks == [
            b"Age: 0\r\nCache-Status: gateway; fwd=uri-miss; collapsed; ttl=60\r\n"
        ]


async def test_for_a_stale_answer_one_request_asks_whether_it_holds():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(61)
    complete = world.begin(world.exchange())
    waiting = begun(world)
    assert waiting is not None
    complete(answer(TAGGED, b"", 304))
    reply = await waiting  # type: ignore[misc]
    assert isinstance(reply, Reply)
    assert reply.body == b"body"


@pytest.mark.parametrize(
    ("origin", "remembered"),
    [
        (answer({"Cache-Control": "no-store"}), True),
        (answer({"Cache-Control": "private"}), True),
        (answer({"Cache-Control": "no-cache", "ETag": '"1"'}), True),
        (answer({}, b"", 503), False),
        (DOWN, False),
    ],
)
async def test_what_is_not_for_all_is_asked_for_by_each(origin: Any, remembered: bool):
    world = Cached()
    complete = world.begin(world.exchange())
    waiting = begun(world)
    complete(origin)
    assert await waiting is None  # type: ignore[misc]
    following = world.begin(world.exchange())
    third = begun(world)
    assert (third is None) == remembered
    following(answer({"Cache-Control": "no-store"}))
    assert third is None or await third is None  # type: ignore[misc]
    world.wait(ALONE_SECONDS)
    last = world.begin(world.exchange())
    fourth = begun(world)
    assert fourth is not None
    last(answer(MINUTE))
    assert isinstance(await fourth, Reply)  # type: ignore[misc]


@pytest.mark.parametrize("shared", [False, True])
async def test_what_nobody_has_waited_for_is_remembered_for_a_shared_store_alone(shared: bool):
    """To remember each would cost more than it spares; a shared store is not asked for it."""
    world = Cached()
    cache: Any = world.hooks.request.__self__  # type: ignore[union-attr]
    cache._coalescing._shared = shared
    world.ask(answer({"Cache-Control": "no-store"}))
    following = world.begin(world.exchange())
    waiting = begun(world)
    assert (waiting is None) == shared
    following(answer({"Cache-Control": "no-store"}))
    assert waiting is None or await waiting is None  # type: ignore[misc]
    assert not cache._coalescing._flights.under_way


@pytest.mark.parametrize(
    "known",
    [{"headers": {"Authorization": "Bearer any"}}, {"identity": ALICE}, {"tls_subject": "CN=a"}],
)
async def test_who_says_who_it_is_makes_nobody_else_go_alone(known: dict[str, Any]):
    """One request with any Authorization would else send all others to the origin for a while."""
    world = Cached()
    alone = world.begin(world.exchange(**known))
    leading = world.begin(world.exchange())
    waiting, own = begun(world), begun(world, **known)
    assert waiting is not None
    assert own is not None
    alone(answer(MINUTE))
    assert begun(world, **known) is None
    leading(answer(MINUTE))
    assert isinstance(await waiting, Reply)  # type: ignore[misc]
    # What is stored by now is for all.
    assert isinstance(await own, Reply)  # type: ignore[misc]


async def test_what_is_kept_for_one_caller_is_not_shared():
    world = Cached({"private": True})
    complete = world.begin(world.exchange(identity=ALICE))
    waiting = begun(world, identity=BOB)
    complete(answer({"Cache-Control": "private, max-age=60"}))
    assert await waiting is None  # type: ignore[misc]


async def test_when_a_leading_request_comes_to_nothing_another_leads():
    world = Cached()
    leading = world.exchange()
    assert world.hooks.request is not None
    assert world.hooks.release is not None
    world.hooks.request(leading)
    assert not leading.notes[KEPT].wanted()
    waiting, other = begun(world), begun(world)
    assert leading.notes[KEPT].wanted()
    world.hooks.release(leading)
    assert await waiting is None  # type: ignore[misc]
    task = asyncio.ensure_future(other)  # type: ignore[arg-type]
    (flights,) = (kept for kept in world.world.kept if isinstance(kept, Flights))
    await until(lambda: flights.under_way[next(iter(flights.under_way))].wanted())
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def test_a_stream_that_turns_out_too_large_is_asked_for_by_each():
    world = Cached({"max_entry": 1000})
    complete = world.begin(world.exchange())
    waiting = begun(world)
    seen = complete(answer(MINUTE, Stream(b"x" * 600, b"x" * 600)))
    assert len(await seen.read()) == 1200
    assert await waiting is None  # type: ignore[misc]
