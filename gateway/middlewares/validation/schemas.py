"""Compiling schemas: JSON Schema with jsonschema-rs, or an operator's marshmallow class.

JSON Schema with jsonschema-rs, or the operator's own marshmallow class.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import jsonschema_rs
import marshmallow
import orjson
from marshmallow import fields

from gateway.config.openapi.modern import with_nulls
from gateway.core.hooks import ConfigProblem
from gateway.middlewares.validation.cleaning import Cleaner, Cleaning
from gateway.middlewares.validation.config import SchemaConfig
from gateway.middlewares.validation.messages import (
    INVALID,
    MISSING,
    Entry,
    entries_of,
    entry,
    one_each,
)
from gateway.middlewares.validation.parameters import Strings, converter, untyped
from gateway.middlewares.validation.references import Documents, at_pointer, retrieve

LISTED = 5_000
"""Values of a body times parts of its schema up to which all errors are listed: some milliseconds.
"""
PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000)
"""A value for which a pattern tries more is refused; that takes half a millisecond."""


NO_CLEANING = Cleaning()


class Schema(Protocol):
    """A compiled schema."""

    @property
    def name(self) -> str:
        """What operators know it by."""

    @property
    def portable(self) -> dict[str, Any] | None:
        """What the helper process needs to compile it too, None where it cannot."""

    @property
    def split(self) -> frozenset[str]:
        """Names of parameters whose values stand in one, with commas."""

    @property
    def cleans(self) -> bool:
        """Whether `cleaned` may change a value that is not from XML."""

    def explains_at_once(self, members: int) -> bool:
        """Return True if `errors` takes some milliseconds at most for so many values."""

    def is_valid(self, value: Any) -> bool:
        """Return True if the value is as it should be."""

    def errors(self, value: Any, members: int = 0) -> list[Entry]:
        """One entry per field that is missing or wrong; one in all where `members` are many."""

    def typed(self, strings: Strings) -> dict[str, Any]:
        """Parameters, which are strings, as the values this schema wants."""

    def cleaned(self, value: Any, from_xml: bool = False) -> Any:
        """The value as it is judged and goes on; the one that is given may have been changed.

        from_xml: it has texts alone, and no arrays of one.
        """


class JsonSchema:
    """A JSON Schema, 2020-12 unless it says otherwise; formats are checked."""

    def __init__(
        self,
        schema: Any,
        name: str,
        base: str | None = None,
        split: Collection[str] = (),
        cleaning: Cleaning = NO_CLEANING,
    ) -> None:
        schema = with_nulls(schema)
        self.name = name
        documents = Documents(schema, base or "")
        self.typed: Callable[[Strings], dict[str, Any]] = converter(documents, split)
        self.portable: dict[str, Any] | None = {
            "name": name, "rules": schema, "base": base,
            "split": sorted(split), "cleaning": cleaning,
        }  # fmt: skip
        self.split = frozenset(split)
        self.cleans = bool(cleaning)
        self._cleaner = Cleaner(documents, cleaning)
        self._xml_cleaner = Cleaner(documents, cleaning.for_xml())
        self._parts, self._branches = _measured(schema)
        self._endless = self._branches and _leads_back(schema)
        self._validator = jsonschema_rs.validator_for(
            schema,
            validate_formats=True,
            retriever=retrieve,
            base_uri=base,
            pattern_options=PATTERNS,
        )

    def cleaned(self, value: Any, from_xml: bool = False) -> Any:
        if from_xml:
            return self._xml_cleaner(value)
        return self._cleaner(value) if self.cleans else value

    def is_valid(self, value: Any) -> bool:
        return self._validator.is_valid(value)

    def explains_at_once(self, members: int) -> bool:
        return not self._endless and (not self._branches or members * self._parts <= LISTED)

    def errors(self, value: Any, members: int = 0) -> list[Entry]:
        validator = self._validator
        if validator.is_valid(value):
            return []
        if members * self._parts <= LISTED:
            return one_each(entries_of(validator.iter_errors(value), value))
        try:
            validator.validate(value)
        except jsonschema_rs.ValidationError as error:
            return one_each(entries_of([error], value))
        return []


BRANCHING = frozenset(
    ("anyOf", "oneOf", "allOf", "not", "if", "contains", "dependentSchemas", "propertyNames")
)


def _measured(schema: Any) -> tuple[int, bool]:
    """Return how many parts a schema has, and whether one error may hold others.

    Such an error can be as large as the body's members to the power of two.
    """
    parts, branches, pending = 0, False, [schema]
    while pending:
        part = pending.pop()
        parts += 1
        if isinstance(part, Mapping):
            branches = branches or not BRANCHING.isdisjoint(part)
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return parts, branches


def _leads_back(schema: Any) -> bool:
    """Return True for a schema that refers to itself, or to what is not in it.

    With branches its errors may be as many as these to the power of a body's depth. Whether a body
    is valid is found out in proportional time all the same, since jsonschema-rs remembers what it
    found.
    """
    return any(_returns(schema, reference) for reference in references_of(schema))


def references_of(schema: Any) -> list[str]:
    found: list[str] = []
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            words = ("$ref", "$dynamicRef", "$recursiveRef")
            found += [part[word] for word in words if isinstance(part.get(word), str)]
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return found


def _returns(schema: Any, reference: str) -> bool:
    """Return True unless the reference, followed as far as it goes, is known to end."""
    seen, pending = {reference}, [reference]
    while pending:
        found = at_pointer(pending.pop(), schema)
        if found is None:
            return True
        for another in references_of(found):
            if another == reference:
                return True
            if another not in seen:
                seen.add(another)
                pending.append(another)
    return False


class MarshmallowSchema:
    """A marshmallow class; messages are its own."""

    portable: dict[str, Any] | None = None
    split: frozenset[str] = frozenset()
    cleans = False

    def __init__(self, schema: marshmallow.Schema, name: str) -> None:
        self.name = name
        self._schema = schema
        known = schema.load_fields.items()
        self._lists = {
            found.data_key or name for name, found in known if isinstance(found, fields.List)
        }

    def typed(self, strings: Strings) -> dict[str, Any]:
        return {
            name: strings[name] if name in self._lists else value
            for name, value in untyped(strings).items()
        }

    def cleaned(self, value: Any, from_xml: bool = False) -> Any:
        return value

    def is_valid(self, value: Any) -> bool:
        return not self._schema.validate(value)

    def explains_at_once(self, members: int) -> bool:
        return True

    def errors(self, value: Any, members: int = 0) -> list[Entry]:
        return one_each(_flat(self._schema, self._schema.validate(value), value, ()))


def _flat(node: Any, messages: Any, value: Any, path: tuple[str | int, ...]) -> Iterator[Entry]:
    """marshmallow's nested messages as entries. What has none of the value below it was missing.

    node: the schema or field they are of, None where that is unknown; a Dict field's messages have
          a level of their own, for
    what is wrong with a key and with its value.
    """
    if isinstance(messages, Mapping):
        for key, below in messages.items():
            if key == "_schema":
                yield from _flat(node, below, value, path)
            elif isinstance(node, fields.Dict) and isinstance(below, Mapping):
                for part in below.values():
                    yield from _flat(node.value_field, part, _below(value, key), (*path, key))
            else:
                yield from _flat(_node_below(node, key), below, _below(value, key), (*path, key))
    else:
        for message in messages if isinstance(messages, list) else [messages]:
            if isinstance(message, Mapping):
                yield from _flat(node, message, value, path)
            else:
                yield entry(path, MISSING if value is _NOTHING else INVALID, str(message))


def _node_below(node: Any, key: str | int) -> Any:
    if isinstance(node, fields.Nested):
        if node.many and isinstance(key, int):
            return node.schema
        node = node.schema
    if isinstance(node, marshmallow.Schema):
        return next(
            (found for name, found in node.load_fields.items() if (found.data_key or name) == key),
            None,
        )
    return node.inner if isinstance(node, fields.List) else None


_NOTHING = object()


def _below(value: Any, key: str | int) -> Any:
    try:
        return value[key]
    except (LookupError, TypeError):
        return _NOTHING


def compiled(
    config: SchemaConfig,
    at: str,
    directory: Path,
    split: Collection[str] = (),
    cleaning: Cleaning = NO_CLEANING,
) -> Schema:
    """Return the schema that stands under the key `at`.

    `split` as in `converter`. Raises ConfigProblem.
    """
    if config.marshmallow:
        if cleaning:
            message = "defaults, coerce, unknown and sanitize need a JSON Schema"
            raise ConfigProblem(message, at=(at, "marshmallow"), hint="the class can do it")
        return _marshmallow(config.marshmallow, (at, "marshmallow"))
    if config.schema is not None:
        return _json_schema(
            config.schema,
            "the schema in the configuration",
            None,
            (at, "schema"),
            split,
            cleaning,
            nested=True,
        )
    path = directory / config.file
    try:
        text = path.read_bytes() if config.text is None else config.text
        schema = orjson.loads(text.removeprefix(BOM_UTF8) if isinstance(text, bytes) else text)
    except OSError as error:
        raise ConfigProblem(
            f"cannot read {str(path)!r}: {error.strerror}", at=(at, "file")
        ) from None
    except orjson.JSONDecodeError as error:
        message = f"{config.file}:{error.lineno}:{error.colno}: not JSON: {error.msg}"
        raise ConfigProblem(message, at=(at, "file")) from None
    return _json_schema(
        schema, config.file, path.absolute().as_uri(), (at, "file"), split, cleaning
    )


def _json_schema(
    schema: Any,
    name: str,
    base: str | None,
    at: tuple[str, ...],
    split: Collection[str],
    cleaning: Cleaning,
    *,
    nested: bool = False,
) -> JsonSchema:
    """Compile a JSON Schema. Raises ConfigProblem.

    nested: the schema's own keys stand in the configuration, so that its faults can be pointed at.
    """
    try:
        return JsonSchema(schema, name, base, split, cleaning)
    except jsonschema_rs.ValidationError as error:
        where = list(error.instance_path)
        place = "".join(f" at /{'/'.join(map(str, where))}" for _ in where[:1])
        raise ConfigProblem(
            f"{name} is not a JSON Schema{place}: {error.message.splitlines()[0]}",
            at=(*at, *where) if nested else at,
        ) from None
    except (TypeError, ValueError) as error:  # values that JSON does not have, a TOML date say
        raise ConfigProblem(f"{name} is not a JSON Schema: {error}", at=at) from None


def _marshmallow(named: str, at: tuple[str, str]) -> MarshmallowSchema:
    module_name, _, attribute = named.partition(":")
    try:
        found = getattr(import_module(module_name), attribute, None)
        if not isinstance(found, type) or not issubclass(found, marshmallow.Schema):
            raise ConfigProblem(f"{named} is not a marshmallow Schema", at=at)
        return MarshmallowSchema(found(), named)
    except ConfigProblem:
        raise
    except Exception as error:
        # An operator's module may fail in any way while it is imported.
        raise ConfigProblem(
            f"cannot load {named}: {type(error).__name__}: {error}", at=at
        ) from None


def is_missing(entries: Iterable[Entry]) -> bool:
    """Return True if all that is wrong is that something is not there."""
    return all(one["code"] == MISSING for one in entries)
