from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.middlewares.validation.references import at_pointer, retrieve, with_nulls
from gateway.middlewares.validation.schemas import JsonSchema


@pytest.mark.parametrize(
    ("schema", "value", "valid"),
    [
        ({"type": "string", "nullable": True}, None, True),
        ({"type": "string", "nullable": False}, None, False),
        ({"type": "string", "nullable": True}, 1, False),
        ({"type": "string", "enum": ["a"], "nullable": True}, None, True),
        ({"properties": {"a": {"type": ["integer"], "nullable": True}}}, {"a": None}, True),
        ({"properties": {"nullable": {"type": "string"}}}, {"nullable": None}, False),
        (
            {"items": {"$ref": "#/$defs/a", "nullable": True}, "$defs": {"a": {"type": "string"}}},
            [None, "x"],
            True,
        ),
        ({"items": {"anyOf": [{"type": "string", "nullable": True}]}}, [None], True),
        (
            {"const": {"type": "string", "nullable": True}},
            {"type": "string", "nullable": True},
            True,
        ),
    ],
)
def test_nullable_is_honoured(schema: Any, value: Any, valid: bool):
    assert JsonSchema(schema, "").is_valid(value) is valid


def test_nothing_else_is_changed():
    schema = {"properties": {"a": {"enum": [{"nullable": True}]}}, "default": {"nullable": True}}
    assert with_nulls(schema) == schema


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("#", {"a~b": [{"c/d": 1}]}),
        ("#/a~0b/0/c~1d", 1),
        ("#/a~0b/7", None),
        ("#/x/y", None),
        ("other", None),
    ],
)
def test_pointers(reference: str, found: Any):
    assert at_pointer(reference, {"a~b": [{"c/d": 1}]}) == found


def test_nothing_is_fetched_from_the_network():
    with pytest.raises(ValueError, match="only files"):
        retrieve("https://example.com/schema.json")


def test_files_may_have_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "other.json"
    path.write_bytes(b'\xef\xbb\xbf{"type": "string"}')
    assert retrieve(path.as_uri()) == {"type": "string"}
