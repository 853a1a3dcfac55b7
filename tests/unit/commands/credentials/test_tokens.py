from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from gateway.commands.credentials import tokens
from gateway.credentials.revocations.redis_revocations import RedisRevocations
from gateway.credentials.revocations.revoked import ALWAYS, Revocation, load
from gateway.store.redis.blocking import connected
from gateway.store.stores import parse
from tests.flow.conftest import write
from tests.redis import RedisServer

NOW = 1_700_000_000.5
NEXT = 1_700_000_001
LATER = 1_700_003_600


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser("gateway")
    tokens.arguments(parser)

    def run(*words: str, code: int = 0) -> str:
        args = parser.parse_args(words)
        assert tokens.run(args, now=lambda: NOW) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run


@pytest.mark.parametrize(
    ("words", "entry", "said"),
    [
        (["--jti", "a"], Revocation(jti="a"), "the token a."),
        (
            ["--jti", "a", "--for", "1h"],
            Revocation(jti="a", until=LATER),
            "the token a, until 2023-11-14 23:13:20 UTC.",
        ),
        (
            ["--subject", "al"],
            Revocation(subject="al", before=NEXT),
            "tokens of al issued before 2023-11-14 22:13:21 UTC.",
        ),
        (
            ["--everybody", "--issuer", "https://i"],
            Revocation(issuer="https://i", before=NEXT),
            "everybody's tokens from",
        ),
        (
            ["--subject", "al", "--before", "2023-01-01"],
            Revocation(subject="al", before=1_672_531_200),
            "2023-01-01 00:00",
        ),
    ],
)
def test_revoke(shell, words: list[str], entry: Revocation, said: str):
    told = shell("revoke", *words)
    assert told.startswith("Revoked in revoked.toml: ") and said in told
    assert load(Path("revoked.toml")) == (entry,)
    assert said.rstrip(".") in shell("list")


def test_elsewhere_and_nothing(shell):
    assert shell("list") == "nothing is revoked in revoked.toml\n"
    shell("revoke", "--jti", "a", "--file", "other.toml")
    assert load(Path("other.toml"))[0].before == ALWAYS


@pytest.mark.parametrize("words", [["--before", "soon"], ["--for", "ever"]])
def test_wrong(shell, words: list[str]):
    assert "must be a date" in shell("revoke", "--jti", "a", *words, code=1)
    Path("revoked.toml").write_text("x")
    assert "is not TOML" in shell("list", code=1)


def test_usage(shell):
    with pytest.raises(SystemExit):
        shell("revoke")


@pytest.fixture
def url(shared_redis: RedisServer) -> str:
    with connected(parse(f"{shared_redis.url}/7")) as client:
        client.flushdb()
    return f"{shared_redis.url}/7"


def test_in_a_store(shell, url: str):
    assert shell("list", "--store", url).startswith("nothing is revoked in redis://127.0.0.1:")
    said = shell("revoke", "--subject", "al", "--store", url)
    assert (
        "tokens of al issued before 2023-11-14 22:13:21 UTC. Gateways that are running with this "
        "store"
    ) in said
    assert shell("list", "--store", url) == "tokens of al issued before 2023-11-14 22:13:21 UTC\n"
    assert "the store's URL must begin with" in shell("list", "--store", "x", code=1)


PIPELINE = """
request = ["auth"]
[auth]
methods = ["jwt"]
revocations = "{where}"
[[auth.jwt]]
issuer = "i"
secret = "0123456789abcdef0123456789abcdef"
[[route]]
path = "/info"
builtin = "info"
"""


@pytest.mark.parametrize("where", ["../mine.toml", "redis", "{url}"])
def test_where_a_configuration_says(shell, url: str, tmp_path: Path, where: str):
    where = where.format(url=url)
    write(tmp_path, PIPELINE.format(where=where), "", f'[store]\nurl = "{url}"\n')
    config = str(tmp_path / "gateway.toml")
    shell("revoke", "--jti", "j1", "--config", config)
    listed = (
        load(tmp_path / "pipelines" / where)
        if where == "../mine.toml"
        else RedisRevocations(parse(url)).load()
    )
    assert listed == (Revocation(jti="j1"),)
    assert shell("list", "--config", config) == "the token j1\n"


def test_a_configuration_that_does_not_say(shell, tmp_path: Path):
    write(tmp_path, PIPELINE.format(where="a.toml").replace('revocations = "a.toml"', ""))
    config = str(tmp_path / "gateway.toml")
    assert "has no list of revoked tokens" in shell("list", "--config", config, code=1)
    write(tmp_path, PIPELINE.format(where="a.toml") + '[route.auth]\nrevocations = "b.toml"\n')
    assert "say which" in shell("list", "--config", config, code=1)
    assert "cannot be told" in shell("list", "--config", "none.toml", code=1)


def test_what_was_done_is_audited(shell, tmp_path: Path):
    shell("revoke", "--jti", "j1", "--audit", str(tmp_path / "audit.log"))
    line = json.loads((tmp_path / "audit.log").read_text())
    assert (line["event"], line["outcome"], line["what"]) == (
        "token_revocation",
        "revoked",
        "the token j1",
    )
    assert line["where"] == "revoked.toml" and line["by"]
