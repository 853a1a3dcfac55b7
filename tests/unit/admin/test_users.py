from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from gateway.admin import users
from gateway.state import userfile


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser("gateway")
    users.add_parser(parser.add_subparsers())

    def run(*words: str, typed: str = "password\n", code: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        args = parser.parse_args(["users", *words])
        assert args.run(args) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run


def test_add(shell):
    assert shell("add", "alice", "--client", "acme", "--roles", "a, b", "--permissions", "p").startswith(
        "alice is in users.toml."
    )
    [user] = userfile.load(Path("users.toml")).values()
    assert (user.client, user.roles, user.permissions) == ("acme", {"a", "b"}, {"p"})
    assert userfile.verifies(user.hash, "password")


def test_wrong(shell):
    assert shell("add", "alice", typed="\n", code=1) == "gateway users add: no password was given\n"
    assert "colon" in shell("add", "a:b", code=1)
    assert not Path("users.toml").exists()


def test_on_a_terminal(shell, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("io.StringIO", Terminal)
    monkeypatch.setattr("getpass.getpass", lambda: "typed")
    shell("add", "alice")
    assert userfile.verifies(userfile.load(Path("users.toml"))["alice"].hash, "typed")
