"""`gateway users` as tests call it."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.commands.credentials import users
from gateway.credentials.users import user_file
from tests.redis import RedisServer

NOW = 1_700_000_000.25


class Cheap:
    """Argon2 as it should not be."""

    @staticmethod
    def hash(password: str) -> str:
        return (
            f"$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ${password.encode().hex().ljust(43, 'A')[:43]}"
        )


@pytest.fixture(params=["file", "store"])
def users_shell(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs `gateway users`, with a file and with a Redis."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(user_file, "PasswordHasher", Cheap)
    parser = argparse.ArgumentParser("gateway")
    users.arguments(parser)
    where: list[str] = []
    if request.param == "store":
        server: RedisServer = request.getfixturevalue("shared_redis")
        server.command("DEL", "gateway:{tokens}:users")
        where = ["--store", server.url]

    def run(*words: str, typed: str = "password\n", code: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        args = parser.parse_args([*words, *(where if "--config" not in words else [])])
        assert users.run(args, lambda: NOW) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run
