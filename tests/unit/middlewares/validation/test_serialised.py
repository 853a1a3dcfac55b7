"""`style` and `explode`: what is on the wire, and the value it means (OpenAPI 3.1.1, 4.8.12.4)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.middlewares.validation.references import Documents
from gateway.middlewares.validation.serialised import (
    ABSENT,
    NotJson,
    Raw,
    raw_cookies,
    raw_headers,
    raw_query,
    reader,
)
from tests.exchange import exchange

TEXTS = {"type": "array", "items": {"type": "string"}}
NUMBERS = {"type": "array", "items": {"type": "integer"}}
COLOR = {"type": "object", "properties": {"R": {"type": "integer"}, "G": {"type": "integer"}}}


def read(location: str, raw: Raw, schema: Any, **more: Any) -> Any:
    parameter = {"name": "color", **more}
    return reader(parameter, location, (schema, ""), Documents(schema))(raw)


@pytest.mark.parametrize(
    ("style", "explode", "text", "schema", "value"),
    [
        ("simple", False, "blue,black", TEXTS, ["blue", "black"]),
        ("simple", True, "blue,black", TEXTS, ["blue", "black"]),
        ("simple", False, "R,100,G,200", COLOR, {"R": 100, "G": 200}),
        ("simple", True, "R=100,G=200", COLOR, {"R": 100, "G": 200}),
        ("label", False, ".5", {"type": "integer"}, 5),
        ("label", False, ".1,2", NUMBERS, [1, 2]),
        ("label", True, ".1.2", NUMBERS, [1, 2]),
        ("label", False, ".R,100,G,200", COLOR, {"R": 100, "G": 200}),
        ("label", True, ".R=100.G=200", COLOR, {"R": 100, "G": 200}),
        ("matrix", False, ";color=5", {"type": "integer"}, 5),
        ("matrix", False, ";color=1,2", NUMBERS, [1, 2]),
        ("matrix", True, ";color=1;color=2", NUMBERS, [1, 2]),
        ("matrix", False, ";color=R,100,G,200", COLOR, {"R": 100, "G": 200}),
        ("matrix", True, ";R=100;G=200", COLOR, {"R": 100, "G": 200}),
    ],
)
def test_paths(style: str, explode: bool, text: str, schema: Any, value: Any):
    assert read("path", {"color": [text]}, schema, style=style, explode=explode) == value


@pytest.mark.parametrize(
    ("query", "how", "schema", "value"),
    [
        ("color=blue&color=black", {}, TEXTS, ["blue", "black"]),
        ("color=a%2Cb", {"explode": False}, TEXTS, ["a,b"]),
        ("color=1,2", {"explode": False}, NUMBERS, [1, 2]),
        ("color=1,2&color=3", {"explode": False}, NUMBERS, [1, 2, 3]),
        ("color=", {"explode": False}, NUMBERS, []),
        ("R=100&G=200&x=1", {}, COLOR, {"R": 100, "G": 200}),
        ("R=1&R=2", {}, COLOR, {"R": ["1", "2"]}),
        ("x=1", {}, COLOR, ABSENT),
        ("color=R,100,G,200", {"explode": False}, COLOR, {"R": 100, "G": 200}),
        ("color=R,1&color=R,2", {"explode": False}, COLOR, ["R,1", "R,2"]),
        ("color=1%202+3", {"style": "spaceDelimited", "explode": False}, NUMBERS, [1, 2, 3]),
        ("color=1|2%7c3", {"style": "pipeDelimited", "explode": False}, NUMBERS, [1, 2, 3]),
        ("color=1&color=2", {"style": "pipeDelimited", "explode": True}, NUMBERS, [1, 2]),
        ("color[R]=100&color[G]=x", {"style": "deepObject"}, COLOR, {"R": 100, "G": "x"}),
        ("color%5BR%5D=100", {"style": "deepObject"}, COLOR, {"R": 100}),
        ("color[R]=1&color[R]=2", {"style": "deepObject"}, COLOR, {"R": ["1", "2"]}),
        ("color[", {"style": "deepObject"}, COLOR, ABSENT),
        ("color=%7B%22a%22%3A1%7D", {"content": {"application/json": {}}}, {}, {"a": 1}),
        ("x=1", {"content": {"application/json": {}}}, {}, ABSENT),
        ("color=a+b", {}, {"type": "string"}, "a b"),
        ("color=true", {}, {"type": "boolean"}, True),
        ("color=1&color=2", {}, {"type": "integer"}, ["1", "2"]),
        ("x=1", {}, {"type": "integer"}, ABSENT),
        ("color=7", {}, {"properties": {"R": {}}}, ABSENT),
        ("color=7", {}, {"items": {"type": "integer"}}, [7]),
    ],
)
def test_queries(query: str, how: dict[str, Any], schema: Any, value: Any):
    assert read("query", raw_query(query), schema, **how) == value


@pytest.mark.parametrize("query", ["color={", "color=1&color=2", "color="])
def test_what_should_be_json(query: str):
    with pytest.raises(NotJson):
        read("query", raw_query(query), {}, content={"application/json": {}})


def test_headers_and_cookies():
    one = exchange(
        headers=[
            ("Color", "1"),
            ("color", "2, 3"),
            ("Cookie", 'a="1"; b; color=5'),
            ("Cookie", "c="),
        ]
    )
    assert read("header", raw_headers(one), NUMBERS) == [1, 2, 3]
    assert raw_cookies(one) == {"a": ["1"], "color": ["5"], "c": [""]}
    assert read("cookie", raw_cookies(one), {"type": "integer"}) == 5


def test_a_query_that_is_not_utf8():
    with pytest.raises(ValueError, match="utf-8"):
        raw_query("a=%ff")


@given(st.lists(st.text(min_size=1), min_size=1))
def test_any_texts_can_be_sent(texts: list[str]):
    try:
        query = "color=" + ",".join(quote(text, safe="") for text in texts)
    except UnicodeEncodeError:
        return
    assert read("query", raw_query(query), TEXTS, explode=False) == texts
