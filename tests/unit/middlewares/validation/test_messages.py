"""What is wrong with a body, in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.middlewares.validation.messages import entries_of, one_each
from gateway.middlewares.validation.schemas import JsonSchema
from tests.unit.middlewares.validation.requests import CAMERA


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": ["integer", "null"]}, "x", "must be an integer or null"),
        ({"type": "boolean"}, 1, "must be true or false"),
        ({"enum": ["a", 1]}, "b", 'must be one of "a", 1'),
        ({"enum": list(range(100))}, "b", "is not one of the allowed values"),
        ({"enum": [2**70]}, 1, "must be one of "),
        ({"const": {"a": 1}}, 1, 'must be {"a":1}'),
        ({"const": "x" * 200}, 1, "must be another value"),
        ({"minimum": 3}, 1, "must be at least 3"),
        ({"maximum": 3.5}, 9, "must be at most 3.5"),
        ({"exclusiveMinimum": 3}, 3, "must be more than 3"),
        ({"exclusiveMaximum": 3}, 3, "must be less than 3"),
        ({"multipleOf": 2}, 3, "must be a multiple of 2"),
        ({"minLength": 3}, "a", "must have at least 3 characters"),
        ({"maxLength": 1}, "ab", "must have at most 1 characters"),
        ({"minItems": 1}, [], "must have at least 1 items"),
        ({"maxItems": 1}, [1, 2], "must have at most 1 items"),
        ({"uniqueItems": True}, [1, 1], "must not hold an item twice"),
        ({"minProperties": 1}, {}, "must have at least 1 properties"),
        ({"maxProperties": 0}, {"a": 1}, "must have at most 0 properties"),
        ({"pattern": "^a$"}, "b", "does not have the required form"),
        ({"format": "email"}, "b", "must be a valid email"),
        ({"format": "uuid"}, "b", "must be a valid uuid"),
        ({"contains": {"const": 1}}, [2], "does not hold what it must"),
        ({"not": {"type": "string"}}, "a", "is not allowed"),
        (False, "a", "is not allowed"),
        (
            {"propertyNames": {"maxLength": 1}},
            {"ab": 1},
            "has a property that may not be called so",
        ),
        ({"prefixItems": [{}], "items": False}, [1, 2], None),
        ({"unevaluatedItems": False}, [1], "has items that are not allowed"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "must be a string or null"),
        ({"anyOf": [{"type": "integer", "maximum": 5}, {"type": "null"}]}, 9, "must be at most 5"),
        ({"anyOf": [{"minimum": 5}, {"multipleOf": 2}]}, 3, "matches none of the allowed forms"),
        (
            {"oneOf": [{"type": "string", "minLength": 2}, {"type": "array"}]},
            "a",
            "must have at least 2 characters",
        ),
        ({"oneOf": [{}, {}]}, 1, "matches more than one of the allowed forms"),
        ({"oneOf": [{}, {"minimum": 5}, {}]}, 1, "matches more than one of the allowed forms"),
        ({"dependentRequired": {"x": ["y"]}}, {"x": 1}, "is required"),
        (
            {"contentEncoding": "base64", "$schema": "http://json-schema.org/draft-07/schema#"},
            "%",
            "is not valid",
        ),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "items": [{}],
                "additionalItems": False,
            },
            [1, 2],
            "has more items than are allowed",
        ),
    ],
)
def test_messages(schema: Any, value: Any, message: str | None):
    found = JsonSchema(schema, "it").errors(value)
    assert len(found) == 1
    assert found[0]["message"] == (message or found[0]["message"])
    assert found[0]["code"] == ("VAL_002" if message == "is required" else "VAL_003")


def test_alternatives_within_alternatives():
    point = {"type": "object", "required": ["x"]}
    schema = {
        "properties": {"at": {"anyOf": [{"type": "null"}, {"anyOf": [point, {"type": "string"}]}]}}
    }
    assert JsonSchema(schema, "it").errors({"at": {}}) == [
        {"field": "at.x", "code": "VAL_002", "message": "is required"}
    ]


def test_unevaluated_properties_are_named():
    found = JsonSchema({"properties": {"a": {}}, "unevaluatedProperties": False}, "it").errors(
        {"a": 1, "b": 2, "c": 3}
    )
    assert [one["field"] for one in found] == ["b", "c"]


def test_properties_where_none_is_declared_are_named():
    schema = {"properties": {"a": {"type": "array", "items": {"additionalProperties": False}}}}
    found = JsonSchema(schema, "it").errors({"a": [{}, {"b": 1, "c": 2}]})
    assert [(one["field"], one["message"]) for one in found] == [
        ("a.1.b", "is not allowed"),
        ("a.1.c", "is not allowed"),
    ]


def test_of_several_faults_of_a_field_the_first_is_told():
    found = JsonSchema({"properties": {"a": {"minLength": 5, "pattern": "^x"}}}, "it").errors(
        {"a": "b"}
    )
    assert len(found) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "location", "count", "items", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(json_values)
@settings(max_examples=150, deadline=None)
def test_whatever_is_wrong_has_an_entry(value: Any):
    """Valid and without entries are the same thing, and every entry is about a place in the value
    or just below it."""
    schema = JsonSchema(CAMERA, "it")
    found = schema.errors(value)
    assert bool(found) != schema._validator.is_valid(value)
    for one in found:
        assert set(one) == {"field", "code", "message"}
        assert one["message"]
        at = value
        for step in one["field"].split(".")[:-1]:
            at = at[int(step)] if isinstance(at, list) else at[step]
    assert one_each(entries_of([], value)) == []
