"""`gateway` alone greets; `gateway help` lists, or shows one command's options."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import main
from gateway.commands.catalogue import COMMANDS
from gateway.commands.help import greeting


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_all_of_these_list_every_command(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    told = capsys.readouterr().out
    for command in COMMANDS.values():
        assert f"  {command.name} " in told and command.summary in told


def test_the_next_step_depends_on_what_is_here():
    assert "gateway run" in greeting(configured=True)
    assert greeting(configured=True) != greeting(configured=False)
    assert all(len(line) <= 100 for line in greeting(configured=True).splitlines())


@pytest.mark.parametrize(
    ("words", "option"), [(["check"], "--json"), (["keys", "create"], "--permissions")]
)
def test_one_command(words: list[str], option: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["help", *words])
    assert ended.value.code == 0
    assert option in capsys.readouterr().out


@pytest.mark.parametrize("words", [["help", "chekc"], ["chekc"]])
def test_a_command_that_does_not_exist(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(words) == 2
    assert "did you mean 'check'?" in capsys.readouterr().err
