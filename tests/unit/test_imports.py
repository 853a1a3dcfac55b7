"""Imports point down, in the order of LAYERS: cli, app -> serving, admin -> runtime -> the domains
-> store -> config -> core.

Read from the source, not from what happens to be loaded: an import inside a function counts, and
one under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.imports import Import, all_imports, circles, imports, modules, package

LAYERS = (
    ("core",),
    ("config", "pages"),
    ("lifetime", "protocols"),
    ("store",),
    ("tokens", "credentials", "limits", "usage", "tracing"),
    ("issuer",),
    ("routing", "builtins", "middlewares", "upstream"),
    ("runtime",),
    ("serving", "admin"),
    ("app", "supervisor", "cli", "commands", "testing", "__main__"),
)
"""Bottom first. Packages of one layer do not import each other; the top layer is one unit."""
TOP = len(LAYERS) - 1
RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}


FOLDER_MODULES = 14
"""Modules a folder may have, beside its __init__; more need rooms."""
MODULE_LINES = 400
"""Lines a module may have without a reason: a sentence in its docstring that begins with "Longer
than 400 lines".
"""


FUNCTION_LINES = 50
"""Lines of a function, its docstring included."""


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
    outward = [
        str(found)
        for found in all_imports()
        if package(found.source) == "core" and package(found.target) != "core"
    ]
    assert outward == []


def test_middlewares_do_not_import_one_another():
    """A middleware is a file or a folder of gateway/middlewares; the catalogue in its __init__ is
    nobody's to import either.
    """
    crossing = []
    for found in all_imports():
        source, target = found.source.split(".")[1:3], found.target.split(".")[1:3]
        if source[0:1] == target[0:1] == ["middlewares"] and source[1:] and source != target:
            crossing.append(str(found))
    assert crossing == []


def test_no_circles():
    assert circles(all_imports()) == set()


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("a>b b>c", []),
        ("a>b b>a", ["ab"]),
        ("a>b b>c c>a c>d", ["abc"]),
        ("a>b b>a c>d d>c b>c", ["ab", "cd"]),
    ],
)
def test_circles(pairs: str, expected: list[str]):
    found = [Import(*pair.split(">"), 1) for pair in pairs.split()]
    assert circles(found) == {frozenset(one) for one in expected}


def test_folders_are_small():
    sizes = Counter(path.parent for path in modules().values() if path.name != "__init__.py")
    assert [folder.name for folder, size in sizes.items() if size > FOLDER_MODULES] == []


def test_functions_are_short():
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        f"{name}.{node.name}: {lines}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, kinds)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert long == []


def test_modules_are_short_or_say_why():
    long = []
    for name, path in modules().items():
        text = path.read_text("utf-8")
        why = ast.get_docstring(ast.parse(text)) or ""
        if text.count("\n") > MODULE_LINES and f"Longer than {MODULE_LINES} lines" not in why:
            long.append(name)
    assert long == []


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("gateway.core.words", "from gateway.config import schema", False),
        ("gateway.core.words", "from gateway.core import clock", True),
        ("gateway.config.tables.schema", "import gateway.store.stores", False),
        ("gateway.upstream.pool", "def f():\n    from gateway.middlewares import cors", False),
        (
            "gateway.upstream.pool",
            "if TYPE_CHECKING:\n    from gateway.runtime import routes",
            False,
        ),
        ("gateway.runtime.compose", "from gateway.upstream.pool import Pool", True),
        ("gateway.admin.api", "from gateway.serving import handle", False),
        ("gateway.cli", "from gateway.app import run", True),
        ("gateway.serving.handle", "from gateway.app import run", False),
        ("gateway", "from gateway.core import clock", False),
        ("gateway.serving.handle", "from gateway import __version__", True),
    ],
)
def test_the_rule_itself(source: str, text: str, expected: bool):
    known = frozenset(
        {
            "gateway.config.tables.schema",
            "gateway.middlewares.cors",
            "gateway.serving.handle",
            "gateway.core.clock",
        }
    )
    assert all(allowed(found) for found in imports(source, ast.parse(text), known)) is expected
