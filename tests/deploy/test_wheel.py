"""The wheel carries all of the package: modules, pages, types, the command and its extras."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from gateway import __version__
from tests.process import ROOT

BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, for setuptools leaves its own files beside what it builds from."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "gateway", tree / "gateway", ignore=ignore)
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = (tree / "dist").iterdir()
    return built


def test_it_has_every_file_of_the_package(wheel: Path):
    shipped = {name for name in ZipFile(wheel).namelist() if name.startswith("gateway/")}
    written = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gateway").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "gateway/pages/dashboard.html" in shipped
    assert shipped == written


def test_it_says_what_it_is(wheel: Path):
    with ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        said = email.message_from_bytes(archive.read(metadata))
        entries = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    assert said["Version"] == __version__
    assert {"http2", "openapi"} <= set(said.get_all("Provides-Extra") or ())
    assert "gateway = gateway.cli:main" in entries


def test_a_gateway_begins_from_it_in_an_empty_folder(wheel: Path, tmp_path: Path):
    """Its files are unpacked: beside them lie the packages it needs, but not this tree."""
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    ZipFile(wheel).extractall(installed)
    empty.mkdir()
    steps = f"""
import sys
sys.path.insert(0, {str(installed)!r})
import gateway.cli
assert gateway.__file__.startswith({str(installed)!r}), gateway.__file__
sys.exit(gateway.cli.main(["init"]) or gateway.cli.main(["check"]))
"""
    # What is run there is not what is measured for coverage.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", steps], cwd=empty, capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "0 warnings" in done.stdout
