"""docs/systems.md names lines of demonstrations and tests that exist, in every row."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.test_attacks import names_in

ROOT = Path(__file__).resolve().parents[2]
TITLES = {
    line["shows"]
    for path in ROOT.glob("examples/*/demo.toml")
    for line in tomllib.loads(path.read_text("utf-8"))["line"]
}
ROWS = [
    tuple(cell.strip() for cell in row.strip("|").split(" | "))
    for row in re.findall(
        r"^\| .+ \|$", (ROOT / "docs/systems.md").read_text("utf-8"), re.MULTILINE
    )
    if not row.startswith("| requirement ")
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:50] for row in ROWS])
def test_every_row_is_shown(row: tuple[str, ...]):
    requirement, answer, shown = row
    named = re.findall(r"`([^`]+)`", shown)
    assert requirement and answer and named
    for one in named:
        path, _, name = one.partition("::")
        if path.startswith("tests/"):
            assert (ROOT / path).exists(), one
            assert not name or name in names_in(ROOT / path), one
        else:
            assert one in TITLES, one
