"""Where `gateway users` keeps users: a file, a store, or what the configuration says."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from gateway.commands.credentials import users
from gateway.credentials.users import user_file
from tests.redis import RedisServer, shared_redis  # noqa: F401


def test_where_the_configuration_says(users_shell, tmp_path: Path):
    (tmp_path / "key.pem").write_text("not read here")
    config = tmp_path / "gateway.toml"
    tokens = '[tokens]\nissuer = "x"\nkeys = [{ key = "x" }]\n'
    config.write_text(
        'include = []\n[store]\nurl = "redis://127.0.0.1:1"\n' + tokens + 'users = "redis"\n'
    )
    assert "redis://127.0.0.1:1 cannot be used" in users_shell(
        "list", "--config", str(config), code=1
    )
    config.write_text("include = []\n" + tokens + 'users = "mine.toml"\n')
    users_shell("add", "alice", "--config", str(config))
    assert list(user_file.load(tmp_path / "mine.toml")) == ["alice"]
    config.write_text("include = []\n")
    assert "has no [tokens]" in users_shell("list", "--config", str(config), code=1)
    config.write_text("x")
    assert "no telling" in users_shell("list", "--config", str(config), code=1)


def test_urls(users_shell):
    assert "URL must name" in users_run(["list", "--store", "redis://"])


def users_run(words: list[str]) -> str:
    parser = argparse.ArgumentParser("gateway")
    users.arguments(parser)
    error = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", error)
        args = parser.parse_args(words)
        assert users.run(args) == 1
    return error.getvalue()
