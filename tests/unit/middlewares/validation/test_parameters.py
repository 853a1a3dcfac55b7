"""Parameters of paths and queries, typed by their schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.failures import Failure
from gateway.middlewares.validation.parameters import converter, parsed
from gateway.middlewares.validation.references import Documents
from tests.exchange import Body
from tests.unit.middlewares.validation import test_schemas
from tests.unit.middlewares.validation.requests import (
    CAMERA,
    GOOD,
    JSON,
    QUERY,
    asks,
    build,
    fields,
    refused,
    run,
)


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("limit=5", {}),
        ("limit=5&ratio=0.5&active=true&tag=1&tag=2&sort=asc&id=x", {}),
        ("limit=5&ratio=-1e3&active=false&tag=1&id=7", {}),
        ("limit=5&ratio=7", {}),
        ("", {"limit": "is required"}),
        ("limit=", {"limit": "must be an integer"}),
        ("limit=x", {"limit": "must be an integer"}),
        ("limit=5.0", {"limit": "must be an integer"}),
        ("limit=05", {"limit": "must be an integer"}),
        ("limit=%35", {}),
        ("limit=101", {"limit": "must be at most 100"}),
        ("limit=1&limit=2", {"limit": "is there more than once; it must be an integer"}),
        ("limit=99999999999999999999999999", {"limit": "must be at most 100"}),
        ("limit=1&ratio=nan", {"ratio": "must be a number"}),
        ("limit=1&ratio=1e999", {"ratio": "must be a number"}),
        ("limit=1&active=True", {"active": "must be true or false"}),
        ("limit=1&tag=1&tag=b", {"tag.1": "must be an integer"}),
        ("limit=1&tag=1&tag=2&tag=3&tag=4", {"tag": "must have at most 3 items"}),
        ("limit=1&sort=up", {"sort": 'must be one of "asc", "desc"'}),
        ("limit=1&other=1", {"other": "is not allowed"}),
        ("limit=1&%C3%A4=1", {"ä": "is not allowed"}),
    ],
)
async def test_query_parameters(query: str, wrong: dict[str, str]):
    failed = await run(build({"query": {"schema": QUERY}}), asks("GET", f"/things?{query}"))
    if not wrong:
        assert failed is None
        return
    assert failed is not None
    assert {field: message for field, (_, message) in fields(failed).items()} == wrong
    assert failed.failure is (
        Failure.MISSING_FIELD
        if "limit" in wrong and "required" in wrong["limit"]
        else Failure.INVALID_FIELD
    )


@pytest.mark.parametrize("query", ["a=%FF", "&".join("a" * 10_002)])
async def test_a_query_that_cannot_be_read(query: str):
    failed = await refused({"query": {"schema": {}}}, "GET", f"/things?{query}")
    assert failed.failure is Failure.MALFORMED


async def test_bytes_that_are_no_utf8_are_malformed():
    exchange = asks("GET", "/things?a=\udcff")
    failed = await run(
        build({"query": {"schema": {"properties": {"a": {"pattern": "^a"}}}}}), exchange
    )
    assert failed is not None
    assert (failed.failure, failed.detail) == (Failure.MALFORMED, "The query is not UTF-8.")
    failed = await run(
        build({"query": {"marshmallow": f"{test_schemas.__name__}:ThingSchema"}}),
        asks("GET", "/things?name=a&\udcff=1&ä=1"),
    )
    assert failed is not None
    assert set(fields(failed)) == {"?", "ä"}


async def test_path_parameters():
    hooks = build(
        {"path": {"schema": {"properties": {"id": {"type": "integer"}, "day": {"format": "date"}}}}}
    )
    assert await run(hooks, asks("GET", params={"id": "5", "day": "2026-01-01"})) is None
    failed = await run(hooks, asks("GET", params={"id": "five", "day": "today"}))
    assert failed is not None
    assert set(fields(failed)) == {"id", "day"}
    assert failed.why == "path: 'id' must be an integer"


async def test_parameters_are_judged_before_the_body_is_read():
    body = Body(GOOD, len(GOOD))
    table = {"body": {"schema": CAMERA}, "query": {"schema": QUERY}}
    failed = await refused(table, headers=JSON, body=body)
    assert set(fields(failed)) == {"limit"}
    assert body.reads == 0
    assert await run(build(table), asks("POST", "/things?limit=1", JSON, GOOD)) is None


async def test_size_is_judged_before_parameters():
    failed = await refused({"query": {"schema": QUERY}, "max_body": 1}, body=b"xx")
    assert failed.failure is Failure.BODY_TOO_LARGE


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        (
            {"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}},
            "a=1",
            {"a": 1},
        ),
        (
            {"$ref": "#/$defs/q", "$defs": {"q": {"properties": {"a": {"type": "number"}}}}},
            "a=1.5",
            {"a": 1.5},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "integer"}}},
                    {"properties": {"b": {"type": "boolean"}}},
                ]
            },
            "a=1&b=true",
            {"a": 1, "b": True},
        ),
        ({"if": {}, "then": {"properties": {"a": {"type": "integer"}}}}, "a=1", {"a": 1}),
        (
            {"properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}},
            "a=1",
            {"a": 1},
        ),
        ({"properties": {"a": {"enum": [1, 2]}}}, "a=1", {"a": 1}),
        ({"properties": {"a": {"const": True}}}, "a=true", {"a": True}),
        ({"properties": {"a": {"enum": ["1"]}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"enum": [None, {}]}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"type": "array"}}}, "a=1", {"a": ["1"]}),
        (
            {
                "properties": {
                    "a": {
                        "anyOf": [
                            {"type": "array", "items": {"type": "integer"}},
                            {"type": "string"},
                        ]
                    }
                }
            },
            "a=1",
            {"a": [1]},
        ),
        ({"properties": {"a": {"$ref": "#"}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"$ref": "other.json"}}}, "a=1", {"a": "1"}),
        (
            {"properties": {"a": {"$ref": "#/oneOf/1"}}, "oneOf": [{}, {"type": "integer"}]},
            "a=1",
            {"a": 1},
        ),
        (
            {
                "properties": {"a": {"$ref": "#/$defs/x~1y%20z"}},
                "$defs": {"x/y z": {"type": "integer"}},
            },
            "a=1",
            {"a": 1},
        ),
        ({"properties": {"a": {"$ref": "#/nowhere/5/x"}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"$ref": "#/title/x"}}, "title": "t"}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"type": "null"}}}, "a=", {"a": ""}),
        ({"properties": {"a": True}}, "a=1&a=2", {"a": ["1", "2"]}),
        (True, "a=1&b=", {"a": "1", "b": ""}),
    ],
)
def test_typing_by_schema(schema: Any, text: str, expected: dict[str, Any]):
    assert converter(Documents(schema))(parsed(text)) == expected


@given(
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(st.integers(0, 9), min_size=1),
    st.text(max_size=9),
)
@settings(max_examples=150)
def test_what_is_written_is_what_is_read(
    whole: int, number: float, flag: bool, several: list[int], words: str
):
    declared = {"w": "integer", "n": "number", "f": "boolean", "t": "string"}
    schema = {
        "properties": {name: {"type": kind} for name, kind in declared.items()}
        | {"s": {"type": "array", "items": {"type": "integer"}}}
    }
    query = urlencode(
        {"w": whole, "n": f"{number:.6e}", "f": str(flag).lower(), "s": several, "t": words},
        doseq=True,
    )
    found = converter(Documents(schema))(parsed(query))
    expected = float(f"{number:.6e}")
    assert found["w"] == whole
    assert found["n"] == (
        expected if abs(number) < 1e100 and (number == 0 or abs(number) > 1e-99) else found["n"]
    )
    assert (found["f"], found["s"], found["t"]) == (flag, several, words)


INTEGER = {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {
                "properties": {"a": {"$ref": "#number"}},
                "$defs": {"n": {"$anchor": "number", **INTEGER}},
            },
            5,
        ),
        (
            {
                "properties": {"a": {"$ref": "https://x.example/n"}},
                "$defs": {"n": {"$id": "https://x.example/n", **INTEGER}},
            },
            5,
        ),
        (
            {
                "$id": "https://x.example/s",
                "properties": {"a": {"$ref": "n"}},
                "$defs": {"n": {"$id": "n", **INTEGER}},
            },
            5,
        ),
        ({"additionalProperties": INTEGER}, 5),
        ({"properties": {"b": {}}, "unevaluatedProperties": INTEGER}, 5),
        ({"patternProperties": {"^a": INTEGER}}, 5),
        ({"patternProperties": {"^b": INTEGER}}, "5"),
        ({"dependentSchemas": {"b": {"properties": {"a": INTEGER}}}}, 5),
        ({"properties": {"a": {"anyOf": [{"type": "boolean"}, INTEGER]}}}, 5),
        ({"properties": {"a": {"anyOf": [INTEGER, {"type": "array", "items": INTEGER}]}}}, [5]),
        (
            {
                "properties": {
                    "a": {"anyOf": [INTEGER, {"type": "array", "items": {"type": "boolean"}}]}
                }
            },
            5,
        ),
        (
            {
                "properties": {
                    "a": {
                        "anyOf": [
                            {"type": "string"},
                            {"type": "array", "items": {"type": "boolean"}},
                        ]
                    }
                }
            },
            "5",
        ),
        (
            {"properties": {"a": {"type": "array", "prefixItems": [INTEGER, {"type": "boolean"}]}}},
            [5],
        ),
        ({"properties": {"a": {"$ref": "missing.json"}}}, "5"),
        ({"properties": {"a": {"$ref": "#nothing"}}}, "5"),
    ],
)
def test_where_types_are_found(schema: Any, expected: Any):
    assert converter(Documents(schema))({"a": ["5"]}) == {"a": expected}


def test_types_in_other_files(tmp_path: Path):
    (tmp_path / "types.json").write_text('{"$defs": {"id": {"$ref": "deeper.json#id"}}}')
    (tmp_path / "deeper.json").write_text('{"$defs": {"x": {"$anchor": "id", "type": "integer"}}}')
    schema = {"properties": {"a": {"$ref": "types.json#/$defs/id"}}}
    documents = Documents(schema, (tmp_path / "schema.json").as_uri())
    assert converter(documents)({"a": ["5"]}) == {"a": 5}


def test_places_in_an_array():
    schema = {
        "properties": {
            "a": {"type": "array", "prefixItems": [{}, {"type": "boolean"}], "items": INTEGER}
        }
    }
    assert converter(Documents(schema))({"a": ["1", "true", "3"]}) == {"a": ["1", True, 3]}


async def test_lists_with_commas():
    table = {
        "query": {"schema": {"properties": {"ids": {"type": "array", "items": INTEGER}}}},
        "split": ["ids"],
    }
    assert await run(build(table), asks("GET", "/things?ids=1,2&ids=3")) is None
    failed = await refused(table, "GET", "/things?ids=1,b")
    assert fields(failed) == {"ids.1": ("VAL_003", "must be an integer")}
