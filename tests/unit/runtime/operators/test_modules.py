from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from gateway.runtime.operators.modules import outdated

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
