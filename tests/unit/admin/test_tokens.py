from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gateway.admin import tokens
from gateway.state.revocations import ALWAYS, Revocation, load

NOW = 1_700_000_000.5
NEXT = 1_700_000_001
LATER = 1_700_003_600


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser("gateway")
    tokens.add_parser(parser.add_subparsers())

    def run(*words: str, code: int = 0) -> str:
        args = parser.parse_args(["tokens", *words])
        assert args.run is tokens.run
        assert args.run(args, now=lambda: NOW) == code
        out, err = capsys.readouterr()
        return err if code else out

    return run


@pytest.mark.parametrize(
    ("words", "entry", "said"),
    [
        (["--jti", "a"], Revocation(jti="a"), "the token a."),
        (["--jti", "a", "--for", "1h"], Revocation(jti="a", until=LATER), "the token a, until 2023-11-14 23:13:20 UTC."),
        (["--subject", "al"], Revocation(subject="al", before=NEXT), "tokens of al issued before 2023-11-14 22:13:21 UTC."),
        (["--everybody", "--issuer", "https://i"], Revocation(issuer="https://i", before=NEXT), "everybody's tokens from"),
        (["--subject", "al", "--before", "2023-01-01"], Revocation(subject="al", before=1_672_531_200), "2023-01-01 00:00"),
    ],
)
def test_revoke(shell, words: list[str], entry: Revocation, said: str):
    assert said in shell("revoke", *words)
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
