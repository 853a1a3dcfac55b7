"""Schemas: where they come from, what is wrong with them, and marshmallow classes in their
place."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import marshmallow
import pytest

from gateway.config.toml.sources import FileTable, Outside, Sources
from gateway.core.hooks import ConfigProblem, Context
from gateway.middlewares import validation
from gateway.middlewares.validation.schemas import JsonSchema
from tests.unit.middlewares.validation.requests import CAMERA, JSON, asks, build, fields, run


def test_false_switches_a_schema_off():
    assert validation.CONFIG().load({"body": False}).body is None


def test_a_schema_file_stands_beside_the_toml(tmp_path: Path):
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "camera.json").write_text(json.dumps(CAMERA))
    hooks = build({"body": {"file": "schemas/camera.json"}}, tmp_path)
    assert hooks.request is not None


async def test_a_schema_may_refer_to_other_files_and_to_itself(tmp_path: Path):
    (tmp_path / "common.json").write_text(
        json.dumps({"$defs": {"name": {"type": "string", "minLength": 3}}})
    )
    schema = {
        "properties": {"name": {"$ref": "common.json#/$defs/name"}, "count": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "integer"}},
    }
    (tmp_path / "thing.json").write_text(json.dumps(schema))
    hooks = build({"body": {"file": "thing.json"}}, tmp_path)
    failed = await run(hooks, asks(headers=JSON, body=b'{"name": "a", "count": "b"}'))
    assert failed is not None
    assert set(fields(failed)) == {"name", "count"}


async def test_what_the_configuration_read_is_what_counts(tmp_path: Path):
    """One compilation sees one state of a file, and its contents count for the configuration's
    hash."""
    path = tmp_path / "s.json"
    path.write_text('\n{"type": "object"}\n')
    sources = Sources({})
    config = validation.CONFIG().load({"body": FileTable({"file": "s.json"}, tmp_path, sources)})
    assert config.body == validation.SchemaConfig("s.json", text='{"type": "object"}')
    assert list(sources.files) == [path]
    path.write_text('{"type": "array"}')
    hooks = validation.build(config, Context(name="validation", directory=tmp_path))
    assert await run(hooks, asks(headers=JSON, body=b"{}")) is None


def test_strings_from_the_environment_are_strings_in_a_schema():
    config = validation.CONFIG().load(
        {"body": {"schema": {"const": Outside("secret", "${SECRET}")}}}
    )
    assert type(config.body.schema["const"]) is str


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        (None, ("body", "file"), "s.json': No such file or directory"),
        ("{", ("body", "file"), "s.json:1:2: not JSON"),
        ('{\n "type": nope}', ("body", "file"), "s.json:2:10: not JSON"),
        ('{"type": "nope"}', ("body", "file"), "s.json is not a JSON Schema at /type"),
        (
            '{"properties": {"a": {"minimum": "1"}}}',
            ("body", "file"),
            "s.json is not a JSON Schema at /properties/a/minimum",
        ),
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


class ItemSchema(marshmallow.Schema):
    name = marshmallow.fields.String(required=True)


class ThingSchema(marshmallow.Schema):
    name = marshmallow.fields.String(required=True, validate=marshmallow.validate.Length(max=5))
    limit = marshmallow.fields.Integer(data_key="max")
    items = marshmallow.fields.List(marshmallow.fields.Nested(ItemSchema))
    tags = marshmallow.fields.List(marshmallow.fields.Integer())
    prices = marshmallow.fields.Dict(
        keys=marshmallow.fields.String(validate=marshmallow.validate.Length(max=2)),
        values=marshmallow.fields.Integer(),
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
        (
            {"name": "x", "items": [{"name": "a"}, {}]},
            {"items.1.name": ("VAL_002", "Missing data for required field.")},
        ),
        ({"name": "x", "prices": {"a": "b"}}, {"prices.a": ("VAL_003", "Not a valid integer.")}),
        (
            {"name": "x", "prices": {"abc": 1}},
            {"prices.abc": ("VAL_003", "Longer than maximum length 2.")},
        ),
        ({"name": "x", "prices": 5}, {"prices": ("VAL_003", "Not a valid mapping type.")}),
        (
            {"name": "x", "by": {"a": {}, "b": {"name": 5}}},
            {
                "by.a.name": ("VAL_002", "Missing data for required field."),
                "by.b.name": ("VAL_003", "Not a valid string."),
            },
        ),
        (
            {"name": "x", "many": [{"name": "a"}, {}]},
            {"many.1.name": ("VAL_002", "Missing data for required field.")},
        ),
        (
            {"name": "x", "one": {"value": {}}},
            {
                "one.name": ("VAL_002", "Missing data for required field."),
                "one.value": ("VAL_003", "Unknown field."),
            },
        ),
        ({"name": "x", "odd": 1}, {"odd.deep": ("VAL_002", "is odd")}),
        ({"name": "x", "max": 13}, {"": ("VAL_003", "must not be unlucky " + "x" * 180)}),
        ([], {"": ("VAL_003", "Invalid input type.")}),
    ],
)
async def test_a_marshmallow_class(body: Any, expected: dict[str, tuple[str, str]]):
    failed = await run(
        build({"body": {"marshmallow": MARSHMALLOW}}),
        asks(headers=JSON, body=json.dumps(body).encode()),
    )
    if not expected:
        assert failed is None
        return
    assert failed is not None
    assert fields(failed) == expected


async def test_marshmallow_types_parameters_itself():
    hooks = build({"query": {"marshmallow": MARSHMALLOW}})
    assert await run(hooks, asks("GET", "/things?name=x&max=5&tags=1")) is None
    assert await run(hooks, asks("GET", "/things?name=x&tags=1&tags=2")) is None
    failed = await run(hooks, asks("GET", "/things?name=x&name=y&tags=a"))
    assert failed is not None
    assert set(fields(failed)) == {"name", "tags.0"}


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("no.such.module:Thing", "cannot load no.such.module:Thing: ModuleNotFoundError"),
        (f"{__name__}:Nothing", "is not a marshmallow Schema"),
        (f"{__name__}:Path", "is not a marshmallow Schema"),
        (f"{__name__}:run", "is not a marshmallow Schema"),
        (f"{__name__}:Demanding", "cannot load"),
    ],
)
def test_what_is_no_marshmallow_class(named: str, says: str):
    with pytest.raises(ConfigProblem) as caught:
        build({"path": {"marshmallow": named}})
    assert caught.value.at == ("path", "marshmallow")
    assert says in caught.value.message


NODE = {"$ref": "#/$defs/node"}


@pytest.mark.parametrize(
    ("schema", "members", "at_once"),
    [
        ({"items": {"type": "integer"}}, 10**6, True),
        (
            {
                "anyOf": [{"type": "string"}, {"$ref": "#/$defs/a"}],
                "$defs": {"a": {"type": "integer"}},
            },
            100,
            True,
        ),
        (
            {
                "anyOf": [{"type": "string"}, {"$ref": "#/$defs/a"}],
                "$defs": {"a": {"type": "integer"}},
            },
            10_000,
            False,
        ),
        ({**NODE, "$defs": {"node": {"items": NODE}}}, 10**6, True),
        ({**NODE, "$defs": {"node": {"anyOf": [{"items": NODE}, {"const": 1}]}}}, 1, False),
        ({"anyOf": [{"items": {"$ref": "#"}}, {"type": "string"}]}, 1, False),
        ({"oneOf": [{"type": "string"}, {"enum": list(range(10_000))}]}, 1, False),
    ],
)
def test_which_errors_are_listed_at_once(schema: Any, members: int, at_once: bool):
    assert JsonSchema(schema, "").explains_at_once(members) is at_once
