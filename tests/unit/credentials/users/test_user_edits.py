from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43
OTHER = HASH[:-1] + "E"
TEXT = f"""# mine
[[user]]  # the first
name = "alice"
hash = "{HASH}"

# about bob
[[user]]
name = "bob"
hash = "{HASH}"
roles = ["a"]"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "users.toml"
    file.write_text(TEXT)
    return file


def test_fields_are_changed_and_all_else_stays(path: Path):
    bob = user_file.load(path)["bob"]
    new = user_edits.at(replace(bob, hash=OTHER, totp="A" * 32), 1_700_000_000.123456)
    assert user_edits.change(path, bob, new)
    assert user_file.load(path)["bob"] == new
    assert path.read_text().startswith(TEXT[: TEXT.index("# about bob") + 40])
    assert user_edits.change(path, new, replace(new, totp=""))
    assert user_file.load(path)["bob"] == replace(new, totp="")
    assert "totp" not in path.read_text()


def test_nothing_is_written_over_somebody_elses_change(path: Path):
    bob = user_file.load(path)["bob"]
    assert not user_edits.change(path, replace(bob, hash=OTHER), bob)
    assert not user_edits.change(path, User("nobody", HASH), User("nobody", OTHER))
    assert path.read_text() == TEXT


def test_remove(path: Path):
    user_edits.remove(path, "alice")
    assert list(user_file.load(path)) == ["bob"]
    assert path.read_text().startswith("# mine\n")
    user_edits.remove(path, "bob")
    assert user_file.load(path) == {}
    with pytest.raises(CredentialError, match="no user bob"):
        user_edits.remove(path, "bob")


@pytest.mark.parametrize(
    "text",
    [
        f'user = [{{ name = "alice", hash = "{HASH}" }}]\n',
        f'[[user]]\nname = "alice"\n"hash" = "{HASH}"\n',
    ],
)
def test_other_layouts(path: Path, text: str):
    path.write_text(text)
    alice = user_file.load(path)["alice"]
    assert user_edits.change(path, alice, replace(alice, hash=OTHER))
    user_edits.add(path, User("bob", HASH))
    assert {user.name: user.hash for user in user_file.load(path).values()} == {
        "alice": OTHER,
        "bob": HASH,
    }


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    alice = User("alice", HASH)
    for call in (
        lambda path: user_edits.change(path, alice, alice),
        lambda path: user_edits.remove(path, "alice"),
    ):
        with pytest.raises(CredentialError, match="cannot write"):
            call(tmp_path / "no" / "users.toml")


@pytest.mark.parametrize(
    "line", ['totp = "abc"', "totp = 1", 'changed = "then"', "changed = 2020-01-01"]
)
def test_fields_that_make_no_sense(path: Path, line: str):
    path.write_text(f"{TEXT}\n{line}\n")
    with pytest.raises(CredentialError, match=r"totp must be|changed must be"):
        user_file.load(path)


def test_a_file_that_others_can_read_is_worth_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
):
    for mode, said in ((0o600, False), (0o644, True)):
        caplog.clear()
        path.chmod(mode)
        user_file.load(path)
        assert ("every user of this machine can read" in caplog.text) == said
