from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from gateway.runtime.operators.modules import forget, outdated, restore

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


def test_changed_packages_are_imported_anew(package: tuple[str, Path]):
    name, folder = package
    old = importlib.import_module(f"{name}.hooks")
    assert outdated(f"{name}.hooks") == [] and forget([f"{name}.hooks"]).modules == {}
    stat = (folder / "words.py").stat()
    (folder / "words.py").write_text("WORD = 2\n")
    os.utime(folder / "words.py", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # Within a second.
    forgotten = forget([f"{name}.hooks"])
    assert forgotten.packages == [name] and f"{name}.words" in forgotten.modules
    new = importlib.import_module(f"{name}.hooks")
    assert new is not old and (old.words.WORD, new.words.WORD) == (1, 2)
    assert outdated(f"{name}.hooks") == []


def test_old_code_comes_back(package: tuple[str, Path]):
    name, folder = package
    old = importlib.import_module(f"{name}.hooks")
    outdated(f"{name}.hooks")
    (folder / "words.py").write_text("WORD = nothing\n")
    forgotten = forget([f"{name}.hooks"])
    with pytest.raises(NameError):
        importlib.import_module(f"{name}.hooks")
    restore(forgotten)
    assert importlib.import_module(f"{name}.hooks") is old
    assert outdated(f"{name}.hooks") == [str(folder / "words.py")], "it has changed still"


def test_compiled_code_stays(package: tuple[str, Path], monkeypatch: pytest.MonkeyPatch):
    name, folder = package
    old = importlib.import_module(f"{name}.hooks")
    outdated(f"{name}.hooks")
    (folder / "hooks.py").write_text("")
    monkeypatch.setattr(old.words, "__file__", str(folder / "words.so"))
    assert forget([f"{name}.hooks"]).modules == {}
