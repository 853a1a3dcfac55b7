"""The table of attacks in docs/auth.md names tests that exist, in every row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "tests" / "unit" / "middlewares" / "auth"
TABLE = (ROOT / "docs" / "auth.md").read_text("utf-8").partition("\n## Attacks\n")[2]
ROWS = [
    tuple(cell.strip() for cell in row.strip("|").split(" | "))
    for row in re.findall(r"^\| .+ \|$", TABLE, re.MULTILINE)
][1:]


def names_in(file: Path) -> set[str]:
    """What a test file has: functions, classes, and methods as `Class::function`."""
    found = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inside = (
                one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            )
            found |= {f"{node.name}::{one.name}" for one in inside}
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_every_row_has_its_test(row: tuple[str, ...]):
    attack, happens, tests = row
    named = re.findall(r"`([^`]+)`", tests)
    assert attack and happens and named
    file = HOME / "test_attacks.py"
    for one in named:
        path, _, name = one.partition("::")
        if path:
            file = ROOT / path if path.startswith("tests/") else HOME / path
        assert name in names_in(file), f"{one}: {file.relative_to(ROOT)} has no {name}"
    assert re.search(r"test_|Test", tests)


def test_the_table_is_the_one_that_was_meant():
    assert len(ROWS) > 30 and ROWS[0][0].startswith("`alg` none")
