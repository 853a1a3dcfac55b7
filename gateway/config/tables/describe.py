"""JSON Schema (2020-12) of every TOML file, for editors, made from the tables that load them.

An editor must not mark what the gateway accepts, and may miss what it refuses: references, orders
and merges are for `gateway check`. Wherever a value is more than any string, a string with
`${NAME}` in it passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from inspect import cleandoc
from typing import Any

from marshmallow import RAISE, Schema, fields, validate

from gateway.config.check.settings import Kinds, SchemaFor
from gateway.config.tables.declare import settings
from gateway.config.tables.load import instance, known_keys
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.tables.schema import Boolean, Duration, Size, TableClass, Text
from gateway.config.tables.server import AUTO, MAX_WORKERS, GatewayConfig, WorkersField
from gateway.config.tables.upstream import UpstreamConfig

Json = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_INSTANCE = "[A-Za-z0-9_-]+"
_OWN_MODULE = "^[^:]+:[^:]+$"
_DEFINITIONS: Json = {
    "from_environment": {
        "type": "string",
        "pattern": r"\$\{",
        "description": "${NAME} or ${NAME:-default}",
    },
    "from_file": {
        "description": "The contents of a file, relative to this one.",
        "type": "object",
        "properties": {"file": {"type": "string"}},
        "required": ["file"],
        "additionalProperties": False,
    },
}
_FROM_ENVIRONMENT = {"$ref": "#/$defs/from_environment"}
_FROM_FILE = {"$ref": "#/$defs/from_file"}


def json_schemas(schema_for: SchemaFor, known_names: Sequence[str]) -> dict[str, Json]:
    """Return the schemas of gateway.toml ("gateway"), upstreams.toml ("upstreams") and
    pipelines/*.toml ("pipeline").

    Every middleware of `known_names` that can be loaded is in the last.
    """
    kinds = Kinds(schema_for, known_names)
    upstream = {"type": "object", "additionalProperties": table_schema(UpstreamConfig)}
    return {
        "gateway": _document("gateway.toml", table_schema(GatewayConfig)),
        "upstreams": _document(
            "upstreams.toml",
            {"type": "object", "properties": {"upstream": upstream}, "additionalProperties": False},
        ),
        "pipeline": _pipeline(
            {name: kinds.table(name) for name in known_names if kinds.knows(name)}
        ),
    }


def table_schema(table: TableClass, *, whole: bool = True) -> Json:
    """Return a table's schema. Without `whole`, keys may be missing: another table lies under this
    one."""
    return _table(instance(table), whole)


def _document(title: str, body: Json, definitions: Mapping[str, Json] | None = None) -> Json:
    return {
        "$schema": _DIALECT,
        "title": title,
        **body,
        "$defs": {**_DEFINITIONS, **(definitions or {})},
    }


def _pipeline(middlewares: Mapping[str, TableClass | None]) -> Json:
    """Describe a pipeline file. A middleware has three forms there: an instance, the pipeline's own
    table (with instances below) and a route's (laid over it)."""
    definitions: Json = {}
    for name, table in middlewares.items():
        whole: Json = {"type": "object"} if table is None else table_schema(table)
        part: Json = {"type": "object"} if table is None else table_schema(table, whole=False)
        of_instance, of_route = {"$ref": f"#/$defs/{name}"}, {"$ref": f"#/$defs/{name}.route"}
        definitions[name] = whole
        definitions[f"{name}.pipeline"] = {
            **part,
            "additionalProperties": table is None or of_instance,
        }
        definitions[f"{name}.route"] = {
            "description": "Laid over the pipeline's; false leaves it out.",
            "anyOf": [
                {"const": False},
                {**part, "additionalProperties": table is None or of_route},
            ],
        }
    names = list(middlewares)
    lists = dict.fromkeys(("request", "response", "error"), _list_of_hooks(names))
    pipeline, route = table_schema(PipelineConfig), table_schema(RouteConfig)
    pipeline["properties"] |= {
        **lists,
        "route": {"type": "array", "items": {"$ref": "#/$defs/route"}},
    }
    route["properties"] |= lists
    route["allOf"] = [
        {"oneOf": [{"required": [key]} for key in keys]}
        for keys in (
            ("path", "prefix", "paths", "prefixes"),
            ("upstream", "builtin", "redirect", "respond"),
        )
    ]
    for body, form, below in ((pipeline, ".pipeline", ""), (route, ".route", ".route")):
        body["properties"] |= {name: {"$ref": f"#/$defs/{name}{form}"} for name in names}
        body["patternProperties"] = {
            **{rf"^{name}\.{_INSTANCE}$": {"$ref": f"#/$defs/{name}{below}"} for name in names},
            _OWN_MODULE: {"type": ["object", "boolean"] if below else "object"},
        }
    return _document("pipelines/*.toml", pipeline, definitions | {"route": route})


def _list_of_hooks(names: Sequence[str]) -> Json:
    kinds = "|".join(name.replace(".", r"\.") for name in names)
    entry = {
        "anyOf": [{"enum": names}, {"pattern": rf"^({kinds})\.{_INSTANCE}$|{_OWN_MODULE}|\$\{{"}],
        "type": "string",
    }
    return {
        "type": ["array", "string"],
        "pattern": r"\$\{",
        "items": entry,
        "uniqueItems": True,
    }


def _table(schema: Schema, whole: bool) -> Json:
    makes = getattr(schema, "makes", None)
    defaults = _defaults(makes)
    docs = {name: one.doc for name, one in settings(makes).items()} if is_dataclass(makes) else {}
    properties = {}
    required = []
    for key, found in known_keys(schema).items():
        properties[key] = _field(found, whole)
        if (default := defaults.get(str(found.name))) is not None:
            properties[key]["default"] = default
        if doc := docs.get(str(found.name)):
            properties[key]["description"] = doc
        if found.required and whole:
            required.append(key)
    described: Json = {"type": "object", "properties": properties}
    if description := _description(makes):
        described["description"] = description
    if required:
        described["required"] = required
    if schema.unknown == RAISE:
        described["additionalProperties"] = False
    return described


def _field(found: fields.Field[Any], whole: bool) -> Json:
    """Describe a field. A field class that is unknown here may have a method `json_schema`; else
    any value passes."""
    if hasattr(found, "json_schema"):
        own: Json = found.json_schema()
        return own
    described = next((make(found, whole) for kind, make in _KINDS if isinstance(found, kind)), {})
    for validator in found.validators:
        described |= _validated(validator, described.get("type"))
    others = []
    any_text = described.get("type") == "string" and described.keys() <= {"type", "minLength"}
    if described.get("type") in ("boolean", "integer", "number", "string") and not any_text:
        others.append(_FROM_ENVIRONMENT)
    if isinstance(found, Text):
        others.append(_FROM_FILE)
    return {"anyOf": [described, *others]} if others else described


def _validated(validator: Callable[[Any], Any], kind: Any) -> Json:
    if isinstance(validator, validate.OneOf):
        return {"enum": list(validator.choices)}
    if isinstance(validator, validate.Range):
        least = "minimum" if validator.min_inclusive else "exclusiveMinimum"
        most = "maximum" if validator.max_inclusive else "exclusiveMaximum"
        return _given({least: validator.min, most: validator.max})
    if isinstance(validator, validate.Length):
        unit = "Items" if "array" in kind else "Properties" if kind == "object" else "Length"
        low, high = (
            (validator.min, validator.max)
            if validator.equal is None
            else (validator.equal, validator.equal)
        )
        return _given({f"min{unit}": low, f"max{unit}": high})
    return {}


def _given(keywords: Json) -> Json:
    return {key: value for key, value in keywords.items() if value is not None}


def _list(found: Any, whole: bool) -> Json:
    items = _field(found.inner, whole=True)  # arrays are replaced, never merged
    if isinstance(found.inner, fields.Nested | fields.Dict | fields.List):
        return {"type": "array", "items": items}
    return {"type": ["array", "string"], "pattern": r"\$\{", "items": items}


def _map(found: Any, whole: bool) -> Json:
    described: Json = {"type": "object"}
    if found.value_field is not None:
        described["additionalProperties"] = _field(found.value_field, whole)
    return described


def _nested(found: Any, whole: bool) -> Json:
    if found.many:
        return {"type": "array", "items": _table(found.schema, whole=True)}
    return _table(found.schema, whole)


def _duration(found: Any, whole: bool) -> Json:
    least = "minimum" if found.zero else "exclusiveMinimum"
    return {"type": ["string", "number"], "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$|\$\{", least: 0}


def _size(found: Any, whole: bool) -> Json:
    return {
        "type": ["string", "integer"],
        "pattern": r"^\d+(\.\d+)?(B|kB|KB|MB|GB|KiB|MiB|GiB)$|\$\{",
        "minimum": 0,
    }


def _text(found: Any, whole: bool) -> Json:
    return (
        {"type": "string"} if getattr(found, "empty", True) else {"type": "string", "minLength": 1}
    )


def _workers(found: Any, whole: bool) -> Json:
    number = {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}
    return {"anyOf": [number, {"const": AUTO}, _FROM_ENVIRONMENT]}


def _simple(kind: str) -> Callable[[Any, bool], Json]:
    return lambda found, whole: {"type": kind}


_KINDS: tuple[tuple[type[fields.Field[Any]], Callable[[Any, bool], Json]], ...] = (
    (fields.Nested, _nested),
    (fields.List, _list),
    (fields.Dict, _map),
    (WorkersField, _workers),
    (Duration, _duration),
    (Size, _size),
    (Boolean, _simple("boolean")),
    (fields.Boolean, _simple("boolean")),
    (fields.Integer, _simple("integer")),
    (fields.Number, _simple("number")),
    (fields.String, _text),
)


def _description(makes: Any) -> str:
    """Return the config's docstring, "" for the one that dataclass writes where there is none."""
    text = (getattr(makes, "__doc__", None) or "") if hasattr(makes, "__dataclass_fields__") else ""
    return "" if text.startswith(f"{makes.__name__}(") else cleandoc(text)


def _defaults(makes: Any) -> dict[str, Any]:
    """Return the defaults that an editor can show; an empty string stands for nothing."""
    found = {}
    for each in dataclass_fields(makes) if hasattr(makes, "__dataclass_fields__") else ():
        value = list(each.default) if isinstance(each.default, tuple) else each.default
        if value != "" and all(
            isinstance(item, bool | int | float | str)
            for item in (value if isinstance(value, list) else [value])
        ):
            found[each.name] = value
    return found
