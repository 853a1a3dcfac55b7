"""What a configuration does not name is not imported: a process of its own says what is there after
`gateway check`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.conftest import write

LOOK = """
import json, sys
from pathlib import Path
from gateway.runtime.check import check
check(Path(sys.argv[1]), {})
print(json.dumps(sorted(sys.modules)))
"""
KEYS = 'methods = ["api_key"]\napi_key = { file = "keys.toml" }'
BASIC = 'methods = ["basic"]\nbasic = { file = "users.toml" }'
JWT = f'methods = ["jwt"]\n[[auth.jwt]]\nissuer = "i"\nsecret = "{"s" * 32}"'
SIGNED = f'{KEYS}\nforward = "token"\ntoken = {{ secret = "{"s" * 32}" }}'
STORED = 'methods = ["api_key"]\napi_key = { store = "redis://127.0.0.1:1" }'


def imported(directory: Path, auth: str) -> set[str]:
    write(
        directory,
        f"request = ['auth']\n[auth]\n{auth}\n[[route]]\npath = '/info'\nbuiltin = 'info'\n",
    )
    for name in ("keys.toml", "users.toml"):
        (directory / "pipelines" / name).write_text("") if name in auth else None
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(directory / "gateway.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("auth", "there"),
    [
        (KEYS, set()),
        (BASIC, {"argon2"}),
        (JWT, {"jwt", "cryptography"}),
        (SIGNED, {"jwt", "cryptography"}),
        (STORED, {"redis", "cryptography"}),  # which redis-py imports
    ],
    ids=["api_key", "basic", "jwt", "forward", "store"],
)
def test_only_what_is_needed(tmp_path: Path, auth: str, there: set[str]):
    found = imported(tmp_path, auth)
    assert "gateway.middlewares.auth" in found
    assert {name for name in ("jwt", "cryptography", "argon2", "redis") if name in found} == there
    ours = {
        name.rpartition(".")[2]
        for name in found
        if name.startswith(("gateway.middlewares.auth.", "gateway.tokens."))
    }
    tokens = {"jwt", "verifying", "internal_token", "introspection"}
    assert ours & tokens == (
        {"jwt", "verifying"}
        if auth is JWT
        else {"internal_token", "verifying"}
        if auth is SIGNED
        else set()
    )
