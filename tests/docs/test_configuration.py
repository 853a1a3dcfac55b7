"""docs/configuration.md has every table of keys, and the failures, as the command writes them."""

from __future__ import annotations

from tests.docs.reference import FAILURES, MARKED, PAGE, sections, written


def test_the_tables_are_what_the_command_writes():
    page = PAGE.read_text("utf-8")
    assert page == written(page), "run: python -m tests.docs.reference --write"


def test_every_table_is_there_once():
    marked = [found[2] for found in MARKED.finditer(PAGE.read_text("utf-8"))]
    assert sorted(marked) == sorted([*(section.heading for section in sections()), FAILURES])


def test_every_key_has_a_meaning():
    assert [
        (section.heading, row.key)
        for section in sections()
        for row in section.rows
        if not row.meaning.strip()
    ] == []
