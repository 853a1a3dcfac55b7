from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.credentials import user_places
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from gateway.issuer import totp
from tests.redis import RedisServer, shared_redis  # noqa: F401


def listed(users_shell: Callable[..., str]) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(users_shell("list", "--json"))}


def test_add_and_list(users_shell):
    assert users_shell(
        "add", "alice", "--client", "acme", "--roles", "a, b", "--permissions", "p"
    ).startswith("alice is in ")
    users_shell("add", "bob", typed="é" * 4 + "\n")
    assert listed(users_shell) == {
        "alice": {
            "name": "alice", "client": "acme", "tier": "", "roles": ["a", "b"], "permissions": ["p"],
            "second_factor": False, "sessions_since": None,
        },
        "bob": {
            "name": "bob", "client": "bob", "tier": "", "roles": [], "permissions": [],
            "second_factor": False, "sessions_since": None,
        },
    }  # fmt: skip
    head, *rows = users_shell("list").splitlines()
    assert head.split()[0] == "NAME" and [row.split()[0] for row in rows] == ["alice", "bob"]
    assert "has a user alice already" in users_shell("add", "alice", code=1)
    assert "argon2" not in users_shell("list")


def test_nobody(users_shell):
    users_shell("add", "alice")
    users_shell("remove", "alice")
    assert users_shell("list").startswith("no users in ")
    for action in ("passwd", "totp", "logout", "remove"):
        assert "has no user alice" in users_shell(action, "alice", code=1)


def test_passwd(users_shell):
    users_shell("add", "alice")
    assert "has another password" in users_shell("passwd", "alice", typed="new password\n")
    assert listed(users_shell)["alice"]["sessions_since"] == "2023-11-14T22:13:20Z"


def test_logout(users_shell):
    users_shell("add", "alice")
    assert "have ended" in users_shell("logout", "alice")
    assert listed(users_shell)["alice"]["sessions_since"] == "2023-11-14T22:13:20Z"


def test_totp(users_shell):
    users_shell("add", "alice")
    said = users_shell("totp", "alice", "--issuer", "Edge").splitlines()
    secret, uri = said[2].strip(), said[3].strip()
    assert user_file.TOTP.fullmatch(secret) and uri == totp.uri(secret, "alice", "Edge")
    assert listed(users_shell)["alice"]["second_factor"] and secret not in users_shell("list")
    assert "--remove" in users_shell("totp", "alice", code=1)
    users_shell("totp", "alice", "--remove")
    assert not listed(users_shell)["alice"]["second_factor"]
    assert "no second factor" in users_shell("totp", "alice", "--remove", code=1)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("\n", "no password was given"),
        ("", "no password was given"),
        ("short\n", "must have 8 bytes or more"),
        ("x" * 1025 + "\n", "must have 1024 bytes at most"),
        ("\udc80" * 9 + "\n", "not UTF-8"),
    ],
)
def test_passwords_that_will_not_do(users_shell, typed: str, why: str):
    assert why in users_shell("add", "alice", typed=typed, code=1)


def test_the_policy_of_a_configuration(tmp_path: Path):
    key = "s" * 32
    (tmp_path / "gateway.toml").write_text(
        f'include = []\n[tokens]\nissuer = "edge"\nkeys = [{{ secret = "{key}" }}]\n'
        "password = { min_length = 20 }\n"
    )
    place = user_places._configured(tmp_path / "gateway.toml")
    assert place.policy.problem("x" * 19, "alice") == "must have 20 characters or more"


def test_names_that_will_not_do(users_shell):
    assert "colon" in users_shell("add", "a:b", code=1)


def test_somebody_else_is_faster(users_shell, monkeypatch: pytest.MonkeyPatch):
    users_shell("add", "alice")
    for place in (user_places.UserFile, type(user_places._store("redis://127.0.0.1"))):
        monkeypatch.setattr(place, "change", lambda self, old, new: False)
    assert "another process" in users_shell("passwd", "alice", code=1)


def test_on_a_terminal(users_shell, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("io.StringIO", Terminal)
    monkeypatch.setattr("getpass.getpass", lambda: "typed password")
    users_shell("add", "alice")


def test_hashes_are_argon2(tmp_path: Path):
    user_edits.add(tmp_path / "users.toml", User("alice", user_file.hashed("password")))
    assert user_file.verifies(user_file.load(tmp_path / "users.toml")["alice"].hash, "password")
