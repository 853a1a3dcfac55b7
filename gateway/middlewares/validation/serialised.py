"""Parameters of OpenAPI as values: `style` and `explode` (OpenAPI 3.1.1 section 4.8.12), and JSON.

A reader is made of a parameter's description once. It is handed what the request has at the
parameter's place, and returns the value its schema judges; ABSENT where there is none. One that is
there several times and should not be is an array, so that it is refused: readers differ about which
one counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

import orjson

from gateway.config.openapi.document import Operation
from gateway.core.exchange import Exchange
from gateway.middlewares.validation.parameters import typed_scalar, types_of
from gateway.middlewares.validation.references import Documents, Place

ABSENT: Any = object()
Raw = dict[str, list[str]]
"""Parameters as they were sent, by name (decoded); of a query the values are still encoded."""
Reader = Callable[[Raw], Any]
Types = frozenset[str]

_STYLES = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
_DELIMITERS = {
    "form": (",",),
    "spaceDelimited": ("%20", "+", " "),
    "pipeDelimited": ("|", "%7C", "%7c"),
}


class NotJson(ValueError):
    """A parameter that should be JSON is not."""


def reader(
    parameter: Mapping[str, Any], location: str, place: Place, documents: Documents
) -> Reader:
    """Return what reads a parameter. place: its schema."""
    name = parameter["name"].lower() if location == "header" else parameter["name"]
    decode = unquote_plus if location == "query" else _same
    if "content" in parameter:
        return _json(name, decode)
    style = parameter.get("style", _STYLES[location])
    explode = parameter.get("explode", style == "form")
    shape = _Shape(place, documents)
    if style == "deepObject":
        return _deep(name, shape)
    if shape.properties is not None:
        if style == "form" and explode:
            return _members(shape, decode)
        return _object(name, style, explode, shape, decode)
    if shape.item is not None:
        return _array(name, style, explode, shape, decode)
    mark = _mark(style, name)
    types = shape.types

    def read(raw: Raw) -> Any:
        values = raw.get(name)
        if values is None:
            return ABSENT
        if len(values) > 1:
            return list(map(decode, values))
        return typed_scalar(types, decode(values[0].removeprefix(mark)))

    return read


def raw_query(query: str) -> Raw:
    """The parameters of a query, their values still encoded. Raises ValueError where one is not
    UTF-8."""
    found: Raw = {}
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            if "%" in part:
                unquote(value, errors="strict")
            found.setdefault(unquote_plus(name, errors="strict"), []).append(value)
    return found


def raw_headers(exchange: Exchange) -> Raw:
    """The header fields by lower-case name; several lines of one are one."""
    found: Raw = {}
    for name, value in exchange.headers.items():
        key = name.lower()
        found[key] = [f"{found[key][0]}, {value}" if key in found else value]
    return found


def raw_cookies(exchange: Exchange) -> Raw:
    """The cookies by name (RFC 6265 section 4.2.1)."""
    found: Raw = {}
    for line in exchange.headers.getall("Cookie", ()):
        for part in line.split(";"):
            name, equals, value = part.strip().partition("=")
            if equals:
                value = value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == '"' else value
                found.setdefault(name, []).append(value)
    return found


def raw_path(exchange: Exchange) -> Raw:
    """The variables of the path, decoded."""
    return {name: [value] for name, value in exchange.params.items()}


RAW: dict[str, Callable[[Exchange], Raw]] = {
    "path": raw_path,
    "query": lambda exchange: raw_query(exchange.query),
    "header": raw_headers,
    "cookie": raw_cookies,
}


def locations(operation: Operation) -> list[str]:
    """The places in which an operation has parameters, in the order they are judged."""
    named = {parameter["in"] for parameter, _ in operation.parameters}
    return [location for location in RAW if location in named]


class _Shape:
    """What a schema says about a value that comes as text.

    types: of the value itself. item: of an array's members, None where it is no array. properties:
    of an object, None likewise.
    """

    def __init__(self, place: Place, documents: Documents) -> None:
        self.types = types_of([place], documents)
        self.item: Types | None = None
        self.properties: dict[str, Types] | None = None
        items: list[Place] = []
        properties: dict[str, list[Place]] = {}
        for part, base in documents.speaking_of(place):
            if "items" in part:
                items.append((part["items"], base))
            for name, below in part.get("properties", {}).items():
                properties.setdefault(name, []).append((below, base))
        if "array" in self.types or (items and not self.types):
            self.item = types_of(items, documents)
        elif "object" in self.types or (properties and not self.types):
            self.properties = {
                name: types_of(below, documents) for name, below in properties.items()
            }

    def member(self, name: str, *values: str) -> Any:
        """A member of an object."""
        if len(values) > 1:
            return list(values)
        return typed_scalar((self.properties or {}).get(name, frozenset()), values[0])


def _same(text: str) -> str:
    return text


def _mark(style: str, name: str) -> str:
    """What stands before a value in a path."""
    return {"label": ".", "matrix": f";{name}="}.get(style, "")


def _json(name: str, decode: Callable[[str], str]) -> Reader:
    def read(raw: Raw) -> Any:
        values = raw.get(name)
        if values is None:
            return ABSENT
        try:
            (text,) = map(decode, values)
            return orjson.loads(text)
        except ValueError:
            raise NotJson(name) from None

    return read


def _array(
    name: str, style: str, explode: bool, shape: _Shape, decode: Callable[[str], str]
) -> Reader:
    types = shape.item or frozenset()
    repeats = explode and style in ("form", "spaceDelimited", "pipeDelimited")
    delimiters = _DELIMITERS.get(style, (",",))
    mark = _mark(style, name)
    if explode and mark:
        delimiters = (mark,)

    def read(raw: Raw) -> Any:
        values = raw.get(name)
        if values is None:
            return ABSENT
        if repeats:
            parts = values
        else:
            text = delimiters[0].join(values).removeprefix(mark)
            for delimiter in delimiters[1:]:
                text = text.replace(delimiter, delimiters[0])
            parts = text.split(delimiters[0]) if text else []
        if style == "simple":
            parts = [part.strip() for part in parts]
        return [typed_scalar(types, decode(part)) for part in parts]

    return read


def _object(
    name: str, style: str, explode: bool, shape: _Shape, decode: Callable[[str], str]
) -> Reader:
    """An object in one text: `k,v,k,v`, or `k=v,k=v` when exploded."""
    mark = ";" if style == "matrix" and explode else _mark(style, name)
    between = {"label": ".", "matrix": ";"}.get(style, ",") if explode else ","

    def read(raw: Raw) -> Any:
        values = raw.get(name)
        if values is None:
            return ABSENT
        if len(values) > 1:
            return list(map(decode, values))
        parts = values[0].removeprefix(mark).split(between)
        if explode:
            pairs = [(key, value) for key, _, value in (part.partition("=") for part in parts)]
        else:
            pairs = list(zip(parts[::2], parts[1::2], strict=False))
        return {
            decode(key.strip()): shape.member(decode(key.strip()), decode(value))
            for key, value in pairs
        }

    return read


def _members(shape: _Shape, decode: Callable[[str], str]) -> Reader:
    """An object whose properties are parameters themselves."""
    names = tuple(shape.properties or ())

    def read(raw: Raw) -> Any:
        found = {name: shape.member(name, *map(decode, raw[name])) for name in names if name in raw}
        return found or ABSENT

    return read


def _deep(name: str, shape: _Shape) -> Reader:
    start = name + "["

    def read(raw: Raw) -> Any:
        found = {
            key[len(start) : -1]: shape.member(key[len(start) : -1], *map(unquote_plus, values))
            for key, values in raw.items()
            if key.startswith(start) and key.endswith("]")
        }
        return found or ABSENT

    return read
