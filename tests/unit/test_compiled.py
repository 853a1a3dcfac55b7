"""The rules for modules that setup.cfg has compiled (mypyc): what would be another program there."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from configparser import ConfigParser

import pytest

from tests.imports import ROOT, modules

CONFIG = ConfigParser()
CONFIG.read(ROOT.parent / "setup.cfg")
NAMES = {str(path.relative_to(ROOT.parent)): name for name, path in modules().items()}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in modules().items()}
LISTED = CONFIG["mypyc"]["modules"].split()
COMPILED = {NAMES[path]: TREES[NAMES[path]] for path in LISTED if path in NAMES}
ALLOWED = "mypyc_attr(allow_interpreted_subclasses=True)"

Found = Iterator[tuple[int, str]]


def decorators(node: ast.ClassDef) -> list[str]:
    return [ast.unparse(one) for one in node.decorator_list]


def classes() -> dict[str, ast.ClassDef]:
    """Every class at the top of a module, by its full name."""
    return {
        f"{name}.{node.name}": node
        for name, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def bases(module: str, node: ast.ClassDef) -> list[str]:
    """Full names of a class's bases."""
    known = {
        alias.asname or alias.name: f"{one.module}.{alias.name}"
        for one in ast.walk(TREES[module])
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
    }
    names = [ast.unparse(base).partition("[")[0] for base in node.bases]
    return [
        known.get(name, name if hasattr(builtins, name) else f"{module}.{name}") for name in names
    ]


def test_every_module_of_the_list_exists():
    assert len(COMPILED) == len(LISTED) == len(set(LISTED))


def test_interpreted_classes_inherit_from_compiled_ones_that_allow_it():
    found = classes()
    refused = [
        f"{module}.{node.name} from {base}"
        for module, tree in TREES.items()
        if module not in COMPILED
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in bases(module, node)
        if base.rpartition(".")[0] in COMPILED
        if base in found and ALLOWED not in decorators(found[base])
    ]
    assert refused == []


def ancestors(name: str) -> Iterator[str]:
    """Full names of the classes that a class inherits from."""
    found = classes()
    if name in found:
        for base in bases(name.rpartition(".")[0], found[name]):
            yield base
            yield from ancestors(base)


def defined(node: ast.ClassDef) -> dict[str, ast.stmt]:
    """What a class's body defines, by name."""
    names: dict[str, ast.stmt] = {}
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            names[one.name] = one
        elif isinstance(one, ast.Assign | ast.AnnAssign) and one.value is not None:
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            names |= {target.id: one for target in targets if isinstance(target, ast.Name)}
    return names


def test_no_default_of_a_compiled_class_is_overridden():
    """It is each instance's own attribute there, and hides what a subclass defines."""
    found = classes()
    hidden = [
        f"{name}.{one} over {base}'s"
        for name, node in found.items()
        for base in ancestors(name)
        if base.rpartition(".")[0] in COMPILED and base in found
        for one, stated in defined(found[base]).items()
        if one in defined(node) and not one.startswith("__")
        if isinstance(stated, ast.Assign | ast.AnnAssign)
        if not (isinstance(stated, ast.AnnAssign) and "ClassVar" in ast.unparse(stated.annotation))
    ]
    assert hidden == []


def test_no_list_has_methods_that_compiled_code_would_pass_by():
    """A method of a list is called as the list's own, whatever its class says."""
    overridden = [
        f"{module}.{node.name}.{one.name}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "list" in bases(module, node)
        for one in node.body
        if isinstance(one, ast.FunctionDef) and hasattr(list, one.name)
    ]
    assert overridden == []


def tables(tree: ast.AST) -> Found:
    """The defaults of a table's settings are no values of their types."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ClassDef)
            and "table" in decorators(node)
            and any(isinstance(one, ast.AnnAssign) for one in node.body)
        ):
            yield node.lineno, f"@table {node.name}"


def starred_supers(tree: ast.AST) -> Found:
    """`super().f(*arguments)` gets the tuple as its first argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("super()."):
            starred = [*node.args, *(one for one in node.keywords if one.arg is None)]
            if any(isinstance(one, ast.Starred | ast.keyword) for one in starred):
                yield node.lineno, ast.unparse(node)


def dicts_of_instances(tree: ast.AST) -> Found:
    """Instances have none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            yield node.lineno, ast.unparse(node)


def slices_that_may_end_before_they_begin(tree: ast.AST) -> Found:
    """Of bytes, they raise SystemError. `data[2:-4]` is one; where the end is computed, it has to
    be compared."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Slice) and node.lower and isinstance(node.upper, ast.UnaryOp):
            yield node.upper.lineno, ast.unparse(node)


def what_needs_a_task(tree: ast.AST) -> Found:
    """No Task runs a coroutine of these (core/drive.py): asyncio's own want one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFor | ast.AsyncWith):
            yield node.lineno, ast.unparse(node).splitlines()[0]
        elif isinstance(node, ast.Await):
            called = node.value.func if isinstance(node.value, ast.Call) else node.value
            if ast.unparse(called).partition(".")[0] in ("asyncio", "loop"):
                yield node.lineno, ast.unparse(node)


def waits_while_an_exception_is_handled(tree: ast.AST) -> Found:
    """It would stay the current exception of all that runs meanwhile: theirs would refer to it,
    with all that its traceback holds, and never be freed."""
    waits = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            for part in (*node.handlers, *node.finalbody):
                for one in ast.walk(part):
                    if isinstance(one, waits):
                        yield one.lineno, ast.unparse(one)


RULES = [
    tables,
    starred_supers,
    dicts_of_instances,
    slices_that_may_end_before_they_begin,
    what_needs_a_task,
    waits_while_an_exception_is_handled,
]


@pytest.mark.parametrize("rule", RULES)
def test_compiled_modules_have_none_of(rule):
    assert [(name, *one) for name, tree in COMPILED.items() for one in rule(tree)] == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (tables, "@table\nclass A:\n    a: int = setting()"),
        (starred_supers, "super().f(1, *two)"),
        (starred_supers, "super().f(**all)"),
        (dicts_of_instances, "self.__dict__.update(a)"),
        (slices_that_may_end_before_they_begin, "data[2:-4]"),
        (what_needs_a_task, "async def f():\n    async with g: ..."),
        (what_needs_a_task, "async def f():\n    await asyncio.sleep(1)"),
        (
            waits_while_an_exception_is_handled,
            "async def f():\n    try: ...\n    finally: await g()",
        ),
    ],
)
def test_the_rules_themselves(rule, text):
    assert len(list(rule(ast.parse(text)))) == 1
