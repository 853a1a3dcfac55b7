"""Registrations kept in a file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from gateway.config.tables.targets import ServiceConfig
from gateway.upstream.discovery.kept import FILE, InFile, InMemory, Unkept
from gateway.upstream.discovery.registered import Registrations, Unregistered
from tests.until import until

A = ServiceConfig("a", "http://a:1", "/health", 2, 7.0, circuit_breaker_enabled=False)
B = ServiceConfig("b", "http://b:1")


def ignore(registrations: Registrations) -> None:
    """Nobody follows."""


async def test_in_memory():
    keeper = InMemory()
    assert await keeper.put(A) == (A,)
    assert await keeper.put(B) == await keeper.load() == (A, B)
    assert await keeper.drop("a") == (B,)
    assert not keeper.lasting


async def test_a_file_outlasts_its_process(tmp_path: Path):
    state = tmp_path / "state"
    first = InFile(state, ignore)
    assert await first.load() == ()
    await first.put(A)
    assert await first.put(B) == (A, B)
    first.close()
    second = InFile(state, ignore)
    assert await second.load() == (A, B)
    assert await second.drop("b") == (A,)
    assert await second.drop("b") == (A,)
    second.close()
    assert stat.S_IMODE((state / FILE).stat().st_mode) == 0o600
    assert [path.name for path in state.iterdir()] == [FILE]


async def test_what_another_process_changes_is_told(tmp_path: Path):
    told: list[Registrations] = []
    one, other = InFile(tmp_path, told.append), InFile(tmp_path, ignore)
    await one.load()
    await other.put(A)
    await until(lambda: told)
    assert told == [(A,)]
    one.close()
    other.close()


@pytest.mark.parametrize(
    "text", ["{", "{}", "[1]", json.dumps([{"name": "a"}]), json.dumps([{"name": "a", "url": "x"}])]
)
async def test_a_file_that_is_wrong_is_not_written_over(tmp_path: Path, text: str):
    (tmp_path / FILE).write_text(text)
    keeper = InFile(tmp_path, ignore)
    with pytest.raises(Unregistered, match=r"services\.json"):
        await keeper.load()
    with pytest.raises(Unregistered):
        await keeper.put(A)
    assert (tmp_path / FILE).read_text() == text
    keeper.close()


async def test_a_directory_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    keeper = InFile(tmp_path / "file" / "state", ignore)
    with pytest.raises(Unkept, match="cannot"):
        await keeper.put(A)
    keeper.close()
