from __future__ import annotations

import asyncio
import logging
import os
import threading
import tomllib
from math import inf
from pathlib import Path
from time import time

import pytest

from gateway.lifetime.watch import RETRY, Changes, Watched, stamp, with_neighbours
from tests.until import until


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


async def test_a_file_that_is_being_written_is_taken_when_it_is_complete(reader: Reader):
    watched = reader.watched()
    with reader.path.open("w") as file:
        looking = asyncio.create_task(watched.look())
        await asyncio.sleep(0.03)
        file.write("complete")
    assert await looking is False
    assert await watched.look() is True
    assert reader.taken == ["complete"]
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
async def test_what_makes_no_sense_is_said_once_and_changes_nothing(
    reader: Reader, caplog, then: str | None
):
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


async def said(caplog: pytest.LogCaptureFixture, text: str) -> None:
    await until(lambda: text in caplog.text)


async def test_a_file_nested_too_deeply_does_not_end_the_watch(reader: Reader, caplog):
    watched = Watched(
        reader.path,
        stamp(reader.path),
        lambda: str(tomllib.loads(reader.path.read_text())["a"]),
        reader.take,
        every=0.005,
    )
    with caplog.at_level(logging.ERROR):
        reader.path.write_text(f"a = {'[' * 5000}{']' * 5000}")
        await said(caplog, "nested too deeply")
    reader.path.write_text('a = "revoked"')
    await asyncio.wait_for(reader.heard.wait(), 10)
    assert reader.taken == ["revoked"]
    watched.close()


async def test_an_error_of_ours_does_not_end_the_watch_and_the_file_is_tried_again(
    reader: Reader, caplog
):
    now, failing = 0.0, True

    def take(text: str) -> None:
        if failing:
            raise KeyError(text)
        reader.take(text)

    watched = Watched(
        reader.path, stamp(reader.path), reader.load, take, every=0.001, clock=lambda: now
    )
    reader.path.write_text("two")
    await said(caplog, "KeyError: 'two'")
    failing = False
    assert await watched.look() is False
    now = RETRY
    await asyncio.wait_for(reader.heard.wait(), 10)
    assert reader.taken == ["two"]
    watched.close()


async def test_what_could_not_be_read_is_tried_again_and_said_once(reader: Reader, caplog):
    now, text = 0.0, "bad"

    def load() -> str:
        if text == "bad":
            raise ValueError("no descriptors left")
        return text

    watched = Watched(reader.path, None, load, reader.take, every=3600, clock=lambda: now)
    assert await watched.look() is True
    assert await watched.look() is False
    now += RETRY
    assert await watched.look() is True
    text, now = "good", now + RETRY
    assert await watched.look() is True
    assert reader.taken == ["good"] and caplog.text.count("no descriptors left") == 1
    now += RETRY
    assert await watched.look() is False
    watched.close()


async def test_by_itself(reader: Reader):
    watched = reader.watched(every=0.005)
    reader.path.write_text("by itself")
    await asyncio.wait_for(reader.heard.wait(), 10)
    watched.close()


def test_without_a_loop_nothing_is_watched(reader: Reader):
    reader.watched().close()


class TestOffer:
    async def test_is_taken_at_the_commit(self, reader: Reader):
        watched = reader.watched()
        reader.path.write_text("three")
        step = watched.offer(stamp(reader.path), reader.load())
        assert reader.taken == []
        step()
        assert reader.taken == ["three"]
        assert await watched.look() is False, "the file is known already"
        watched.close()

    async def test_the_same_file_is_taken_once(self, reader: Reader):
        watched = reader.watched()
        watched.offer(stamp(reader.path), "one")()
        assert reader.taken == [], "it was read when the watch began"
        reader.path.write_text("three")
        for step in [watched.offer(stamp(reader.path), "three") for _ in range(3)]:
            step()
        assert reader.taken == ["three"]
        watched.close()

    async def test_what_the_watch_has_read_since_is_newer(self, reader: Reader):
        watched = reader.watched()
        reader.path.write_text("older")
        step = watched.offer(stamp(reader.path), "older")
        reader.path.write_text("newest")
        assert await watched.look()
        step()
        assert reader.taken == ["newest"]
        watched.close()

    async def test_what_the_watch_began_to_read_before_is_older(self, reader: Reader):
        may_end = threading.Event()

        def load() -> str:
            may_end.wait(10)
            return "older"

        watched = Watched(reader.path, None, load, reader.take, every=3600)
        looking = asyncio.create_task(watched.look())
        while not watched._reads:
            await asyncio.sleep(0)
        reader.path.write_text("newest")
        watched.offer(stamp(reader.path), "newest")()
        may_end.set()
        await looking
        assert reader.taken == ["newest"]
        watched.close()

    async def test_after_a_file_that_made_no_sense(self, reader: Reader):
        watched = reader.watched()
        reader.path.write_text("bad")
        seen = stamp(reader.path)
        assert await watched.look()
        watched.offer(seen, "read a moment before it was spoilt")()
        assert reader.taken == ["read a moment before it was spoilt"]
        watched.close()


class Configuration:
    """Files that are watched by hand; `reloads` counts what was done about them."""

    def __init__(self, folder: Path, since: float = inf) -> None:
        self.folder = folder
        self.reloads = 0
        self.write("a", "one")
        self.changes = Changes(
            lambda: with_neighbours([folder / "a.toml"]), self.reload, since=since, every=3600
        )

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.toml").write_text(text)

    async def reload(self) -> None:
        self.reloads += 1

    async def after_looks(self, number: int) -> int:
        for _ in range(number):
            await self.changes.look()
        return self.reloads


async def test_a_change_counts_once_it_has_settled(tmp_path: Path):
    files = Configuration(tmp_path)
    assert await files.after_looks(3) == 0
    files.write("a", "two and")
    assert await files.after_looks(1) == 0
    files.write("a", "two and more")
    assert await files.after_looks(1) == 0, "it was still being written"
    assert await files.after_looks(3) == 1
    files.changes.close()


async def test_files_that_come_and_go(tmp_path: Path):
    files = Configuration(tmp_path)
    files.write("b", "new")
    assert await files.after_looks(3) == 1
    (tmp_path / "b.toml").unlink()
    assert await files.after_looks(3) == 2
    (tmp_path / "a.toml").unlink()
    assert await files.after_looks(3) == 3
    (tmp_path / "notes.txt").write_text("no configuration")
    assert await files.after_looks(3) == 3
    files.changes.close()


async def test_what_was_written_after_it_was_read_has_changed(tmp_path: Path):
    files = Configuration(tmp_path, since=0)
    assert await files.after_looks(3) == 1
    files.changes.close()


@pytest.mark.parametrize("link", [False, True])
async def test_so_has_an_old_file_that_took_its_place_since(tmp_path: Path, link: bool):
    """As `mv` and `rsync -a` put it there, and as a link is led elsewhere."""
    files = Configuration(tmp_path)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("two")
    os.utime(old, (1e9, 1e9))
    if link:
        new.symlink_to(old)
    await asyncio.sleep(0.05)
    before = time()
    (new if link else old).replace(tmp_path / "a.toml")
    files.changes.were_read(before)
    assert await files.after_looks(3) == 1
    files.changes.close()


async def test_what_a_reload_has_read_is_no_change(tmp_path: Path):
    files = Configuration(tmp_path)
    files.write("a", "two and")
    files.changes.were_read(inf)
    assert await files.after_looks(3) == 0
    files.changes.close()


async def test_a_link_that_leads_elsewhere(tmp_path: Path):
    """A ConfigMap is a link to a folder, which is replaced as a whole."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.toml").write_text("same")
    folder = tmp_path / "config"
    folder.symlink_to(tmp_path / "first")
    files = Configuration(folder)
    (tmp_path / "new").symlink_to(tmp_path / "second")
    (tmp_path / "new").rename(folder)
    assert await files.after_looks(3) == 1
    files.changes.close()
