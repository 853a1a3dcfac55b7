"""Parameters, which are strings, as the values their schemas want.

A parameter becomes an integer, number or boolean where its schema says so and it looks like one,
and a list where the schema has an array; anything else stays a string, for the schema to refuse.
Types are looked for in everything that speaks of the same value: alternatives, conditions,
references into this and other documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from gateway.middlewares.validation.references import Documents, Place

Strings = dict[str, list[str]]
"""Parameters by name; one that is there several times has several values."""

Convert = Callable[[list[str]], Any]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,308})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,308})(?:\.[0-9]{1,308})?(?:[eE][+-]?[0-9]{1,2})?")
_MOST_FIELDS = 10_000
_TYPE_OF = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def parsed(text: str) -> Strings:
    """A query or an urlencoded form.

    Raises ValueError where it is not UTF-8 or holds more than 10,000 parameters.
    """
    found: Strings = {}
    for name, value in parse_qsl(
        text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
    ):
        found.setdefault(name, []).append(value)
    return found


def untyped(strings: Strings) -> dict[str, Any]:
    """A list for what is there several times, a string for what is there once."""
    return {name: values[0] if len(values) == 1 else values for name, values in strings.items()}


def converter(
    documents: Documents, split: Collection[str] = (), root: Place | None = None
) -> Callable[[Strings], dict[str, Any]]:
    """Types parameters as the JSON Schema of their object declares its properties.

    split: names of those whose values are lists with commas. root: the schema, where it is not the
    whole document.
    """
    properties: dict[str, list[Place]] = {}
    patterns: list[tuple[re.Pattern[str], Place]] = []
    others: list[Place] = []
    for part, base in documents.speaking_of(root or (documents.root, documents.base)):
        for name, below in part.get("properties", {}).items():
            properties.setdefault(name, []).append((below, base))
        for pattern, below in part.get("patternProperties", {}).items():
            try:
                patterns.append((re.compile(pattern), (below, base)))
            except re.error:
                continue  # The schema's own dialect of patterns; such a parameter stays a string.
        others += [
            (part[word], base)
            for word in ("additionalProperties", "unevaluatedProperties")
            if word in part
        ]
    known: dict[str, Convert] = {
        name: _convert(places, documents) for name, places in properties.items()
    }
    other = _convert(others, documents)
    by_pattern = [(pattern, _convert([place], documents)) for pattern, place in patterns]

    def convert(strings: Strings) -> dict[str, Any]:
        made = {}
        for name, values in strings.items():
            if name in split:
                values = [part for value in values for part in value.split(",")]
            chosen = known.get(name)
            if chosen is None:
                chosen = next((one for pattern, one in by_pattern if pattern.search(name)), other)
            made[name] = chosen(values)
        return made

    return convert


@dataclass(slots=True)
class _Wanted:
    """What schemas say about one value.

    `first`: of the members of an array, by place; `items`: of the others.
    """

    types: set[str] = field(default_factory=set)
    first: dict[int, list[Place]] = field(default_factory=dict)
    items: list[Place] = field(default_factory=list)


def _wanted(places: list[Place], documents: Documents) -> _Wanted:
    found = _Wanted()
    for place in places:
        for part, base in documents.speaking_of(place):
            declared = part.get("type", ())
            found.types.update([declared] if isinstance(declared, str) else declared)
            values = [*part.get("enum", ()), *([part["const"]] if "const" in part else ())]
            found.types.update(_TYPE_OF.get(type(value), "") for value in values)
            for number, below in enumerate(part.get("prefixItems", ())):
                found.first.setdefault(number, []).append((below, base))
            found.items += [
                (part[word], base)
                for word in ("items", "contains")
                if isinstance(part.get(word), Mapping)
            ]
    return found


def types_of(places: list[Place], documents: Documents) -> frozenset[str]:
    """The types that schemas allow a value."""
    return frozenset(_wanted(places, documents).types)


def _convert(places: list[Place], documents: Documents, depth: int = 0) -> Convert:
    wanted = _wanted(places, documents)
    types = frozenset(wanted.types)
    if "array" not in types or depth > 1:
        return _scalar(types)
    scalar = _scalar(types - {"array"})
    first = {place: _convert(below, documents, depth + 1) for place, below in wanted.first.items()}
    items = _convert(wanted.items, documents, depth + 1)
    typed = bool(_wanted(wanted.items, documents).types - {"string"})

    def convert(values: list[str]) -> Any:
        listed = [first.get(place, items)([value]) for place, value in enumerate(values)]
        if len(values) == 1 and types > {"array"} and listed == values and typed:
            # It is none of the array's members: perhaps it is one of the others.
            return scalar(values)
        return listed

    return convert


def _scalar(types: frozenset[str]) -> Convert:
    if not types & {"integer", "number", "boolean"}:
        return _as_it_is
    return lambda values: _typed(types, values)


def _as_it_is(values: list[str]) -> Any:
    return values[0] if len(values) == 1 else values


def _typed(types: frozenset[str], values: list[str]) -> Any:
    return typed_scalar(types, values[0]) if len(values) == 1 else values


def typed_scalar(types: frozenset[str], value: str) -> Any:
    """A text as a boolean or number where one is wanted and it is spelt like one; else itself."""
    if "boolean" in types and value in ("true", "false"):
        return value == "true"
    if ("integer" in types or "number" in types) and _INTEGER.fullmatch(value):
        return int(value)
    if "number" in types and _NUMBER.fullmatch(value):
        return float(value)
    return value
