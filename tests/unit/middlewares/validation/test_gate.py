"""Requests held to size, media type and schemas: what passes, what is refused, and how."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.exchange import Decision, Exchange
from gateway.core.failures import Failed, Failure
from gateway.middlewares import validation
from gateway.middlewares.validation.judge import Judge
from gateway.middlewares.validation.messages import MOST
from tests.exchange import Body, World
from tests.unit.middlewares.validation.requests import (
    CAMERA,
    FORM,
    GOOD,
    JSON,
    QUERY,
    asks,
    build,
    ended,
    fields,
    refused,
    run,
)


async def test_a_body_within_bounds_passes_and_is_not_read():
    body = Body(b"x", 10)
    assert await run(build({"max_body": 10}), asks(body=body)) is None
    assert (body.reads, body.limit) == (0, 10)
    assert await run(build({"max_body": 10}), asks("GET")) is None


async def test_a_body_too_large_is_refused_before_it_is_read():
    body = Body(b"x" * 11, 11)
    failed = await refused({"max_body": 10}, body=body)
    assert (failed.failure, failed.detail) == (
        Failure.BODY_TOO_LARGE,
        "The request's body may have at most 10 bytes.",
    )
    assert body.reads == 0


@pytest.mark.parametrize(("before", "after"), [(None, 10), (100, 10), (5, 5)])
async def test_a_body_of_unknown_length_is_counted(before: int | None, after: int):
    body = Body(b"", None, before)
    assert await run(build({"max_body": 10}), asks(body=body)) is None
    assert body.limit == after


@pytest.mark.parametrize(
    ("table", "most"), [({}, 10_000_000), ({"body": {"schema": {}}}, 1_000_000)]
)
async def test_the_default_is_ten_megabytes_and_one_where_bodies_are_judged(
    table: dict[str, Any], most: int
):
    assert await run(build(table), asks("DELETE", body=Body(b"", most))) is None
    assert (await refused(table, body=Body(b"", most + 1))).failure is Failure.BODY_TOO_LARGE


@pytest.mark.parametrize(
    ("allowed", "given", "passes"),
    [
        ("application/json", "application/json", True),
        ("application/json", "Application/JSON; charset=utf-8", True),
        ("application/json", "application/vnd.api+json", False),
        ("application/json", "application/json, text/plain", False),
        ("application/json", "", False),
        ("application/json", None, False),
        ("application/*+json", "application/vnd.api+json", True),
        ("application/*+json", "application/json", False),
        ("image/*", "image/png", True),
        ("image/*", "image/png/x", False),
        ("image/*", "images/png", False),
        ("text/a.b", "text/axb", False),
    ],
)
async def test_media_types(allowed: str, given: str | None, passes: bool):
    headers = {} if given is None else {"Content-Type": given}
    failed = await run(build({"content_types": ["x/y", allowed]}), asks(headers=headers, body=b"x"))
    if passes:
        assert failed is None
    else:
        assert failed is not None
        assert failed.failure is Failure.UNSUPPORTED_MEDIA_TYPE
        assert failed.headers == ((b"Accept", f"x/y, {allowed}".encode()),)
        assert failed.detail == (
            "This Content-Type is not supported." if given else "The Content-Type is missing."
        )


async def test_requests_without_a_body_need_no_media_type():
    assert await run(build({"content_types": ["a/b"]}), asks("GET")) is None


async def test_two_content_types_are_none():
    """An origin may go by the second."""
    twice = [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    assert (
        await refused({"content_types": ["application/json"]}, headers=twice, body=b"x")
    ).failure.status == 415
    assert (
        await refused({"body": {"schema": {}}}, headers=twice, body=b"{}")
    ).failure.status == 415


async def test_a_good_body_passes_and_is_kept():
    body = Body(GOOD, len(GOOD))
    exchange = asks(headers=JSON, body=body)
    assert await run(build({"body": {"schema": CAMERA}}), exchange) is None
    assert body.complete == GOOD


@pytest.mark.parametrize(
    ("body", "failure", "expected"),
    [
        (b'{"name": "gate"}', Failure.MISSING_FIELD, {"location": ("VAL_002", "is required")}),
        (
            b"{}",
            Failure.MISSING_FIELD,
            {"name": ("VAL_002", "is required"), "location": ("VAL_002", "is required")},
        ),
        (
            b'{"name": "x", "count": -1, "extra": 1}',
            Failure.INVALID_FIELD,
            {
                "name": ("VAL_003", "must have at least 2 characters"),
                "count": ("VAL_003", "must be at least 0"),
                "location": ("VAL_002", "is required"),
                "extra": ("VAL_003", "is not allowed"),
            },
        ),
        (b"[]", Failure.INVALID_FIELD, {"": ("VAL_003", "must be an object")}),
        (b"null", Failure.INVALID_FIELD, {"": ("VAL_003", "must be an object")}),
        (
            b'{"name": "gate", "location": "n", "items": [{"name": "a"}, {"name": 5}, {}]}',
            Failure.INVALID_FIELD,
            {
                "items.1.name": ("VAL_003", "must be a string"),
                "items.2.name": ("VAL_002", "is required"),
            },
        ),
    ],
)
async def test_one_entry_for_each_field(
    body: bytes, failure: Failure, expected: dict[str, tuple[str, str]]
):
    failed = await refused({"body": {"schema": CAMERA}}, headers=JSON, body=body)
    assert (failed.failure, failed.failure.status) == (failure, 422)
    assert failed.detail == "The request's body is not as it must be."
    assert fields(failed) == expected


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/merge-patch+json; charset=UTF-8", 'a/b+JSON;charset="utf-8"'],
)
async def test_what_is_json(media_type: str):
    assert (
        await run(
            build({"body": {"schema": CAMERA}}),
            asks(headers={"Content-Type": media_type}, body=GOOD),
        )
        is None
    )


@pytest.mark.parametrize(
    ("headers", "detail", "hint"),
    [
        ({"Content-Type": "text/plain"}, "This Content-Type is not supported.", b"Accept"),
        ({"Content-Type": "application/xml"}, "This Content-Type is not supported.", b"Accept"),
        (
            {"Content-Type": "multipart/form-data; boundary=x"},
            "This Content-Type is not supported.",
            b"Accept",
        ),
        ({}, "The Content-Type is missing.", b"Accept"),
        (
            {"Content-Type": "application/json; charset=latin-1"},
            "This charset is not supported.",
            None,
        ),
        (
            {**JSON, "Content-Encoding": "gzip"},
            "This Content-Encoding is not supported.",
            b"Accept-Encoding",
        ),
    ],
)
async def test_what_cannot_be_read(headers: dict[str, str], detail: str, hint: bytes | None):
    body = Body(GOOD, len(GOOD))
    failed = await refused({"body": {"schema": CAMERA}}, headers=headers, body=body)
    assert (failed.failure, failed.detail) == (Failure.UNSUPPORTED_MEDIA_TYPE, detail)
    assert [name for name, _ in failed.headers] == ([] if hint is None else [hint])
    assert body.reads == 0


async def test_the_identity_coding_is_none():
    headers = {**JSON, "Content-Encoding": "Identity"}
    assert await run(build({"body": {"schema": CAMERA}}), asks(headers=headers, body=GOOD)) is None


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{\n "a": x}', "The body is not JSON: line 2, column 7."),
        (b"{", "The body is not JSON: line 1, column 2."),
        (b'{"a": NaN}', "The body is not JSON: line 1, column 7."),
        (b'{"a": 1} x', "The body is not JSON: line 1, column 10."),
        (b'"\xff"', "The body is not JSON: line 1, column 1."),
        (b'"\\ud800"', "The body is not JSON: line 1, column 2."),
        (b"\xef\xbb\xbf{}", "The body is not JSON: line 1, column 1."),
        (
            b"[" * 2000 + b"]" * 2000,
            "The body may nest at most 64 levels deep. It nests too deeply.",
        ),
        (b'{"a": 1, "a": 2}', "The body has a name twice in one object."),
        (b"[9007199254740993.5]", "The body has a number of more digits than can be told apart."),
    ],
)
async def test_malformed_json(body: bytes, detail: str):
    failed = await refused({"body": {"schema": {}}}, headers=JSON, body=body)
    assert (failed.failure, failed.detail) == (Failure.MALFORMED, detail)


async def test_deep_but_allowed_nesting_is_judged():
    schema = {
        "$ref": "#/$defs/list",
        "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}},
    }
    deep = b"[" * 200 + b"]" * 200
    table = {"body": {"schema": schema}, "max_depth": 200}
    assert await run(build(table), asks(headers=JSON, body=deep)) is None
    failed = await refused(table, headers=JSON, body=b"[" * 150 + b"1" + b"]" * 150)
    (field,) = fields(failed)
    assert len(field) == 100
    assert field.endswith("...")


@pytest.mark.parametrize("body", [None, b"", Body(b"", None)])
async def test_a_body_can_be_optional(body: Any):
    hooks = build({"body": {"schema": CAMERA}, "body_required": False})
    assert await run(hooks, asks(headers=JSON, body=body)) is None
    assert await run(hooks, asks(headers=JSON, body=b"{}")) is not None


@pytest.mark.parametrize(
    "given",
    [
        'application/json; profile="x; charset=latin1"',
        'application/json; charset="utf-8"',
        "application/json;Charset=UTF-8",
        'application/json; a="\\"; charset=latin1"; charset=utf-8',
    ],
)
async def test_a_charset_is_not_looked_for_inside_quotes(given: str):
    assert (
        await run(
            build({"body": {"schema": CAMERA}}), asks(headers={"Content-Type": given}, body=GOOD)
        )
        is None
    )


@pytest.mark.parametrize("body", [None, b"", Body(b"", None)])
async def test_a_missing_body_is_a_missing_field(body: Any):
    failed = await refused({"body": {"schema": CAMERA}}, headers=JSON, body=body)
    assert failed.failure is Failure.MISSING_FIELD
    assert fields(failed) == {"": ("VAL_002", "a body is required")}


async def test_methods_without_a_described_body():
    hooks = build({"body": {"schema": CAMERA}, "max_body": 5})
    assert await run(hooks, asks("GET")) is None
    body = Body(b"x", 1)
    assert await run(hooks, asks("DELETE", body=body)) is None
    assert (body.reads, body.limit) == (0, 5)
    assert (await run(hooks, asks("DELETE", body=b"x" * 6))).failure is Failure.BODY_TOO_LARGE  # type: ignore[union-attr]
    only = build({"body": {"schema": CAMERA}, "methods": ["DELETE"]})
    assert await run(only, asks("POST")) is None
    assert await run(only, asks("DELETE")) is not None


async def test_a_body_that_grows_too_large():
    with pytest.raises(Failed) as caught:
        await build({"body": {"schema": {}}, "max_body": 5}).request(
            asks(headers=JSON, body=Body(b"x" * 6))
        )  # type: ignore[misc]
    assert caught.value.failure is Failure.BODY_TOO_LARGE


async def test_no_more_than_a_hundred_entries_and_nothing_long_is_echoed():
    body = json.dumps({f"{number}-{'x' * 500}": 1 for number in range(500)}).encode()
    world = World()
    hooks = world.build(validation, {"body": {"schema": {"additionalProperties": False}}})
    try:
        failed = await run(hooks, asks(headers=JSON, body=body))
    finally:
        await ended(world.draft.keep(("validation judge",), None, Judge))
    assert failed is not None and failed.errors is not None
    assert len(failed.errors) == MOST
    assert max(len(one["field"]) for one in failed.errors) == 100
    failed = await refused(
        {"body": {"schema": {"properties": {"a": {"maxLength": 3}}}}},
        headers=JSON,
        body=b'{"a": "secret value"}',
    )
    assert "secret" not in json.dumps(failed.errors) + failed.detail


async def test_a_form_is_judged_like_a_body():
    hooks = build({"body": {"schema": CAMERA}})
    assert await run(hooks, asks(headers=FORM, body=b"name=gate&location=n%20w&count=3")) is None
    failed = await run(hooks, asks(headers=FORM, body=b"name=gate&count=x"))
    assert failed is not None
    assert fields(failed) == {
        "location": ("VAL_002", "is required"),
        "count": ("VAL_003", "must be an integer"),
    }


@pytest.mark.parametrize("body", [b"name=\xff", b"name=%FF", b"&".join([b"a"] * 10_001)])
async def test_a_form_that_cannot_be_read(body: bytes):
    failed = await refused({"body": {"schema": CAMERA}}, headers=FORM, body=body)
    assert (failed.failure, failed.detail) == (
        Failure.MALFORMED,
        "The body is not a form in UTF-8.",
    )


async def explained(
    table: dict[str, Any], exchange: Exchange
) -> tuple[list[Decision], Failed | None]:
    exchange.decisions = []
    return exchange.decisions, await run(build(table), exchange)


async def test_explaining_judges_the_body_too():
    table = {
        "body": {"schema": CAMERA},
        "query": {"schema": QUERY},
        "path": {"schema": {}},
        "max_body": 100,
    }
    name = "the schema in the configuration"
    why = f"path fits {name}; query fits {name}; body fits {name}; at most 100 bytes of body"
    for data, outcome, said in (
        (b'{"name": "front", "location": "b"}', "allowed", why),
        (b"not json", "refused", "invalid literal, expected 'null'"),
    ):
        one = asks("POST", "/things?limit=1", JSON, Body(data, len(data)))
        decisions, failed = await explained(table, one)
        assert (failed is None) is (outcome == "allowed")
        assert [(one.outcome, one.why) for one in decisions] == [(outcome, said)]


async def test_explaining_asks_for_a_body_as_ever():
    decisions, failed = await explained({"body": {"schema": CAMERA}}, asks("POST"))
    assert failed is not None and [one.outcome for one in decisions] == ["refused"]
    decisions, failed = await explained({"body": {"schema": CAMERA}}, asks("GET"))
    assert decisions == [Decision("validation", "allowed", "at most 1000000 bytes of body")]


async def test_explaining_bounds_and_parameters():
    decisions, failed = await explained({}, asks("GET"))
    assert failed is None
    assert decisions == [Decision("validation", "allowed", "at most 10000000 bytes of body")]
    decisions, failed = await explained({"max_body": 1}, asks(body=b"xx"))
    assert failed is not None
    assert decisions == [Decision("validation", "refused", "2 bytes, more than max_body, 1 bytes")]
    decisions, failed = await explained({"query": {"schema": QUERY}}, asks("GET"))
    assert failed is not None
    assert decisions == [Decision("validation", "refused", "query: 'limit' is required")]
    decisions, failed = await explained({"query": {"schema": QUERY}}, asks("GET", "/things?a=%FF"))
    assert failed is not None
    assert decisions == [
        Decision("validation", "refused", "The query is not made of parameters in UTF-8.")
    ]
