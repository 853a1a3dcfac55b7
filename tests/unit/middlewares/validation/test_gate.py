"""Requests held to size, media type and schemas: what passes, what is refused, with which status, code and words."""

from __future__ import annotations

import datetime
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import marshmallow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError
from multidict import CIMultiDict, CIMultiDictProxy

from gateway import middlewares
from gateway.config.toml.sources import FileTable, Outside, Sources
from gateway.core.exchange import Decision, Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.middlewares import validation
from gateway.middlewares.validation.messages import MOST, entries_of, one_each
from gateway.middlewares.validation.parameters import converter, parsed
from gateway.middlewares.validation.schemas import JsonSchema

CAMERA = {
    "type": "object",
    "required": ["name", "location"],
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 10},
        "location": {"type": "string"},
        "count": {"type": "integer", "minimum": 0},
        "items": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
    },
    "additionalProperties": False,
}
GOOD = b'{"name": "gate", "location": "north"}'
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Body:
    """A request body that came as it is; counts how often it was read."""

    def __init__(self, data: bytes, length: int | None = None, limit: int | None = None) -> None:
        self.data = data
        self.length = length
        self.limit = limit
        self.reads = 0

    async def read(self) -> bytes:
        raise NotImplementedError

    async def whole(self, at_most: int) -> bytes:
        self.reads += 1
        if len(self.data) > at_most:
            raise Failed(Failure.BODY_TOO_LARGE)
        return self.data

    @property
    def complete(self) -> bytes | None:
        return self.data if self.reads else None

    @property
    def received(self) -> bool:
        return True


def build(table: dict[str, Any], directory: Path = Path("nowhere"), name: str = "validation") -> Hooks:
    return validation.build(validation.CONFIG().load(table), Context(name=name, directory=directory))


def an_exchange(
    method: str = "POST",
    target: str = "/things",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: Body | bytes | None = None,
    params: dict[str, str] | None = None,
) -> Exchange:
    multi = CIMultiDict(headers or {})
    raw = [(name.encode(), value.encode()) for name, value in multi.items()]
    data = Body(body, len(body)) if isinstance(body, bytes) else body
    made = Exchange(method, target, CIMultiDictProxy(multi), raw, body=data)
    made.route = SimpleNamespace(name="things")
    made.params = params or {}
    return made


async def run(hooks: Hooks, exchange: Exchange) -> Failed | None:
    assert hooks.request is not None
    assert (hooks.response, hooks.error, hooks.finish) == (None, None, None)
    try:
        answer: Any = hooks.request(exchange)
        if inspect.isawaitable(answer):
            answer = await answer
    except Failed as failed:
        assert failed.by == "validation"
        return failed
    assert answer is None
    return None


async def refused(table: dict[str, Any], *args: Any, **more: Any) -> Failed:
    failed = await run(build(table), an_exchange(*args, **more))
    assert failed is not None
    return failed


def fields(failed: Failed) -> dict[str, tuple[str, str]]:
    assert failed.errors is not None
    return {one["field"]: (one["code"], one["message"]) for one in failed.errors}


# Configuration.


def test_the_catalogue_finds_it():
    kind = middlewares.find("validation")
    assert kind.build is validation.build
    assert kind.config is not None
    assert kind.config().load({}) == validation.ValidationConfig()


@pytest.mark.parametrize(
    ("table", "at"),
    [
        ({"max_body": "big"}, "max_body"),
        ({"content_types": ["json"]}, "content_types"),
        ({"content_types": ["a/b; c=d"]}, "content_types"),
        ({"methods": ["post"]}, "methods"),
        ({"body": {}}, "body"),
        ({"body": {"file": "a", "schema": {}}}, "body"),
        ({"body": {"url": "a"}}, "body"),
        ({"query": {"marshmallow": "Class"}}, "query"),
        ({"query": True}, "query"),
        ({"headers": {}}, "headers"),
    ],
)
def test_what_cannot_be_set(table: dict[str, Any], at: str):
    with pytest.raises(ValidationError) as caught:
        validation.CONFIG().load(table)
    assert list(caught.value.normalized_messages()) == [at]


def test_the_hook_is_awaited_only_where_a_body_is_read():
    kinds = [({}, False), ({"query": {"schema": {}}}, False), ({"path": {"schema": {}}}, False), ({"body": {"schema": {}}}, True)]
    for table, awaited in kinds:
        assert inspect.iscoroutinefunction(build(table).request) == awaited


def test_false_switches_a_schema_off():
    assert validation.CONFIG().load({"body": False}).body is None


def test_a_schema_file_stands_beside_the_toml(tmp_path: Path):
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "camera.json").write_text(json.dumps(CAMERA))
    hooks = build({"body": {"file": "schemas/camera.json"}}, tmp_path)
    assert hooks.request is not None


async def test_a_schema_may_refer_to_other_files_and_to_itself(tmp_path: Path):
    (tmp_path / "common.json").write_text(json.dumps({"$defs": {"name": {"type": "string", "minLength": 3}}}))
    schema = {
        "properties": {"name": {"$ref": "common.json#/$defs/name"}, "count": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "integer"}},
    }
    (tmp_path / "thing.json").write_text(json.dumps(schema))
    hooks = build({"body": {"file": "thing.json"}}, tmp_path)
    failed = await run(hooks, an_exchange(headers=JSON, body=b'{"name": "a", "count": "b"}'))
    assert failed is not None
    assert set(fields(failed)) == {"name", "count"}


async def test_what_the_configuration_read_is_what_counts(tmp_path: Path):
    """One compilation sees one state of a file, and its contents count for the configuration's hash."""
    path = tmp_path / "s.json"
    path.write_text('\n{"type": "object"}\n')
    sources = Sources({})
    config = validation.CONFIG().load({"body": FileTable({"file": "s.json"}, tmp_path, sources)})
    assert config.body == validation.SchemaConfig("s.json", text='{"type": "object"}')
    assert list(sources.files) == [path]
    path.write_text('{"type": "array"}')
    hooks = validation.build(config, Context(name="validation", directory=tmp_path))
    assert await run(hooks, an_exchange(headers=JSON, body=b"{}")) is None


def test_strings_from_the_environment_are_strings_in_a_schema():
    config = validation.CONFIG().load({"body": {"schema": {"const": Outside("secret", "${SECRET}")}}})
    assert type(config.body.schema["const"]) is str


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        (None, ("body", "file"), "cannot read 's.json': No such file or directory"),
        ("{", ("body", "file"), "s.json:1:2: not JSON"),
        ('{\n "type": nope}', ("body", "file"), "s.json:2:10: not JSON"),
        ('{"type": "nope"}', ("body", "file"), "s.json is not a JSON Schema at /type"),
        ('{"properties": {"a": {"minimum": "1"}}}', ("body", "file"), "s.json is not a JSON Schema at /properties/a/minimum"),
        ('{"$ref": "http://example.com/x.json"}', ("body", "file"), "only files are read"),
        ('{"$ref": "missing.json"}', ("body", "file"), "missing.json"),
        ('{"$ref": "#/$defs/none"}', ("body", "file"), "/$defs/none"),
        ('{"pattern": "("}', ("body", "file"), "/pattern"),
        ('{"$schema": "http://example.com/mine"}', ("body", "file"), "Unknown meta-schema"),
        ("[]", ("body", "file"), "s.json is not a JSON Schema"),
    ],
)
def test_bad_schema_files(text: str | None, at: tuple[str, ...], says: str, tmp_path: Path):
    if text is not None:
        (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigProblem) as caught:
        build({"body": {"file": "s.json"}}, tmp_path)
    assert caught.value.at == at
    assert says in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("schema", "at"),
    [
        ({"type": "nope"}, ("query", "schema", "type")),
        ({"properties": {"a": {"items": [1]}}}, ("query", "schema", "properties", "a", "items")),
        ({"const": datetime.date(2026, 1, 1)}, ("query", "schema")),
    ],
)
def test_bad_inline_schemas_are_pointed_at(schema: dict[str, Any], at: tuple[str, ...]):
    with pytest.raises(ConfigProblem) as caught:
        build({"query": {"schema": schema}})
    assert caught.value.at == at


# Size and media type.


async def test_a_body_within_bounds_passes_and_is_not_read():
    body = Body(b"x", 10)
    assert await run(build({"max_body": 10}), an_exchange(body=body)) is None
    assert (body.reads, body.limit) == (0, 10)
    assert await run(build({"max_body": 10}), an_exchange("GET")) is None


async def test_a_body_too_large_is_refused_before_it_is_read():
    body = Body(b"x" * 11, 11)
    failed = await refused({"max_body": 10}, body=body)
    assert (failed.failure, failed.detail) == (Failure.BODY_TOO_LARGE, "The request's body may have at most 10 bytes.")
    assert body.reads == 0


@pytest.mark.parametrize(("before", "after"), [(None, 10), (100, 10), (5, 5)])
async def test_a_body_of_unknown_length_is_counted(before: int | None, after: int):
    body = Body(b"", None, before)
    assert await run(build({"max_body": 10}), an_exchange(body=body)) is None
    assert body.limit == after


async def test_the_default_is_ten_megabytes():
    assert await run(build({}), an_exchange(body=Body(b"", 10_000_000))) is None
    assert (await refused({}, body=Body(b"", 10_000_001))).failure is Failure.BODY_TOO_LARGE


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
    failed = await run(build({"content_types": ["x/y", allowed]}), an_exchange(headers=headers, body=b"x"))
    if passes:
        assert failed is None
    else:
        assert failed is not None
        assert failed.failure is Failure.UNSUPPORTED_MEDIA_TYPE
        assert failed.headers == ((b"Accept", f"x/y, {allowed}".encode()),)
        assert failed.detail == ("This Content-Type is not supported." if given else "The Content-Type is missing.")


async def test_requests_without_a_body_need_no_media_type():
    assert await run(build({"content_types": ["a/b"]}), an_exchange("GET")) is None


async def test_two_content_types_are_none():
    """An origin may go by the second."""
    twice = [("Content-Type", "application/json"), ("Content-Type", "text/plain")]
    assert (await refused({"content_types": ["application/json"]}, headers=twice, body=b"x")).failure.status == 415
    assert (await refused({"body": {"schema": {}}}, headers=twice, body=b"{}")).failure.status == 415


# JSON bodies.


async def test_a_good_body_passes_and_is_kept():
    body = Body(GOOD, len(GOOD))
    exchange = an_exchange(headers=JSON, body=body)
    assert await run(build({"body": {"schema": CAMERA}}), exchange) is None
    assert body.complete == GOOD


@pytest.mark.parametrize(
    ("body", "failure", "expected"),
    [
        (b'{"name": "gate"}', Failure.MISSING_FIELD, {"location": ("VAL_002", "is required")}),
        (b"{}", Failure.MISSING_FIELD, {"name": ("VAL_002", "is required"), "location": ("VAL_002", "is required")}),
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
            {"items.1.name": ("VAL_003", "must be a string"), "items.2.name": ("VAL_002", "is required")},
        ),
    ],
)
async def test_one_entry_for_each_field(body: bytes, failure: Failure, expected: dict[str, tuple[str, str]]):
    failed = await refused({"body": {"schema": CAMERA}}, headers=JSON, body=body)
    assert (failed.failure, failed.failure.status) == (failure, 422)
    assert failed.detail == "The request's body is not as it must be."
    assert fields(failed) == expected


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/merge-patch+json; charset=UTF-8", 'a/b+JSON;charset="utf-8"']
)
async def test_what_is_json(media_type: str):
    assert await run(build({"body": {"schema": CAMERA}}), an_exchange(headers={"Content-Type": media_type}, body=GOOD)) is None


@pytest.mark.parametrize(
    ("headers", "detail", "hint"),
    [
        ({"Content-Type": "text/plain"}, "This Content-Type is not supported.", b"Accept"),
        ({"Content-Type": "application/xml"}, "This Content-Type is not supported.", b"Accept"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, "This Content-Type is not supported.", b"Accept"),
        ({}, "The Content-Type is missing.", b"Accept"),
        ({"Content-Type": "application/json; charset=latin-1"}, "This charset is not supported.", None),
        ({**JSON, "Content-Encoding": "gzip"}, "This Content-Encoding is not supported.", b"Accept-Encoding"),
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
    assert await run(build({"body": {"schema": CAMERA}}), an_exchange(headers=headers, body=GOOD)) is None


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
        (b"[" * 2000 + b"]" * 2000, "The body is not JSON: line 1, column 1026. It nests too deeply."),
    ],
)
async def test_malformed_json(body: bytes, detail: str):
    failed = await refused({"body": {"schema": {}}}, headers=JSON, body=body)
    assert (failed.failure, failed.detail) == (Failure.MALFORMED, detail)
    assert failed.why


async def test_deep_but_allowed_nesting_is_judged():
    schema = {"$ref": "#/$defs/list", "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}}
    deep = b"[" * 1000 + b"]" * 1000
    assert await run(build({"body": {"schema": schema}}), an_exchange(headers=JSON, body=deep)) is None
    failed = await refused({"body": {"schema": schema}}, headers=JSON, body=b"[" * 500 + b"1" + b"]" * 500)
    (field,) = fields(failed)
    assert len(field) == 100
    assert field.endswith("...")


async def test_of_a_key_that_is_there_twice_the_last_counts():
    hooks = build({"body": {"schema": {"properties": {"a": {"const": 2}}}}})
    assert await run(hooks, an_exchange(headers=JSON, body=b'{"a": 1, "a": 2}')) is None
    assert await run(hooks, an_exchange(headers=JSON, body=b'{"a": 2, "a": 1}')) is not None


@pytest.mark.parametrize("body", [None, b"", Body(b"", None)])
async def test_a_missing_body_is_a_missing_field(body: Any):
    failed = await refused({"body": {"schema": CAMERA}}, headers=JSON, body=body)
    assert failed.failure is Failure.MISSING_FIELD
    assert fields(failed) == {"": ("VAL_002", "a body is required")}


async def test_methods_without_a_described_body():
    hooks = build({"body": {"schema": CAMERA}, "max_body": 5})
    assert await run(hooks, an_exchange("GET")) is None
    body = Body(b"x", 1)
    assert await run(hooks, an_exchange("DELETE", body=body)) is None
    assert (body.reads, body.limit) == (0, 5)
    assert (await run(hooks, an_exchange("DELETE", body=b"x" * 6))).failure is Failure.BODY_TOO_LARGE  # type: ignore[union-attr]
    only = build({"body": {"schema": CAMERA}, "methods": ["DELETE"]})
    assert await run(only, an_exchange("POST")) is None
    assert await run(only, an_exchange("DELETE")) is not None


async def test_a_body_that_grows_too_large():
    with pytest.raises(Failed) as caught:
        await build({"body": {"schema": {}}, "max_body": 5}).request(an_exchange(headers=JSON, body=Body(b"x" * 6)))  # type: ignore[misc]
    assert caught.value.failure is Failure.BODY_TOO_LARGE


async def test_no_more_than_a_hundred_entries_and_nothing_long_is_echoed():
    body = json.dumps({f"{number}-{'x' * 500}": 1 for number in range(500)}).encode()
    failed = await refused({"body": {"schema": {"additionalProperties": False}}}, headers=JSON, body=body)
    assert failed.errors is not None
    assert len(failed.errors) == MOST
    assert max(len(one["field"]) for one in failed.errors) == 100
    failed = await refused(
        {"body": {"schema": {"properties": {"a": {"maxLength": 3}}}}}, headers=JSON, body=b'{"a": "secret value"}'
    )
    assert "secret" not in json.dumps(failed.errors) + failed.detail


# What is wrong, in words.


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
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "has a property that may not be called so"),
        ({"prefixItems": [{}], "items": False}, [1, 2], None),
        ({"unevaluatedItems": False}, [1], "has items that are not allowed"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "must be a string or null"),
        ({"anyOf": [{"type": "integer", "maximum": 5}, {"type": "null"}]}, 9, "must be at most 5"),
        ({"anyOf": [{"minimum": 5}, {"multipleOf": 2}]}, 3, "matches none of the allowed forms"),
        ({"oneOf": [{"type": "string", "minLength": 2}, {"type": "array"}]}, "a", "must have at least 2 characters"),
        ({"oneOf": [{}, {}]}, 1, "matches more than one of the allowed forms"),
        ({"oneOf": [{}, {"minimum": 5}, {}]}, 1, "matches more than one of the allowed forms"),
        ({"dependentRequired": {"x": ["y"]}}, {"x": 1}, "is required"),
        ({"contentEncoding": "base64", "$schema": "http://json-schema.org/draft-07/schema#"}, "%", "is not valid"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{}], "additionalItems": False},
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
    schema = {"properties": {"at": {"anyOf": [{"type": "null"}, {"anyOf": [point, {"type": "string"}]}]}}}
    assert JsonSchema(schema, "it").errors({"at": {}}) == [{"field": "at.x", "code": "VAL_002", "message": "is required"}]


def test_unevaluated_properties_are_named():
    found = JsonSchema({"properties": {"a": {}}, "unevaluatedProperties": False}, "it").errors({"a": 1, "b": 2, "c": 3})
    assert [one["field"] for one in found] == ["b", "c"]


def test_properties_where_none_is_declared_are_named():
    schema = {"properties": {"a": {"type": "array", "items": {"additionalProperties": False}}}}
    found = JsonSchema(schema, "it").errors({"a": [{}, {"b": 1, "c": 2}]})
    assert [(one["field"], one["message"]) for one in found] == [("a.1.b", "is not allowed"), ("a.1.c", "is not allowed")]


def test_of_several_faults_of_a_field_the_first_is_told():
    found = JsonSchema({"properties": {"a": {"minLength": 5, "pattern": "^x"}}}, "it").errors({"a": "b"})
    assert len(found) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "location", "count", "items", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(json_values)
@settings(max_examples=150, deadline=None)
def test_whatever_is_wrong_has_an_entry(value: Any):
    """Valid and without entries are the same thing, and every entry is about a place in the value or just below it."""
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


# Parameters.

QUERY = {
    "properties": {
        "limit": {"type": "integer", "minimum": 1, "maximum": 100},
        "ratio": {"type": "number"},
        "active": {"type": "boolean"},
        "tag": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        "sort": {"enum": ["asc", "desc"]},
        "id": {"type": ["integer", "string"]},
    },
    "required": ["limit"],
    "additionalProperties": False,
}


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
        ("limit=1&limit=2", {"limit": "must be an integer"}),
        ("limit=99999999999999999999999999", {"limit": "must be an integer"}),
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
    failed = await run(build({"query": {"schema": QUERY}}), an_exchange("GET", f"/things?{query}"))
    if not wrong:
        assert failed is None
        return
    assert failed is not None
    assert {field: message for field, (_, message) in fields(failed).items()} == wrong
    assert failed.failure is (
        Failure.MISSING_FIELD if "limit" in wrong and "required" in wrong["limit"] else Failure.INVALID_FIELD
    )


@pytest.mark.parametrize("query", ["a=%FF", "&".join("a" * 10_002)])
async def test_a_query_that_cannot_be_read(query: str):
    failed = await refused({"query": {"schema": {}}}, "GET", f"/things?{query}")
    assert failed.failure is Failure.MALFORMED


async def test_bytes_that_are_no_utf8_are_malformed():
    exchange = an_exchange("GET", "/things?a=\udcff")
    failed = await run(build({"query": {"schema": {"properties": {"a": {"pattern": "^a"}}}}}), exchange)
    assert failed is not None
    assert (failed.failure, failed.detail) == (Failure.MALFORMED, "The query is not UTF-8.")
    failed = await run(build({"query": {"marshmallow": MARSHMALLOW}}), an_exchange("GET", "/things?name=a&\udcff=1&ä=1"))
    assert failed is not None
    assert set(fields(failed)) == {"?", "ä"}


async def test_path_parameters():
    hooks = build({"path": {"schema": {"properties": {"id": {"type": "integer"}, "day": {"format": "date"}}}}})
    assert await run(hooks, an_exchange("GET", params={"id": "5", "day": "2026-01-01"})) is None
    failed = await run(hooks, an_exchange("GET", params={"id": "five", "day": "today"}))
    assert failed is not None
    assert set(fields(failed)) == {"id", "day"}
    assert failed.why == "path: 'id' must be an integer"


async def test_parameters_are_judged_before_the_body_is_read():
    body = Body(GOOD, len(GOOD))
    table = {"body": {"schema": CAMERA}, "query": {"schema": QUERY}}
    failed = await refused(table, headers=JSON, body=body)
    assert set(fields(failed)) == {"limit"}
    assert body.reads == 0
    assert await run(build(table), an_exchange("POST", "/things?limit=1", JSON, GOOD)) is None


async def test_size_is_judged_before_parameters():
    failed = await refused({"query": {"schema": QUERY}, "max_body": 1}, body=b"xx")
    assert failed.failure is Failure.BODY_TOO_LARGE


@pytest.mark.parametrize(
    ("schema", "text", "expected"),
    [
        ({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}, "a=1", {"a": 1}),
        ({"$ref": "#/$defs/q", "$defs": {"q": {"properties": {"a": {"type": "number"}}}}}, "a=1.5", {"a": 1.5}),
        (
            {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "boolean"}}}]},
            "a=1&b=true",
            {"a": 1, "b": True},
        ),
        ({"if": {}, "then": {"properties": {"a": {"type": "integer"}}}}, "a=1", {"a": 1}),
        ({"properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}, "a=1", {"a": 1}),
        ({"properties": {"a": {"enum": [1, 2]}}}, "a=1", {"a": 1}),
        ({"properties": {"a": {"const": True}}}, "a=true", {"a": True}),
        ({"properties": {"a": {"enum": ["1"]}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"enum": [None, {}]}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"type": "array"}}}, "a=1", {"a": ["1"]}),
        (
            {"properties": {"a": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]}}},
            "a=1",
            {"a": [1]},
        ),
        ({"properties": {"a": {"$ref": "#"}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"$ref": "other.json"}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"$ref": "#/oneOf/1"}}, "oneOf": [{}, {"type": "integer"}]}, "a=1", {"a": 1}),
        ({"properties": {"a": {"$ref": "#/$defs/x~1y%20z"}}, "$defs": {"x/y z": {"type": "integer"}}}, "a=1", {"a": 1}),
        ({"properties": {"a": {"$ref": "#/nowhere/5/x"}}}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"$ref": "#/title/x"}}, "title": "t"}, "a=1", {"a": "1"}),
        ({"properties": {"a": {"type": "null"}}}, "a=", {"a": ""}),
        ({"properties": {"a": True}}, "a=1&a=2", {"a": ["1", "2"]}),
        (True, "a=1&b=", {"a": "1", "b": ""}),
    ],
)
def test_typing_by_schema(schema: Any, text: str, expected: dict[str, Any]):
    assert converter(schema)(parsed(text)) == expected


@given(
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(st.integers(0, 9), min_size=1),
    st.text(max_size=9),
)
@settings(max_examples=150)
def test_what_is_written_is_what_is_read(whole: int, number: float, flag: bool, several: list[int], words: str):
    declared = {"w": "integer", "n": "number", "f": "boolean", "t": "string"}
    schema = {
        "properties": {name: {"type": kind} for name, kind in declared.items()}
        | {"s": {"type": "array", "items": {"type": "integer"}}}
    }
    query = urlencode({"w": whole, "n": f"{number:.6e}", "f": str(flag).lower(), "s": several, "t": words}, doseq=True)
    found = converter(schema)(parsed(query))
    expected = float(f"{number:.6e}")
    assert found["w"] == whole
    assert found["n"] == (expected if abs(number) < 1e100 and (number == 0 or abs(number) > 1e-99) else found["n"])
    assert (found["f"], found["s"], found["t"]) == (flag, several, words)


# Forms.


async def test_a_form_is_judged_like_a_body():
    hooks = build({"body": {"schema": CAMERA}})
    assert await run(hooks, an_exchange(headers=FORM, body=b"name=gate&location=n%20w&count=3")) is None
    failed = await run(hooks, an_exchange(headers=FORM, body=b"name=gate&count=x"))
    assert failed is not None
    assert fields(failed) == {"location": ("VAL_002", "is required"), "count": ("VAL_003", "must be an integer")}


@pytest.mark.parametrize("body", [b"name=\xff", b"name=%FF", b"&".join([b"a"] * 10_001)])
async def test_a_form_that_cannot_be_read(body: bytes):
    failed = await refused({"body": {"schema": CAMERA}}, headers=FORM, body=body)
    assert (failed.failure, failed.detail) == (Failure.MALFORMED, "The body is not a form in UTF-8.")


# marshmallow.


class ItemSchema(marshmallow.Schema):
    name = marshmallow.fields.String(required=True)


class ThingSchema(marshmallow.Schema):
    name = marshmallow.fields.String(required=True, validate=marshmallow.validate.Length(max=5))
    limit = marshmallow.fields.Integer(data_key="max")
    items = marshmallow.fields.List(marshmallow.fields.Nested(ItemSchema))
    tags = marshmallow.fields.List(marshmallow.fields.Integer())
    prices = marshmallow.fields.Dict(
        keys=marshmallow.fields.String(validate=marshmallow.validate.Length(max=2)), values=marshmallow.fields.Integer()
    )
    by = marshmallow.fields.Dict(values=marshmallow.fields.Nested(ItemSchema))
    many = marshmallow.fields.Nested(ItemSchema, many=True)
    one = marshmallow.fields.Nested(ItemSchema)
    odd = marshmallow.fields.Raw()

    @marshmallow.validates("odd")
    def _odd(self, value: Any, data_key: str) -> None:
        raise marshmallow.ValidationError([{"deep": "is odd"}])

    @marshmallow.validates_schema
    def whole(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("limit") == 13:
            raise marshmallow.ValidationError("must not be unlucky " + "x" * 300)


class Demanding(marshmallow.Schema):
    def __init__(self, needed: str) -> None:
        super().__init__()


MARSHMALLOW = f"{__name__}:ThingSchema"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "x", "max": 5, "items": [{"name": "a"}], "prices": {"a": 1}}, {}),
        ({}, {"name": ("VAL_002", "Missing data for required field.")}),
        ({"name": "too long"}, {"name": ("VAL_003", "Longer than maximum length 5.")}),
        ({"name": "x", "limit": 5}, {"limit": ("VAL_003", "Unknown field.")}),
        ({"name": "x", "items": [{"name": "a"}, {}]}, {"items.1.name": ("VAL_002", "Missing data for required field.")}),
        ({"name": "x", "prices": {"a": "b"}}, {"prices.a": ("VAL_003", "Not a valid integer.")}),
        ({"name": "x", "prices": {"abc": 1}}, {"prices.abc": ("VAL_003", "Longer than maximum length 2.")}),
        ({"name": "x", "prices": 5}, {"prices": ("VAL_003", "Not a valid mapping type.")}),
        (
            {"name": "x", "by": {"a": {}, "b": {"name": 5}}},
            {"by.a.name": ("VAL_002", "Missing data for required field."), "by.b.name": ("VAL_003", "Not a valid string.")},
        ),
        ({"name": "x", "many": [{"name": "a"}, {}]}, {"many.1.name": ("VAL_002", "Missing data for required field.")}),
        (
            {"name": "x", "one": {"value": {}}},
            {"one.name": ("VAL_002", "Missing data for required field."), "one.value": ("VAL_003", "Unknown field.")},
        ),
        ({"name": "x", "odd": 1}, {"odd.deep": ("VAL_002", "is odd")}),
        ({"name": "x", "max": 13}, {"": ("VAL_003", "must not be unlucky " + "x" * 180)}),
        ([], {"": ("VAL_003", "Invalid input type.")}),
    ],
)
async def test_a_marshmallow_class(body: Any, expected: dict[str, tuple[str, str]]):
    failed = await run(build({"body": {"marshmallow": MARSHMALLOW}}), an_exchange(headers=JSON, body=json.dumps(body).encode()))
    if not expected:
        assert failed is None
        return
    assert failed is not None
    assert fields(failed) == expected


async def test_marshmallow_types_parameters_itself():
    hooks = build({"query": {"marshmallow": MARSHMALLOW}})
    assert await run(hooks, an_exchange("GET", "/things?name=x&max=5&tags=1")) is None
    assert await run(hooks, an_exchange("GET", "/things?name=x&tags=1&tags=2")) is None
    failed = await run(hooks, an_exchange("GET", "/things?name=x&name=y&tags=a"))
    assert failed is not None
    assert set(fields(failed)) == {"name", "tags.0"}


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("no.such.module:Thing", "cannot load no.such.module:Thing: ModuleNotFoundError"),
        (f"{__name__}:Nothing", "is not a marshmallow Schema"),
        (f"{__name__}:Body", "is not a marshmallow Schema"),
        (f"{__name__}:run", "is not a marshmallow Schema"),
        (f"{__name__}:Demanding", "cannot load"),
    ],
)
def test_what_is_no_marshmallow_class(named: str, says: str):
    with pytest.raises(ConfigProblem) as caught:
        build({"path": {"marshmallow": named}})
    assert caught.value.at == ("path", "marshmallow")
    assert says in caught.value.message


# Explaining.


async def explained(table: dict[str, Any], exchange: Exchange) -> tuple[list[Decision], Failed | None]:
    exchange.decisions = []
    return exchange.decisions, await run(build(table), exchange)


async def test_explaining_reads_no_body():
    body = Body(b"not json", 8)
    table = {"body": {"schema": CAMERA}, "query": {"schema": QUERY}, "path": {"schema": {}}, "max_body": 100}
    decisions, failed = await explained(table, an_exchange("POST", "/things?limit=1", JSON, body))
    assert failed is None
    assert body.reads == 0
    name = "the schema in the configuration"
    why = f"path fits {name}; query fits {name}; body must fit {name}; at most 100 bytes of body"
    assert decisions == [Decision("validation", "allowed", why)]


async def test_explaining_without_a_body_refuses_none():
    decisions, failed = await explained({"body": {"schema": CAMERA}}, an_exchange("POST"))
    assert failed is None
    assert [one.outcome for one in decisions] == ["allowed"]
    decisions, failed = await explained({"body": {"schema": CAMERA}}, an_exchange("GET"))
    assert decisions == [Decision("validation", "allowed", "at most 10000000 bytes of body")]


async def test_explaining_bounds_and_parameters():
    decisions, failed = await explained({}, an_exchange("GET"))
    assert failed is None
    assert decisions == [Decision("validation", "allowed", "at most 10000000 bytes of body")]
    decisions, failed = await explained({"max_body": 1}, an_exchange(body=b"xx"))
    assert failed is not None
    assert decisions == [Decision("validation", "refused", "2 bytes")]
    decisions, failed = await explained({"query": {"schema": QUERY}}, an_exchange("GET"))
    assert failed is not None
    assert decisions == [Decision("validation", "refused", "query: 'limit' is required")]
    decisions, failed = await explained({"query": {"schema": QUERY}}, an_exchange("GET", "/things?a=%FF"))
    assert failed is not None
    assert decisions == [Decision("validation", "refused", "The query is not made of parameters in UTF-8.")]
