from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from gateway.config.toml.problems import Problem
from gateway.lifetime.registry import Registry
from gateway.runtime.compose import World, compose
from gateway.runtime.operator_modules import outdated
from gateway.runtime.reload import load
from gateway.upstream.connections.transport import Transport
from tests.flow.conftest import PLAIN, write

SOURCE = "from gateway.core.hooks import Hooks\ndef build(config, context): return Hooks()\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A package of its own name, with a module beside the one that a list names."""
    name = f"acme_{os.getpid()}_{tmp_path.name}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "words.py").write_text("WORD = 1\n")
    (folder / "hooks.py").write_text(f"from {name} import words\n{SOURCE}")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return name, folder


def test_a_module_and_its_neighbours(package: tuple[str, Path]):
    name, folder = package
    importlib.import_module(f"{name}.hooks")
    assert outdated(f"{name}.hooks") == []
    (folder / "words.py").write_text("WORD = 22\n")
    assert outdated(f"{name}.hooks") == [str(folder / "words.py")]
    (folder / "hooks.py").unlink()
    assert outdated(f"{name}.hooks") == [str(folder / "hooks.py"), str(folder / "words.py")]


def test_a_reload_says_that_a_restart_is_needed(package: tuple[str, Path], tmp_path: Path):
    name, folder = package
    write(tmp_path, f'request = ["{name}.hooks:build"]\n{PLAIN}', '[upstream.origin]\nurl = "http://127.0.0.1:9"\n')

    def warnings() -> tuple[Problem, ...]:
        loaded = load(tmp_path / "gateway.toml", {})
        return compose(loaded, Registry().draft(), World(Transport())).loaded.warnings

    assert [problem for problem in warnings() if "restart" in str(problem)] == []
    (folder / "hooks.py").write_text(f"{SOURCE}# new\n")
    [problem] = [problem for problem in warnings() if "restart" in problem.hint]
    assert problem.message == f"{name}.hooks:build: {folder / 'hooks.py'} has changed, and the old code goes on"
