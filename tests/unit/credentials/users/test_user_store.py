from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from gateway.credentials.users.user_store import FileUsers
from gateway.lifetime.watch import stamp

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43
ALICE = User("alice", HASH, "alice")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "users.toml"
    user_edits.add(file, User("alice", HASH))
    return file


async def test_changes_count_at_once_and_are_written(path: Path):
    users = FileUsers(path, user_file.load(path), stamp(path))
    assert await users.get("alice") == ALICE and await users.get("bob") is None
    gold = replace(ALICE, hash=HASH[:-1] + "E")
    assert (
        await users.change(ALICE, gold)
        and await users.get("alice") == gold == user_file.load(path)["alice"]
    )
    assert not await users.change(ALICE, gold)
    assert HASH not in repr(users)
    users.close()


async def test_what_was_read_while_it_was_written_is_not_taken(path: Path):
    users = FileUsers(path, user_file.load(path), stamp(path))
    gold = replace(ALICE, hash=HASH[:-1] + "E")
    before = users._watched._load()
    assert await users.change(ALICE, gold)
    users._take(before)
    assert await users.get("alice") == gold
    assert await users._watched.look()  # and so it is looked at once more
    assert await users.get("alice") == gold
    users.close()


async def test_a_file_that_was_changed_by_others(path: Path):
    users = FileUsers(path, user_file.load(path), stamp(path))
    path.write_text(path.read_text() + 'tier = "gold"\n')
    assert not await users.change(ALICE, replace(ALICE, hash=HASH[:-1] + "E"))
    assert await users.get("alice") == ALICE
    path.write_text("x")
    with pytest.raises(CredentialError):
        await users.change(ALICE, replace(ALICE, hash=HASH[:-1] + "E"))
    users.close()


async def test_changes_elsewhere_are_told(path: Path):
    user_edits.add(path, User("bob", HASH))
    users = FileUsers(path, user_file.load(path), stamp(path))
    told: list[tuple[str, float]] = []
    users.listeners.add(lambda name, moment: told.append((name, moment)))
    alice = user_file.load(path)["alice"]
    await users.change(alice, user_edits.at(alice, 1000.0))
    assert await users._watched.look() and told == []  # our own
    alice = user_file.load(path)["alice"]
    user_edits.change(path, alice, user_edits.at(alice, 2000.0))
    user_edits.remove(path, "bob")
    assert await users._watched.look()
    assert told == [("alice", 2000.0), ("bob", math.inf)]
    users.close()
