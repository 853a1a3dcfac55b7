from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.commands import user_places, users
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from gateway.issuer import totp
from tests.redis import RedisServer, shared_redis  # noqa: F401

NOW = 1_700_000_000.25


class Cheap:
    """Argon2 as it should not be."""

    @staticmethod
    def hash(password: str) -> str:
        return f"$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ${password.encode().hex().ljust(43, 'A')[:43]}"


@pytest.fixture(params=["file", "store"])
def shell(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs `gateway users`, with a file and with a Redis."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(user_file, "PasswordHasher", Cheap)
    parser = argparse.ArgumentParser("gateway")
    users.add_parser(parser.add_subparsers())
    where: list[str] = []
    if request.param == "store":
        server: RedisServer = request.getfixturevalue("shared_redis")
        server.command("DEL", "gateway:{tokens}:users")
        where = ["--store", server.url]

    def run(*words: str, typed: str = "password\n", code: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        args = parser.parse_args(["users", *words, *(where if "--config" not in words else [])])
        assert args.run(args, lambda: NOW) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run


def listed(shell: Callable[..., str]) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(shell("list", "--json"))}


def test_add_and_list(shell):
    assert shell("add", "alice", "--client", "acme", "--roles", "a, b", "--permissions", "p").startswith("alice is in ")
    shell("add", "bob", typed="é" * 4 + "\n")
    assert listed(shell) == {
        "alice": {
            "name": "alice", "client": "acme", "tier": "", "roles": ["a", "b"], "permissions": ["p"],
            "second_factor": False, "sessions_since": None,
        },
        "bob": {
            "name": "bob", "client": "bob", "tier": "", "roles": [], "permissions": [],
            "second_factor": False, "sessions_since": None,
        },
    }  # fmt: skip
    head, *rows = shell("list").splitlines()
    assert head.split()[0] == "NAME" and [row.split()[0] for row in rows] == ["alice", "bob"]
    assert "has a user alice already" in shell("add", "alice", code=1)
    assert "argon2" not in shell("list")


def test_nobody(shell):
    shell("add", "alice")
    shell("remove", "alice")
    assert shell("list").startswith("no users in ")
    for action in ("passwd", "totp", "logout", "remove"):
        assert "has no user alice" in shell(action, "alice", code=1)


def test_passwd(shell):
    shell("add", "alice")
    assert "has another password" in shell("passwd", "alice", typed="new password\n")
    assert listed(shell)["alice"]["sessions_since"] == "2023-11-14T22:13:20Z"


def test_logout(shell):
    shell("add", "alice")
    assert "have ended" in shell("logout", "alice")
    assert listed(shell)["alice"]["sessions_since"] == "2023-11-14T22:13:20Z"


def test_totp(shell):
    shell("add", "alice")
    said = shell("totp", "alice", "--issuer", "Edge").splitlines()
    secret, uri = said[2].strip(), said[3].strip()
    assert user_file.TOTP.fullmatch(secret) and uri == totp.uri(secret, "alice", "Edge")
    assert listed(shell)["alice"]["second_factor"] and secret not in shell("list")
    assert "--remove" in shell("totp", "alice", code=1)
    shell("totp", "alice", "--remove")
    assert not listed(shell)["alice"]["second_factor"]
    assert "no second factor" in shell("totp", "alice", "--remove", code=1)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("\n", "no password was given"),
        ("", "no password was given"),
        ("short\n", "8 to 1024 bytes, this one 5"),
        ("x" * 1025 + "\n", "this one 1025"),
        ("\udc80" * 9 + "\n", "not UTF-8"),
    ],
)
def test_passwords_that_will_not_do(shell, typed: str, why: str):
    assert why in shell("add", "alice", typed=typed, code=1)


def test_names_that_will_not_do(shell):
    assert "colon" in shell("add", "a:b", code=1)


def test_somebody_else_is_faster(shell, monkeypatch: pytest.MonkeyPatch):
    shell("add", "alice")
    for place in (user_places.UserFile, type(user_places._store("redis://127.0.0.1"))):
        monkeypatch.setattr(place, "change", lambda self, old, new: False)
    assert "another process" in shell("passwd", "alice", code=1)


def test_where_the_configuration_says(shell, tmp_path: Path):
    (tmp_path / "key.pem").write_text("not read here")
    config = tmp_path / "gateway.toml"
    tokens = '[tokens]\nissuer = "x"\nkeys = [{ key = "x" }]\n'
    config.write_text('include = []\n[store]\nurl = "redis://127.0.0.1:1"\n' + tokens + 'users = "redis"\n')
    assert "redis://127.0.0.1:1 cannot be used" in shell("list", "--config", str(config), code=1)
    config.write_text("include = []\n" + tokens + 'users = "mine.toml"\n')
    shell("add", "alice", "--config", str(config))
    assert list(user_file.load(tmp_path / "mine.toml")) == ["alice"]
    config.write_text("include = []\n")
    assert "has no [tokens]" in shell("list", "--config", str(config), code=1)
    config.write_text("x")
    assert "no telling" in shell("list", "--config", str(config), code=1)


def test_urls(shell):
    assert "URL must name" in users_run(["list", "--store", "redis://"])


def users_run(words: list[str]) -> str:
    parser = argparse.ArgumentParser("gateway")
    users.add_parser(parser.add_subparsers())
    error = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", error)
        args = parser.parse_args(["users", *words])
        assert args.run(args) == 1
    return error.getvalue()


def test_on_a_terminal(shell, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("io.StringIO", Terminal)
    monkeypatch.setattr("getpass.getpass", lambda: "typed password")
    shell("add", "alice")


def test_hashes_are_argon2(tmp_path: Path):
    user_edits.add(tmp_path / "users.toml", User("alice", user_file.hashed("password")))
    assert user_file.verifies(user_file.load(tmp_path / "users.toml")["alice"].hash, "password")
