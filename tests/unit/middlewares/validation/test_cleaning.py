"""Values as their schema wants them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.middlewares.validation.cleaning import Cleaner, Cleaning
from gateway.middlewares.validation.references import Documents

MESSAGE = {
    "$defs": {
        "author": {"properties": {"name": {"type": "string", "default": "anonymous"}}},
        "reply": {"$ref": "#"},
    },
    "type": "object",
    "properties": {
        "type": {"enum": ["text", "code"], "default": "text"},
        "limit": {"type": "integer", "default": 20},
        "ratio": {"type": ["number", "null"]},
        "active": {"type": "boolean"},
        "author": {"$ref": "#/$defs/author"},
        "tags": {"type": "array", "items": {"type": "integer"}},
        "reply": {"$ref": "#/$defs/reply"},
        "free": {"type": "object"},
        "open": {"properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        "pair": {"prefixItems": [{"type": "integer"}, {"type": "string"}]},
    },
    "allOf": [{"properties": {"more": {"type": "string", "default": "m"}}}],
    "anyOf": [{"properties": {"either": {"default": 1}}}, {"patternProperties": {"^x-": {}}}],
}


def cleaned(value: Any, schema: Any = MESSAGE, **how: Any) -> Any:
    return Cleaner(Documents(schema), Cleaning(**how))(value)


def test_defaults_are_filled_in_where_they_certainly_apply():
    assert cleaned({"author": {}, "reply": {"type": "code"}}, defaults=True) == {
        "type": "text",
        "limit": 20,
        "more": "m",
        "author": {"name": "anonymous"},
        "reply": {"type": "code", "limit": 20, "more": "m"},
    }
    assert cleaned({"type": None}, defaults=True)["type"] is None
    assert cleaned([], defaults=True) == []


def test_a_default_is_new_each_time():
    schema = {"properties": {"a": {"default": [], "items": {}}}}
    cleaner = Cleaner(Documents(schema), Cleaning(defaults=True))
    cleaner({})["a"].append(1)
    assert cleaner({}) == {"a": []}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"limit": "5"}, {"limit": 5}),
        ({"limit": "five"}, {"limit": "five"}),
        ({"limit": "05"}, {"limit": "05"}),
        ({"limit": 5.5}, {"limit": 5.5}),
        ({"ratio": "1.5"}, {"ratio": 1.5}),
        ({"active": "true"}, {"active": True}),
        ({"active": "yes"}, {"active": "yes"}),
        ({"tags": ["1", 2, "x"]}, {"tags": [1, 2, "x"]}),
        ({"tags": "1"}, {"tags": "1"}),
        ({"more": 5}, {"more": "5"}),
        ({"more": True}, {"more": True}),
        ({"author": {"name": 1}}, {"author": {"name": "1"}}),
        ({"open": {"b": "1"}}, {"open": {"b": 1}}),
        ({"pair": ["1", 2, "3"]}, {"pair": [1, "2", "3"]}),
        ({"free": {"limit": "5"}}, {"free": {"limit": "5"}}),
        ("text", "text"),
    ],
)
def test_types_are_coerced_where_they_are_spelt_so(given: Any, wanted: Any):
    assert cleaned(given, coerce=True) == wanted


def test_unknown_members_are_left_out():
    given = {
        "type": "text",
        "evil": 1,
        "author": {"name": "a", "admin": True},
        "free": {"x": 1},
        "open": {"a": 1, "b": 2},
        "either": 2,
        "x-own": 3,
    }
    assert cleaned(given, strip=True) == {
        "type": "text",
        "author": {"name": "a"},
        "free": {"x": 1},
        "open": {"a": 1, "b": 2},
        "either": 2,
        "x-own": 3,
    }
    assert cleaned({"a": 1}, {"properties": {}}, strip=True) == {}
    closed = {"properties": {"a": {}}, "additionalProperties": False}
    assert cleaned({"a": 1, "b": 2}, closed, strip=True) == {"a": 1}


@pytest.mark.parametrize(
    ("ways", "given", "wanted"),
    [
        (["trim"], {"a": ["  x "]}, {"a": ["x"]}),
        (["controls"], "a\0b\x1b\n\tc\x85", "ab\n\tc"),
        (["nfc"], "u\u0308", "ü"),
        (["operators"], {"$where": 1, "a": {"$gt": ""}, "b$": 2}, {"a": {}, "b$": 2}),
        (["trim", "controls"], "\0 x \0", "x"),
        (["trim"], 5, 5),
    ],
)
def test_texts_are_tidied(ways: list[str], given: Any, wanted: Any):
    assert cleaned(given, sanitize=tuple(ways)) == wanted


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"limit": " 5 ", "tags": "1"}, {"limit": 5, "tags": [1]}),
        ({"tags": ""}, {"tags": []}),
        ({"free": ""}, {"free": {}}),
        ({"more": " x "}, {"more": " x "}),
    ],
)
def test_what_xml_cannot_say(given: Any, wanted: Any):
    assert cleaned(given, wrap=True) == wanted


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from([*MESSAGE["properties"], "$x"]), below, max_size=4)
    ),
)


@given(values)
def test_cleaning_twice_changes_nothing_more(value: Any):
    how: dict[str, Any] = {"defaults": True, "coerce": True, "strip": True, "sanitize": ("trim",)}
    once = cleaned(value, **how)
    assert cleaned(once, **how) == once
