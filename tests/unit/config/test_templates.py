"""Templates: what is filled in, with which types, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.config.templates import Template, TemplateJson, TemplateText


@pytest.mark.parametrize(
    ("tree", "values", "filled"),
    [
        ("{a}", {"a": 5}, 5),
        ("{a}", {"a": ["x"]}, ["x"]),
        ("{a}", {"a": None}, None),
        ("<{a}> {b}", {"a": 5, "b": True}, "<5> true"),
        ("<{a}>", {"a": None}, "<>"),
        ({"x": "{a}", "y": [1, "{a}", "{b}"]}, {"a": None, "b": 2}, {"y": [1, 2]}),
        ('{"a"} { } {A}', {}, '{"a"} { } {A}'),
        ("{claim.email}", {"claim.email": "x"}, "x"),
        ({"x": 1.5, "y": None}, {}, {"x": 1.5}),
    ],
)
def test_fill(tree: Any, values: dict[str, Any], filled: Any):
    assert Template(tree).fill(values) == filled


def test_values_are_not_read_as_templates():
    assert Template("{a} {b}").fill({"a": "{b}", "b": "x"}) == "{b} x"


@given(st.text(st.characters(exclude_characters="{}"), max_size=30))
def test_text_without_placeholders_is_itself(text: str):
    assert Template(text).fill({}) == text and not Template(text).names


def test_names_with_parts():
    field = TemplateText(("client", "claim."))
    assert field.deserialize("{client} {claim.org_id}").names == {"client", "claim.org_id"}
    with pytest.raises(ValidationError, match=r"no value is called \{header\.x\}"):
        field.deserialize("{header.x}")


def test_text_that_is_json():
    assert TemplateJson(("a",)).deserialize('{"x": "{a}"}') == Template({"x": "{a}"})
