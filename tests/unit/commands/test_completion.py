"""The scripts complete what is typed; bash and fish are asked, zsh reads its script."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.commands import completion
from gateway.commands.catalogue import COMMANDS

CASES = [
    ("", [*COMMANDS, "--help"], []),
    ("sta", ["status"], ["run"]),
    ("keys ", ["create", "list", "rotate", "revoke"], ["status", "--client"]),
    ("keys cr", ["create"], ["list"]),
    ("keys create --cl", ["--client"], ["--config"]),
    ("keys create --client acme --ex", ["--expires"], ["--client"]),
    ("completion ", ["bash", "zsh", "fish"], []),
    ("check --config ", ["some.toml"], ["--json"]),
    ("check --config some.toml --", ["--json"], ["some.toml"]),
    ("init ", ["some.toml"], []),
]


@pytest.fixture
def script(request, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def make(shell: str) -> Path:
        assert main(["completion", shell]) == 0
        path = tmp_path / f"completion.{shell}"
        path.write_text(capsys.readouterr().out)
        (tmp_path / "some.toml").touch()
        return path

    return make


def asked(tmp_path: Path, *command: str) -> str:
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def test_bash(script, tmp_path: Path):
    path = script("bash")
    asking = [f"source {path}"]
    for typed, _, _ in CASES:
        words = ["gateway", *typed.split(" ")]
        asking += [
            f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}",
            'COMPREPLY=(); _gateway; echo "${COMPREPLY[@]}"',
        ]
    lines = asked(tmp_path, "bash", "--norc", "-c", "\n".join(asking)).splitlines()
    for (typed, offered, withheld), line in zip(CASES, lines, strict=True):
        found = set(line.split())
        assert set(offered) <= found and not set(withheld) & found, f"{typed!r}: {line}"


@pytest.mark.parametrize(("typed", "offered", "withheld"), CASES[1:])
def test_fish(script, tmp_path: Path, typed: str, offered: list[str], withheld: list[str]):
    path = script("fish")
    told = asked(
        tmp_path, "fish", "--no-config", "-c", f"source {path}; complete -C 'gateway {typed}'"
    )
    found = {line.split("\t")[0] for line in told.splitlines()}
    assert set(offered) - {"--help"} <= found and not set(withheld) & found, told


def test_zsh_reads_its_script(script, tmp_path: Path):
    path = script("zsh")
    assert asked(tmp_path, "zsh", "-f", "-n", str(path)) == ""
    text = path.read_text()
    assert text.startswith("#compdef gateway\n")
    assert all(f"'{name}:" in text for name in COMMANDS)


def test_a_description_cannot_end_its_quotes():
    assert completion._quoted("it's $HOME `x`") == "'it’s $HOME `x`'"
