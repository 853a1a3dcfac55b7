"""What is wrong with a field, in words for the client.

They speak of the schema, never of the value that was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from operator import getitem
from typing import Any

import orjson
from jsonschema_rs import ValidationError

from gateway.core.failures import Failure

MISSING = Failure.MISSING_FIELD.code
INVALID = Failure.INVALID_FIELD.code

MOST = 100
"""Entries at most in one answer."""

_LONGEST_FIELD = 100
_LONGEST_MESSAGE = 200

Entry = dict[str, str]

_TYPES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def entry(path: Sequence[str | int], code: str, message: str) -> Entry:
    """Return one entry of the answer's `errors`.

    The field is a dotted path ("items.0.name"), "" for the whole.
    """
    field = _sound(".".join(map(str, path)))
    if len(field) > _LONGEST_FIELD:
        field = field[: _LONGEST_FIELD - 3] + "..."
    return {"field": field, "code": code, "message": _sound(message)[:_LONGEST_MESSAGE]}


def _sound(text: str) -> str:
    """Names may be the client's own, with bytes in them that no JSON can carry."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def one_each(entries: Iterable[Entry]) -> list[Entry]:
    """The first entry for each field, at most MOST of them."""
    found: dict[str, Entry] = {}
    for one in entries:
        found.setdefault(one["field"], one)
        if len(found) >= MOST:
            break
    return list(found.values())


def entries_of(errors: Iterable[ValidationError], value: Any) -> Iterator[Entry]:
    """Yield the entries for JSON Schema errors in `value`.

    Those of alternatives as far as it is clear which one was meant.
    """
    for error in errors:
        kind: Any = error.kind
        name, path = kind.name, error.instance_path
        if name == "required":
            yield entry([*path, kind.property], MISSING, "is required")
        elif name in ("additionalProperties", "unevaluatedProperties"):
            for unexpected in kind.unexpected:
                yield entry([*path, unexpected], INVALID, "is not allowed")
        elif name == "falseSchema" and error.schema_path[-1:] == ["additionalProperties"]:
            # Where no property is declared at all, jsonschema-rs names none.
            for unexpected in reduce(getitem, path, value):
                yield entry([*path, unexpected], INVALID, "is not allowed")
        elif name in ("anyOf", "oneOf") and (context := kind.as_dict().get("context")):
            yield from _alternatives(path, context, value)
        else:
            yield entry(path, INVALID, _message(name, kind))


def _alternatives(
    path: list[str | int], branches: list[list[ValidationError]], value: Any
) -> Iterator[Entry]:
    """Yield the errors of the alternative that was meant.

    One of another type than the value's was not; if that leaves one, it was.
    """
    wrong_type = [
        [error for error in branch if error.kind.name == "type" and error.instance_path == path]
        for branch in branches
    ]
    meant = [branch for branch, wrong in zip(branches, wrong_type, strict=True) if not wrong]
    if not meant:
        kinds: list[Any] = [error.kind for wrong in wrong_type for error in wrong]
        types = dict.fromkeys(one for kind in kinds for one in kind.types)
        yield entry(path, INVALID, _must_be(types))
    elif len(meant) == 1 and meant[0]:
        yield from entries_of(meant[0], value)
    elif all(meant):
        yield entry(path, INVALID, "matches none of the allowed forms")
    else:
        yield entry(path, INVALID, "matches more than one of the allowed forms")


def _must_be(types: Iterable[str]) -> str:
    return "must be " + " or ".join(_TYPES[one] for one in sorted(types, key=list(_TYPES).index))


def _shown(value: Any) -> str:
    """A value of the schema's, if it is short."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        return ""
    return text if len(text) <= _LONGEST_MESSAGE // 2 else ""


def _of_options(kind: Any) -> str:
    shown = ", ".join(map(_shown, kind.options))
    return (
        f"must be one of {shown}"
        if len(shown) <= _LONGEST_MESSAGE // 2
        else "is not one of the allowed values"
    )


_MESSAGES: dict[str, Callable[[Any], str]] = {
    "type": lambda kind: _must_be(kind.types),
    "enum": _of_options,
    "const": lambda kind: f"must be {_shown(kind.expected_value) or 'another value'}",
    "minimum": lambda kind: f"must be at least {kind.limit}",
    "maximum": lambda kind: f"must be at most {kind.limit}",
    "exclusiveMinimum": lambda kind: f"must be more than {kind.limit}",
    "exclusiveMaximum": lambda kind: f"must be less than {kind.limit}",
    "multipleOf": lambda kind: f"must be a multiple of {kind.multiple_of}",
    "minLength": lambda kind: f"must have at least {kind.limit} characters",
    "maxLength": lambda kind: f"must have at most {kind.limit} characters",
    "minItems": lambda kind: f"must have at least {kind.limit} items",
    "maxItems": lambda kind: f"must have at most {kind.limit} items",
    "minProperties": lambda kind: f"must have at least {kind.limit} properties",
    "maxProperties": lambda kind: f"must have at most {kind.limit} properties",
    "uniqueItems": lambda kind: "must not hold an item twice",
    "pattern": lambda kind: "does not have the required form",
    "format": lambda kind: f"must be a valid {kind.format}",
    "contains": lambda kind: "does not hold what it must",
    "not": lambda kind: "is not allowed",
    "falseSchema": lambda kind: "is not allowed",
    "propertyNames": lambda kind: "has a property that may not be called so",
    "oneOf": lambda kind: "matches more than one of the allowed forms",
    "additionalItems": lambda kind: "has more items than are allowed",
    "unevaluatedItems": lambda kind: "has items that are not allowed",
}


def _message(name: str, kind: Any) -> str:
    made = _MESSAGES.get(name)
    return "is not valid" if made is None else made(kind)
