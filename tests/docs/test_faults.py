"""The tables of docs/faults.md name tests that exist, in every row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_attacks import names_in

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|")))
    for row in re.findall(r"^\| .+ \|$", (ROOT / "docs" / "faults.md").read_text("utf-8"), re.M)
    if not row.startswith("| case |")
]


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_every_row_is_complete_and_has_its_test(row: tuple[str, ...]):
    case, kind, neighbours, answer, tests = row
    assert case and kind and neighbours and answer
    named = re.findall(r"`([^`]+)`", tests)
    assert named and named[0].partition("::")[0]
    file = ROOT
    for one in named:
        path, _, name = one.partition("::")
        file = ROOT / "tests" / path if path else file
        assert name in names_in(file), f"{one}: {file.relative_to(ROOT)} has no {name}"


def test_the_tables_are_the_ones_that_were_meant():
    assert len(ROWS) > 80 and len({row[0] for row in ROWS}) == len(ROWS)
