"""A place in the queue: granted, timed out or left, each once."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.upstream.pool.queue import Place


async def test_a_granted_place_is_over_in_the_next_turn() -> None:
    queue: deque[Place] = deque()
    place = Place(queue, 10.0, False)
    assert list(queue) == [place]
    queue.popleft().grant()
    assert place.granted
    assert not place.done, "its turn may lead to another"
    assert await place is True


async def test_one_that_waits_for_too_long_leaves() -> None:
    queue: deque[Place] = deque()
    assert await Place(queue, 0.001, False) is False
    assert not queue


async def test_the_first_goes_in_front() -> None:
    queue: deque[Place] = deque()
    second, first = Place(queue, 10.0, False), Place(queue, 10.0, True)
    assert list(queue) == [first, second]
    first.leave()
    first.leave()
    assert list(queue) == [second]
    second.leave()


async def test_a_place_that_was_left_is_granted_nothing() -> None:
    queue: deque[Place] = deque()
    place = Place(queue, 0.001, False)
    place.leave()
    await asyncio.sleep(0.002)
    assert not place.done
