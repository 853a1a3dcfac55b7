"""What mypyc does otherwise than Python, and the modules that it compiles (setup.cfg) must do
without."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from configparser import ConfigParser

import pytest

from tests.browser import ROOT

CONFIG = ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
MODULES = CONFIG["mypyc"]["modules"].split()
WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)


def handling(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs while an exception is handled."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try):
            for part in (*node.handlers, *node.finalbody):
                yield from ast.walk(part)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_awaited_where_an_exception_is_handled(module: str):
    """It would stay the current exception of all that runs meanwhile: theirs would refer to it,
    with all that its traceback holds, and never be freed."""
    tree = ast.parse((ROOT / module).read_text())
    assert [node.lineno for node in handling(tree) if isinstance(node, WAITS)] == []  # type: ignore[attr-defined]
