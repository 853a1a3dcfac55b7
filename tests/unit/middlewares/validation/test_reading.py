"""Forms as values."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.middlewares.validation.reading import form_fields, form_text, most_members
from gateway.protocols.json_text import Unreadable


def test_forms():
    assert form_fields(b"a=1&a=2&b=") == {"a": ["1", "2"], "b": [""]}
    with pytest.raises(Unreadable):
        form_fields(b"a=%ff")


@pytest.mark.parametrize(
    ("fields", "split", "text"),
    [
        ({"a": "x y", "b": 1, "c": True, "d": None}, (), "a=x+y&b=1&c=true&d=null"),
        ({"a": [1, "&"], "b": []}, (), "a=1&a=%26"),
        ({"a": [1, 2]}, ("a",), "a=1%2C2"),
    ],
)
def test_forms_of_values(fields: dict[str, Any], split: tuple[str, ...], text: str):
    assert form_text(fields, frozenset(split)) == text


def test_an_upper_bound_for_members():
    assert most_members(b'<a b="1"><c/></a>', "xml") >= 3
    assert most_members(b"[1, 2]", "json") >= 3
