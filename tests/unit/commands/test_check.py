"""`gateway check` for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import main
from tests.flow.conftest import PLAIN, write

UPSTREAM = '[upstream.origin]\nurl = "http://127.0.0.1:1"\n'


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        assert main(["check", *words]) == code
        return capsys.readouterr().out

    return run


def test_one_object_of_what_is_right(check, tmp_path: Path):
    write(tmp_path, 'response = ["logging"]\n' + PLAIN, UPSTREAM)
    answer = json.loads(check("--json"))
    assert (answer["ok"], len(answer["problems"])) == (True, 1)
    warning = answer["problems"][0]
    assert (warning["severity"], warning["line"], warning["column"]) == ("warning", 1, 13)
    assert answer["hash"] in check()


def test_one_object_of_what_is_wrong(check, tmp_path: Path):
    write(tmp_path, PLAIN, UPSTREAM.replace("url", "urll"))
    answer = json.loads(check("--json", code=1))
    assert answer["ok"] is False
    told = {(one["file"], one["message"], one["hint"]) for one in answer["problems"]}
    assert (
        "upstreams.toml",
        "upstream.origin.urll: is not a known key",
        "did you mean 'url'?",
    ) in told
    assert all(one.keys() == answer["problems"][0].keys() for one in answer["problems"])


def test_without_a_file(check):
    assert "gateway.toml:1:1: error: " in check(code=1)
