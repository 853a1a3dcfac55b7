"""Strings as the values they stand for: the parameters of queries, forms and paths know no types, their schemas do.

A parameter becomes an integer, number or boolean where its schema says so and it looks like one, and a list where the schema has
an array; anything else stays a string, for the schema to refuse. Types are found in `type`, `enum`, `const`, alternatives and
references within the schema itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote

Strings = dict[str, list[str]]
"""Parameters by name; one that is there several times has several values."""

Convert = Callable[[list[str]], Any]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,308})(?:\.[0-9]{1,308})?(?:[eE][+-]?[0-9]{1,2})?")
_DEEPEST = 16
_MOST_FIELDS = 10_000
_TYPE_OF = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def parsed(text: str) -> Strings:
    """A query or an urlencoded form. Raises ValueError where it is not UTF-8 or holds more than 10,000 parameters."""
    found: Strings = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS):
        found.setdefault(name, []).append(value)
    return found


def untyped(strings: Strings) -> dict[str, Any]:
    """A list for what is there several times, a string for what is there once."""
    return {name: values[0] if len(values) == 1 else values for name, values in strings.items()}


def converter(schema: Any) -> Callable[[Strings], dict[str, Any]]:
    """Types parameters as the JSON Schema of their object declares its properties."""
    properties: dict[str, Convert] = {}
    for part in _parts(schema, schema):
        for name, below in part.get("properties", {}).items():
            properties.setdefault(name, _convert(below, schema))

    def convert(strings: Strings) -> dict[str, Any]:
        return {name: properties.get(name, _as_it_is)(values) for name, values in strings.items()}

    return convert


def _parts(schema: Any, root: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The schema, and everything in it that speaks of the same value."""
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return
    yield schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        yield from _parts(at_pointer(reference, root), root, depth + 1)
    for word in ("allOf", "anyOf", "oneOf"):
        for branch in schema.get(word, ()):
            yield from _parts(branch, root, depth + 1)
    for word in ("if", "then", "else"):
        yield from _parts(schema.get(word), root, depth + 1)


def at_pointer(reference: str, root: Any) -> Any:
    """What a JSON Pointer within the schema points at; None for other references."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    found = root
    for step in reference[2:].split("/"):
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        elif isinstance(found, Mapping):
            found = found.get(step)
        else:
            return None
    return found


def _convert(schema: Any, root: Any) -> Convert:
    types: set[str] = set()
    items: Any = None
    for part in _parts(schema, root):
        declared = part.get("type", ())
        types.update([declared] if isinstance(declared, str) else declared)
        values = [*part.get("enum", ()), *([part["const"]] if "const" in part else ())]
        types.update(_TYPE_OF.get(type(value), "") for value in values)
        items = part.get("items", items)
    if "array" in types:
        return partial(_listed, _convert(items, root) if items is not None else _as_it_is)
    if types & {"integer", "number", "boolean"}:
        return partial(_typed, types)
    return _as_it_is


def _as_it_is(values: list[str]) -> Any:
    return values[0] if len(values) == 1 else values


def _listed(convert: Convert, values: list[str]) -> Any:
    return [convert([value]) for value in values]


def _typed(types: set[str], values: list[str]) -> Any:
    if len(values) != 1:
        return values
    value = values[0]
    if "boolean" in types and value in ("true", "false"):
        return value == "true"
    if ("integer" in types or "number" in types) and _INTEGER.fullmatch(value):
        return int(value)
    if "number" in types and _NUMBER.fullmatch(value):
        return float(value)
    return value
