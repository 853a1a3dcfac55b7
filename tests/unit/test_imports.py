"""Imports point down: cli, app -> serving, admin -> runtime -> upstream, middlewares -> state, config -> core.

Read from the source, not from what happens to be loaded: an import inside a function counts, one under TYPE_CHECKING does not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent

LAYERS = (
    ("core",),
    ("state", "config"),
    ("upstream", "middlewares"),
    ("runtime",),
    ("serving", "admin"),
    ("app", "cli", "__main__"),
)
"""Bottom first. Packages of one layer do not import each other; the top layer is one unit."""
TOP = len(LAYERS) - 1
RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}


@dataclass(frozen=True)
class Import:
    """`target` is a module of ours, or `target.name` for `from target import name`: whichever of the two is a module."""

    source: str
    target: str
    line: int
    at_import: bool
    """Whether it happens while `source` is being imported, rather than in a function later."""

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules(root: Path = ROOT) -> dict[str, Path]:
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, tree: ast.AST, known: frozenset[str], *, at_import: bool = True) -> Iterator[Import]:
    """Every import of ours in a module's tree."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "gateway":
                    yield Import(source, alias.name, node.lineno, at_import)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno} imports relatively"
            if (node.module or "").partition(".")[0] == "gateway":
                for alias in node.names:
                    deeper = f"{node.module}.{alias.name}"
                    yield Import(source, deeper if deeper in known else str(node.module), node.lineno, at_import)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from imports(source, ast.Module([child], []), known, at_import=at_import)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(source, node, known, at_import=at_import and not inside)


def all_imports() -> list[Import]:
    files = modules()
    known = frozenset(files)
    return [found for name, path in files.items() for found in imports(name, ast.parse(path.read_text("utf-8")), known)]


def package(module: str) -> str:
    """ "gateway.upstream.pool" is in "upstream"; the gateway package itself, which holds the version only, is in ""."""
    return module.split(".")[1] if "." in module else ""


def allowed(found: Import) -> bool:
    source, target = package(found.source), package(found.target)
    if target == "" or source == target:
        return True
    if source == "":
        return False
    return RANK[target] < RANK[source] or RANK[target] == RANK[source] == TOP


def test_every_package_has_a_place():
    assert {package(name) for name in modules()} - {""} <= set(RANK)


def test_imports_point_down():
    assert [str(found) for found in all_imports() if not allowed(found)] == []


def test_core_imports_nothing_of_ours():
    outward = [str(found) for found in all_imports() if package(found.source) == "core" and package(found.target) != "core"]
    assert outward == []


def test_middlewares_do_not_import_one_another():
    """A middleware is a file or a folder of gateway/middlewares; the catalogue in its __init__ is nobody's to import either."""
    crossing = []
    for found in all_imports():
        source, target = found.source.split(".")[1:3], found.target.split(".")[1:3]
        if source[0:1] == target[0:1] == ["middlewares"] and source[1:] and source != target:
            crossing.append(str(found))
    assert crossing == []


def test_no_cycles():
    """Modules can be imported in some order without meeting one half made. A package is there before its modules, so an import
    of a module also needs the package's __init__, but not the other way round."""
    needs: dict[str, set[str]] = {name: set() for name in modules()}
    for found in all_imports():
        if found.at_import and found.source != found.target and not found.source.startswith(found.target + "."):
            needs[found.source].add(found.target)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("gateway.core.words", "from gateway.config import schema", False),
        ("gateway.core.words", "from gateway.core import clock", True),
        ("gateway.state.keep", "import gateway.config.schema", False),
        ("gateway.upstream.pool", "def f():\n    from gateway.middlewares import cors", False),
        ("gateway.upstream.pool", "if TYPE_CHECKING:\n    from gateway.runtime import routes", True),
        ("gateway.runtime.compose", "from gateway.upstream.pool import Pool", True),
        ("gateway.admin.api", "from gateway.serving import handle", False),
        ("gateway.cli", "from gateway.app import run", True),
        ("gateway.serving.handle", "from gateway.app import run", False),
        ("gateway", "from gateway.core import clock", False),
        ("gateway.serving.handle", "from gateway import __version__", True),
    ],
)
def test_the_rule_itself(source: str, text: str, expected: bool):
    known = frozenset({"gateway.config.schema", "gateway.middlewares.cors", "gateway.serving.handle", "gateway.core.clock"})
    assert all(allowed(found) for found in imports(source, ast.parse(text), known)) is expected
