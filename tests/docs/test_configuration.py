"""docs/configuration.md names every key of every table, with the type and default the code has, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.core.failures import Failure
from tests.docs.reference import Row, Section, sections

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def documented() -> dict[str, dict[str, Row]]:
    """Heading -> key -> row, as the page has them. A heading is its first code span: "### `[cors]` for browsers"."""
    found: dict[str, dict[str, Row]] = {}
    for part in re.split(r"^#+ ", PAGE.read_text("utf-8"), flags=re.MULTILINE):
        heading = re.match(r"`([^`]+)`", part)
        if heading is None:
            continue
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]*?) ?\| ([^|]*?) ?\| (.+) \|$", part, re.MULTILINE)
        assert all(meaning.strip() for *_, meaning in rows), f"{heading[1]}: a key without a meaning"
        found[heading[1]] = {key: Row(key, type_, default) for key, type_, default, _ in rows}
    return found


@pytest.mark.parametrize("section", [pytest.param(one, id=one.heading) for one in sections()])
def test_every_key_is_documented_as_it_is(section: Section):
    assert documented().get(section.heading) == {row.key: row for row in section.rows}


def test_nothing_else_is_documented():
    headings = {one.heading for one in sections()}
    assert {heading for heading, rows in documented().items() if rows} <= headings


def test_every_failure_is_documented():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\d{3}) \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [(one.reason, one.code, str(one.status), one.title) for one in Failure]
