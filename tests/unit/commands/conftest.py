from __future__ import annotations

from pathlib import Path

import pytest

from tests.redis import shared_redis
from tests.unit.admin.conftest import admin, guarded, state
from tests.unit.commands.credentials.shell import Shell
from tests.unit.commands.credentials.users_shell import users_shell

__all__ = ["admin", "guarded", "shared_redis", "state", "users_shell"]


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(capsys, tmp_path / "keys.toml")
