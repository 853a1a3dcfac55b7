"""The wheel carries all of the package: modules, pages, types, the command and its extras; the
compiled one what is compiled besides."""

from __future__ import annotations

import asyncio
import email
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from gateway import __version__
from tests.flow.conftest import write
from tests.process import ROOT, Process

COMPILE = {"GATEWAY_COMPILE": "1", "GATEWAY_OPTIMISE": "0"}
SHORT = ["gateway/core/drive.py", "gateway/core/wait.py"]
"""What the tests compile, in place of all that setup.cfg names: it takes seconds."""


@pytest.fixture(scope="module", autouse=True)
def uncounted() -> Iterator[None]:
    """What is run here is not what is measured for coverage."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("COV", "GATEWAY_"))]:
            patch.delenv(name)
        yield


def tree(directory: Path) -> Path:
    """A copy to build from, for setuptools leaves its own files beside what it builds from."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, directory)
    settings, modules, listed = (ROOT / "setup.cfg").read_text("utf-8").partition("modules =\n")
    assert set(SHORT) < set(listed.split())
    (directory / "setup.cfg").write_text(settings + modules + "".join(f"    {m}\n" for m in SHORT))
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "gateway", directory / "gateway", ignore=ignore)
    return directory


def backend(call: str, cwd: Path, **environ: str) -> str:
    """What a call of the build's backend returns."""
    command = f"from setuptools import build_meta; said = build_meta.{call}; print(); print(said)"
    env = os.environ | environ
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tree(tmp_path_factory.mktemp("tree"))
    return made / "dist" / backend("build_wheel('dist')", made)


def test_it_has_every_file_of_the_package(wheel: Path):
    shipped = {name for name in ZipFile(wheel).namelist() if name.startswith("gateway/")}
    written = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gateway").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    assert wheel.name.endswith("-py3-none-any.whl")
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
    done = subprocess.run(
        [sys.executable, "-P", "-c", steps], cwd=empty, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "0 warnings" in done.stdout


async def test_a_compiled_one_serves(tmp_path: Path):
    made = tree(tmp_path)
    name = backend("build_wheel('dist')", made, **COMPILE)
    assert name.endswith(f"-{sysconfig.get_platform().replace('-', '_')}.whl")
    installed = tmp_path / "installed"
    ZipFile(made / "dist" / name).extractall(installed)
    write(tmp_path, '[[route]]\npath = "/health"\nbuiltin = "health"\n')

    async def asked(port: int, path: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{port}{path}"
        with await asyncio.to_thread(urllib.request.urlopen, url, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    environ = {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    async with Process(tmp_path / "gateway.toml", **environ) as gateway:
        assert (await asked(gateway.port, "/health"))["status"] == "healthy"
        assert (await asked(gateway.admin_port, "/admin/status"))["compiled"]


def test_only_a_build_that_compiles_needs_mypy_and_what_has_types(tmp_path: Path):
    made = tree(tmp_path)
    assert backend("get_requires_for_build_wheel()", made) == "[]"
    needed = backend("get_requires_for_build_wheel()", made, **COMPILE)
    assert all(f"'{name}" in needed for name in ("mypy", "aiohttp", "orjson", "ngh2"))
