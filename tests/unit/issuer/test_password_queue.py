from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gateway.issuer.password_queue import Busy, PasswordQueue


@pytest.fixture
def queue() -> Iterator[PasswordQueue]:
    one = PasswordQueue(threads=1, waiting=3)
    yield one
    one.close()


class Held:
    """Work that waits to be let go, and notes when it ran."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.ran: list[str] = []

    def named(self, name: str) -> object:
        def work() -> str:
            self.begun.set()
            assert self.go.wait(10)
            self.ran.append(name)
            return name

        return work


async def test_only_so_many_wait(queue: PasswordQueue):
    held = Held()
    waits = [queue.run(held.named(name), "a") for name in "123"]
    queue._seconds = 2.0
    with pytest.raises(Busy) as busy:
        queue.run(held.named("4"), "a")
    assert busy.value.seconds == 6  # three, one after another, two seconds each
    assert repr(queue) == "<PasswordQueue 1 under way, 2 waiting>"
    waits.pop().cancel()  # a client that leaves makes room
    assert len(queue) == 2
    waits.append(queue.run(held.named("5"), "a"))
    held.go.set()
    assert [await wait for wait in waits] == ["1", "2", "5"] and len(queue) == 0


async def test_addresses_take_turns():
    queue, held = PasswordQueue(threads=1), Held()
    waits = [queue.run(held.named(f"a{number}"), "a") for number in range(5)]
    waits += [queue.run(held.named(f"b{number}"), "b") for number in range(2)] + [
        queue.run(held.named("c"), "c")
    ]
    held.go.set()
    for wait in waits:
        await wait
    assert held.ran == ["a0", "a1", "b0", "c", "a2", "b1", "a3", "a4"]
    queue.close()


async def test_a_full_queue_takes_from_whoever_has_most(queue: PasswordQueue):
    held = Held()
    first, second, third = (queue.run(held.named(name), "a") for name in "123")
    other = queue.run(held.named("other"), "b")
    with pytest.raises(Busy):
        queue.run(held.named("4"), "a")
    with pytest.raises(Busy):
        queue.run(held.named("late"), "c")  # nobody has more than one that waits
    with pytest.raises(Busy):
        await third
    held.go.set()
    assert [await wait for wait in (first, second, other)] == ["1", "2", "other"]


async def test_what_goes_wrong_and_what_is_left_at_the_end(queue: PasswordQueue):
    with pytest.raises(ZeroDivisionError):
        await queue.run(lambda: 1 / 0)
    held = Held()
    running, waiting = queue.run(held.named("1")), queue.run(held.named("2"))
    assert await asyncio.to_thread(held.begun.wait, 10)
    queue.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.go.set()
    assert await running == "1" and held.ran == ["1"]
