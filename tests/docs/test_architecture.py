"""ARCHITECTURE.md shows the imports between packages as they are."""

from __future__ import annotations

from tests.imports import PAGE, in_page, picture
from tests.unit.test_imports import LAYERS


def test_the_picture_is_what_the_command_draws():
    assert in_page(PAGE.read_text("utf-8")) == picture(LAYERS), (
        "run: python -m tests.imports --write"
    )
