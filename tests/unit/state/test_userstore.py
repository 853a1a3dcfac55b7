from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.state import userchange, userfile
from gateway.state.userfile import User, UserFileError
from gateway.state.userstore import FileUsers
from gateway.state.watch import stamp

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43
ALICE = User("alice", HASH, "alice")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "users.toml"
    userfile.add_hashed(file, User("alice", HASH))
    return file


async def test_changes_count_at_once_and_are_written(path: Path):
    users = FileUsers(path, userfile.load(path), stamp(path))
    assert await users.get("alice") == ALICE and await users.get("bob") is None
    gold = replace(ALICE, hash=HASH[:-1] + "E")
    assert await users.change(ALICE, gold) and await users.get("alice") == gold == userfile.load(path)["alice"]
    assert not await users.change(ALICE, gold)
    assert HASH not in repr(users)
    users.close()


async def test_what_was_read_while_it_was_written_is_not_taken(path: Path):
    users = FileUsers(path, userfile.load(path), stamp(path))
    gold = replace(ALICE, hash=HASH[:-1] + "E")
    before = users._watched._load()
    assert await users.change(ALICE, gold)
    users._take(before)
    assert await users.get("alice") == gold
    assert await users._watched.look()  # and so it is looked at once more
    assert await users.get("alice") == gold
    users.close()


async def test_a_file_that_was_changed_by_others(path: Path):
    users = FileUsers(path, userfile.load(path), stamp(path))
    path.write_text(path.read_text() + 'tier = "gold"\n')
    assert not await users.change(ALICE, replace(ALICE, hash=HASH[:-1] + "E"))
    assert await users.get("alice") == ALICE
    path.write_text("x")
    with pytest.raises(UserFileError):
        await users.change(ALICE, replace(ALICE, hash=HASH[:-1] + "E"))
    users.close()


async def test_changes_elsewhere_are_told(path: Path):
    userfile.add_hashed(path, User("bob", HASH))
    users = FileUsers(path, userfile.load(path), stamp(path))
    told: list[tuple[str, float]] = []
    users.listeners.add(lambda name, moment: told.append((name, moment)))
    alice = userfile.load(path)["alice"]
    await users.change(alice, userchange.at(alice, 1000.0))
    assert await users._watched.look() and told == []  # our own
    alice = userfile.load(path)["alice"]
    userchange.change(path, alice, userchange.at(alice, 2000.0))
    userchange.remove(path, "bob")
    assert await users._watched.look()
    assert told == [("alice", 2000.0), ("bob", math.inf)]
    users.close()
