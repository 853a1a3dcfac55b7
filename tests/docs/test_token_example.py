"""examples/tokens: what its first lines tell to do makes it work."""

from __future__ import annotations

import shutil
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.config.tables.tokens import BUILTINS
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from gateway.runtime.check import check

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tokens"


def test_it_checks(tmp_path: Path):
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "signing.pem").write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "signing.pem").chmod(0o600)
    user_edits.add(
        tmp_path / "users.toml",
        User("alice", user_file.hashed("password of alice"), roles=frozenset(("operator",))),
    )
    loaded = check(tmp_path / "gateway.toml", {})
    assert loaded.warnings == ()
    assert {route.builtin for pipeline in loaded.pipelines for route in pipeline.routes} == {
        *BUILTINS,
        "",
    }
