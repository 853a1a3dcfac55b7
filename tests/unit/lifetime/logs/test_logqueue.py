"""What all log queues have in common; how files do it is in test_logfile.py."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.lifetime.logs import logqueue
from gateway.lifetime.logs.logqueue import LogQueue, Record


@pytest.fixture(autouse=True)
def only_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues of other tests are not finished by these."""
    monkeypatch.setattr(logqueue, "_OPEN", set())


class Held(LogQueue):
    """Keeps what it is given, once it is let go on."""

    __slots__ = ("delivered", "go")

    def __init__(self, backlog: int = 100) -> None:
        super().__init__("held", interval=0.001, backlog=backlog)
        self.delivered: list[bytes] = []
        self.go = threading.Event()

    def _deliver(self, chunk: bytes | bytearray) -> Exception | None:
        self.go.wait(10)
        self.delivered.append(bytes(chunk))
        return None


def line(record: Record) -> bytes:
    text: bytes = record[1]
    return text


async def test_lines_beyond_the_backlog_are_dropped_and_counted():
    queue = Held(backlog=100)
    for _ in range(10):
        queue.append((line, b"x" * 59 + b"\n"))
        queue.flush()
    assert queue.dropped == 8  # Two are under way: the second was let in while 60 bytes waited.
    queue.go.set()
    queue.close()
    assert await asyncio.to_thread(queue.wait, 10)
    assert b"".join(queue.delivered).count(b"\n") == 2


async def test_a_line_that_cannot_be_encoded_is_dropped_alone():
    queue = Held()
    queue.go.set()
    queue.append((lambda record: 1 / 0,))
    queue.append((line, b"good\n"))
    queue.close()
    assert await asyncio.to_thread(queue.wait, 10)
    assert (queue.delivered, queue.dropped) == ([b"good\n"], 1)


async def test_finish_waits_for_all():
    queue = Held()
    queue.append((line, b"last\n"))
    queue.flush()
    assert not await asyncio.to_thread(logqueue.finish, 0.0)
    queue.go.set()
    assert await asyncio.to_thread(queue.wait, 10)
    assert queue.delivered == [b"last\n"]
