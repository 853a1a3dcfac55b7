from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from gateway.lifetime.watch import Watched, stamp


class Reader:
    """Takes what a file says; "bad" makes no sense."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken: list[str] = []
        self.heard = asyncio.Event()

    def load(self) -> str:
        if not self.path.exists():
            raise ValueError("there is none")
        text = self.path.read_text()
        if text == "bad":
            raise ValueError("it is bad")
        return text

    def take(self, text: str) -> None:
        self.taken.append(text)
        self.heard.set()

    def watched(self, every: float = 3600) -> Watched[str]:
        return Watched(self.path, stamp(self.path), self.load, self.take, every=every)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    (tmp_path / "file").write_text("one")
    return Reader(tmp_path / "file")


async def test_read_again_when_it_changes_and_only_then(reader: Reader):
    watched = reader.watched()
    assert await watched.look() is False
    reader.path.write_text("three")
    assert await watched.look() is True
    assert await watched.look() is False
    assert reader.taken == ["three"]
    watched.close()


async def test_a_rename_within_the_same_instant_is_seen(reader: Reader):
    watched = reader.watched()
    other = reader.path.with_name("other")
    other.write_text("two")
    os.utime(other, ns=(0, reader.path.stat().st_mtime_ns))
    other.replace(reader.path)
    assert await watched.look() is True
    assert reader.taken == ["two"]
    watched.close()


@pytest.mark.parametrize("then", ["bad", None])
async def test_what_makes_no_sense_is_said_once_and_changes_nothing(reader: Reader, caplog, then: str | None):
    watched = reader.watched()
    reader.path.write_text(then) if then else reader.path.unlink()
    with caplog.at_level(logging.ERROR):
        assert await watched.look() is True
        assert await watched.look() is False
    assert reader.taken == [] and caplog.text.count("what was read before stays: ") == 1
    reader.path.write_text("good again")
    assert await watched.look() is True
    assert reader.taken == ["good again"]
    watched.close()


async def test_by_itself(reader: Reader):
    watched = reader.watched(every=0.005)
    reader.path.write_text("by itself")
    await asyncio.wait_for(reader.heard.wait(), 10)
    watched.close()


def test_without_a_loop_nothing_is_watched(reader: Reader):
    reader.watched().close()
