"""Schemas of OpenAPI 3.0 as JSON Schema 2020-12 (and so OpenAPI 3.1) says the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS_OF_SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems")
SCHEMAS = (
    "if", "then", "else", "items", "additionalProperties", "unevaluatedProperties",
    "unevaluatedItems", "not", "contains", "propertyNames",
)  # fmt: skip
_DATA = frozenset(("example", "examples", "default", "enum", "const", "mapping"))
"""Keys below which nothing is a schema, whatever it looks like."""


def modern_document(tree: Any) -> Any:
    """A document of OpenAPI 3.0 as one of 3.1."""
    made = _walked(tree)
    if isinstance(made, dict):
        made["openapi"] = "3.1.0"
    return made


def _walked(tree: Any, by_name: bool = False) -> Any:
    """Convert the schemas in a part of a document. by_name: its keys are names, not keywords."""
    if isinstance(tree, list):
        return [_walked(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    made: dict[Any, Any] = {}
    for key, value in tree.items():
        if by_name:
            made[key] = _walked(value)
        elif key in _DATA:
            made[key] = value
        elif key == "schema":
            made[key] = modern_schema(value)
        elif key == "schemas" and isinstance(value, dict):
            made[key] = {name: modern_schema(one) for name, one in value.items()}
        else:
            names = ("paths", "responses", "headers", "parameters", "requestBodies", "callbacks")
            made[key] = _walked(value, key in names and isinstance(value, dict))
    return made


def modern_schema(schema: Any) -> Any:
    """A schema of OpenAPI 3.0: bounds that exclude, `nullable`, and nothing beside `$ref`."""
    return with_nulls(_without_old_words(schema))


def _without_old_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_old_words(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    if isinstance(schema.get("$ref"), str):
        return {"$ref": schema["$ref"]}
    made = dict(schema)
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(made.get(exclusive), bool):
            excludes = made.pop(exclusive)
            if excludes and bound in made:
                made[exclusive] = made.pop(bound)
    return _below(made, _without_old_words)


def with_nulls(schema: Any) -> Any:
    """The schema with `nullable: true`, a word of OpenAPI 3.0's, as JSON Schema says it."""
    if isinstance(schema, list):
        return [with_nulls(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = _below(dict(schema), with_nulls)
    if made.get("nullable") is not True:
        return made
    del made["nullable"]
    if "type" in made:
        types = made["type"]
        made["type"] = [*([types] if isinstance(types, str) else types), "null"]
        if isinstance(made.get("enum"), list) and None not in made["enum"]:
            made["enum"] = [*made["enum"], None]
        return made
    return {"anyOf": [made, {"type": "null"}]}


def _below(made: dict[str, Any], change: Any) -> dict[str, Any]:
    """Change the schemas right below one."""
    for word in SCHEMAS_BY_NAME:
        if isinstance(made.get(word), Mapping):
            made[word] = {name: change(below) for name, below in made[word].items()}
    for word in (*LISTS_OF_SCHEMAS, *SCHEMAS):
        if word in made:
            made[word] = change(made[word])
    return made
