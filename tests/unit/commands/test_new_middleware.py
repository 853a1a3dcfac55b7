"""A package that works at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.commands import new_middleware
from gateway.commands.catalogue import CommandError
from gateway.commands.new_middleware import module_of
from tests.process import ROOT


def test_its_tests_pass_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-middleware", "geo-block"]) == 0
    said = capsys.readouterr().out
    # A bare folder's name is the name of a package somewhere else to pip.
    assert 'cd geo-block && pip install ".[dev]"' in said and "python -m pytest" in said
    folder = tmp_path / "geo-block"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    more = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:aiohttp", "-W", "error"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *more],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0 and "4 passed" in ran.stdout, ran.stdout + ran.stderr
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["gateway.middlewares"] == {"geo_block": "geo_block:build"}


def test_nothing_is_overwritten(tmp_path: Path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["new-middleware", "geo_block", str(tmp_path)]) == 1
    assert "nothing is overwritten" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["new-middleware", "geo_block", str(empty)]) == 0
    assert (empty / "geo_block" / "__init__.py").exists()


@pytest.mark.parametrize(
    "name", ["auth", "json", "pytest", "class", "Geo", "a b", "1st", "../up", ""]
)
def test_names_that_are_none(name: str):
    with pytest.raises(CommandError):
        module_of(name)


def test_every_file_is_filled_in():
    for path, text in new_middleware.files("geo_block").items():
        assert "$" not in text and "NAME" not in path
