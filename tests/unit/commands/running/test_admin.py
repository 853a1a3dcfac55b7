"""The admin listener that a command asks: by --admin, or as the configuration says."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.commands.running import admin
from gateway.commands.running.client import AdminError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    made: list[tuple[object, ...]] = []

    def call(method, url, token, *, body, trusted):
        made.append((method, url, token, body, trusted))
        return 200, {}

    monkeypatch.setattr(admin.client, "call", call)
    monkeypatch.delenv(admin.TOKEN, raising=False)
    return made


def ask(*words: str) -> None:
    parser = argparse.ArgumentParser()
    admin.add_options(parser)
    admin.ask(parser.parse_args(words), "GET", "/admin/status")


@pytest.mark.parametrize(
    ("table", "url", "token"),
    [
        ("", "http://127.0.0.1:9901/admin/status", ""),
        ('[admin]\nhost = "::1"\ntoken = "t"', "http://[::1]:9901/admin/status", "t"),
    ],
)
def test_the_configuration_says_where(calls, tmp_path: Path, table: str, url: str, token: str):
    (tmp_path / "gateway.toml").write_text(table)
    ask("--config", str(tmp_path / "gateway.toml"))
    assert calls == [("GET", url, token, None, None)]


def test_its_certificate_is_expected(calls, tmp_path: Path):
    (tmp_path / "gateway.toml").write_text('[admin.tls]\ncertificate = "a.pem"\nkey = "a.key"\n')
    ask("--config", str(tmp_path / "gateway.toml"))
    assert calls[0][1] == "https://127.0.0.1:9901/admin/status"
    assert calls[0][4] == tmp_path / "a.pem"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": 401, "detail": "No."}, "No. Put one into $GATEWAY_ADMIN_TOKEN."),
        ({"status": 404, "detail": "Gone."}, "Gone."),
        ({}, "the call was refused"),
    ],
)
def test_what_an_answer_says(answer: dict[str, object], expected: str):
    assert admin.said(answer) == expected


def test_the_environment_has_the_token(calls, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(admin.TOKEN, "sesame\n")
    ask("--admin", "http://gateway:9901/")
    assert calls == [("GET", "http://gateway:9901/admin/status", "sesame", None, None)]


def test_without_a_configuration_it_is_not_known(calls, tmp_path: Path):
    with pytest.raises(AdminError, match="use --admin URL"):
        ask("--config", str(tmp_path / "none.toml"))
    assert calls == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [({"title": "Forbidden", "detail": "no"}, "no"), ({}, "the call was refused")],
)
def test_words_of_a_refusal(answer: dict[str, str], expected: str):
    assert admin.said(answer) == expected


def test_asking_imports_no_server():
    """Health checks of containers start it every few seconds."""
    asking = (
        "import sys; from gateway.commands.catalogue import COMMANDS; COMMANDS['status'].run;"
        "print(sorted({'aiohttp', 'uvloop', 'gateway.app'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
