"""What is wrong with `[tokens]` is said where it stands."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.builtins.token_build import Ending
from gateway.config.toml.problems import ConfigErrors
from gateway.runtime.check import check
from gateway.store.stores import StoreDown

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + "A" * 43
TOKENS = '[tokens]\nissuer = "edge"\nkeys = [{ key = { file = "signing.pem" } }]\n'
TWICE = TOKENS.replace("}]", '}, { key = { file = "signing.pem" } }]')
LOGIN = '[[route]]\npath = "/login"\nbuiltin = "login"\n'
AUTH = '[auth]\nmethods = ["jwt"]\n[[auth.jwt]]\nissuer = "edge"\nown = true\n'


@pytest.fixture
def files(tmp_path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "signing.pem").write_bytes(pem)
    (tmp_path / "users.toml").write_text(f'[[user]]\nname = "alice"\nhash = "{HASH}"\n')
    (tmp_path / "upstreams.toml").write_text("")
    (tmp_path / "pipelines").mkdir()
    return tmp_path


def checked(files: Path, gateway: str, pipeline: str = LOGIN) -> list[str]:
    (files / "gateway.toml").write_text(gateway)
    (files / "pipelines" / "p.toml").write_text(pipeline)
    try:
        check(files / "gateway.toml", {})
    except ConfigErrors as errors:
        return [
            f"{problem.file.name}:{problem.line}: {problem.message} ({problem.hint})"
            for problem in errors.errors
        ]
    return []


def test_it_works(files: Path):
    assert checked(files, TOKENS) == []
    assert (
        checked(
            files,
            TOKENS,
            f'request = ["auth"]\n{AUTH}[[route]]\npath = "/p"\nbuiltin = "profile"\n',
        )
        == []
    )


@pytest.mark.parametrize("users", ["redis", "users.toml"])
def test_it_works_with_a_store(files: Path, users: str):
    text = TOKENS + f'users = "{users}"\n[store]\nurl = "redis://127.0.0.1:1"\n'
    assert checked(files, text) == []


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        (TOKENS.replace("signing", "other"), "gateway.toml:3: tokens.keys.key: cannot read"),
        (
            TOKENS.replace("signing.pem", "users.toml"),
            "gateway.toml:3: tokens.keys: is not a private key in PEM",
        ),
        (
            '[tokens]\nissuer = "edge"\nkeys = []\n',
            "gateway.toml:3: tokens.keys: there is none to sign with",
        ),
        (
            TOKENS.replace('key = { file = "signing.pem" }', 'secret = "short"'),
            "gateway.toml:3: tokens.keys: has 5 bytes; HS256 needs 32 or more",
        ),
        (
            TOKENS.replace("key = {", 'secret = "x", key = {'),
            "gateway.toml:3: tokens.keys.key: must have one of key and secret",
        ),
        (
            TOKENS + 'refresh_threshold = "15m"\n',
            "tokens.refresh_threshold: must be shorter than access",
        ),
        (TWICE, "gateway.toml:3: tokens.keys: there are two called"),
        (TOKENS + 'access = "25h"\n', "gateway.toml:4: tokens.access: must be a day at most"),
        (
            TOKENS + 'access = "30m"\n',
            "tokens.sessions.idle: 1800 s, and access tokens live 1800 s",
        ),
        (
            TOKENS + 'sessions = { idle = "10m" }\n',
            "gateway.toml:4: tokens.sessions.idle: 600 s, and access tokens live 900 s",
        ),
        (
            TOKENS + 'sessions = { renewal_threshold = "31m" }\n',
            "gateway.toml:4: tokens.sessions.renewal_threshold: must not be longer than idle",
        ),
        (
            TOKENS + 'sessions = { renewal_threshold = "5m" }\n',
            "tokens.sessions.renewal_threshold: 300 s, and access tokens live 900 s",
        ),
        (
            TOKENS + 'argon2 = { memory = "16KiB" }\n',
            "gateway.toml:4: tokens.argon2.memory: must be 8 KiB a lane",
        ),
        (TOKENS + 'users = "nobody.toml"\n', "gateway.toml:4: tokens.users: there is no user file"),
        (TOKENS + 'users = "signing.pem"\n', "gateway.toml:4: tokens.users:"),
        (
            TOKENS + 'users = "redis"\n',
            'gateway.toml:4: tokens.users: "redis" is what [store] url names, and that is no Redis',
        ),
        (
            TOKENS + 'audit = { file = "no/audit.log" }\n',
            "gateway.toml:4: tokens.audit: cannot open",
        ),
        ("", "p.toml:3: route.builtin: 'login' needs an issuer (add [tokens] to gateway.toml)"),
    ],
)
def test_mistakes(files: Path, gateway: str, expected: str):
    [said] = checked(files, gateway)
    assert expected in said and "PRIVATE" not in said


@pytest.mark.parametrize(
    ("gateway", "pipeline", "expected"),
    [
        (
            TOKENS,
            '[[route]]\npath = "/p"\nbuiltin = "profile"\n',
            "p.toml:3: route.builtin: 'profile' needs to know who is calling",
        ),
        (
            TOKENS,
            (
                f'request = ["auth"]\n{AUTH}[[route]]\npath = "/p"\nbuiltin = '
                f'"change_password"\nauth = false\n'
            ),
            "p.toml:9: route.builtin: 'change_password' needs to know who is calling",
        ),
        (
            "",
            f'request = ["auth"]\n{AUTH}',
            "p.toml:6: auth: own needs the gateway to issue tokens",
        ),
        (
            TOKENS,
            f'request = ["auth"]\n{AUTH}'.replace('issuer = "edge"', 'issuer = "other"'),
            "p.toml:5: auth: own: the gateway issues tokens as edge",
        ),
        (
            TOKENS,
            f'request = ["auth"]\n{AUTH}algorithms = ["RS256"]\n',
            "p.toml:7: auth: algorithms: holds no usable key",
        ),
        (
            TOKENS,
            f'request = ["auth"]\n{AUTH}discovery = true\n',
            "p.toml:4: auth: edge: discovery and own says where its keys are",
        ),
    ],
)
def test_mistakes_of_routes(files: Path, gateway: str, pipeline: str, expected: str):
    [said] = checked(files, gateway, pipeline)
    assert expected in said


async def test_sessions_that_cannot_be_ended_now(caplog: pytest.LogCaptureFixture):
    class Away:
        async def end_before(self, user: str, moment: float) -> int:
            raise StoreDown("the server is down")

    ending = Ending(Away())  # type: ignore[arg-type]
    ending("alice", 1.0)
    await asyncio.gather(*ending._tasks)
    assert "the sessions of alice cannot be ended: the server is down" in caplog.text
