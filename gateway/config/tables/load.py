"""Load one table through its schema, and report every fault with its path below the table.

marshmallow nests its messages like the data, with levels of its own for maps. The walk here follows
the schema, so that a key called "value" is told from the value of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from marshmallow import Schema, ValidationError, fields

from gateway.config import hints
from gateway.config.tables.schema import Secret, Table, TableClass, schema_of
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.read import Document
from gateway.config.toml.sources import Outside
from gateway.core.hooks import ConfigProblem


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault. A `missing` key has no place of its own; the caller may know a better one than the
    table's."""

    path: KeyPath
    message: str
    hint: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """`value`: the frozen config, None when there are faults. `valid`: then, the attributes that
    loaded."""

    value: Any = None
    valid: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def load(table: TableClass, data: Mapping[str, Any], at: KeyPath = ()) -> Loaded:
    """Load `data` as the config that `table` makes. at: where it stands, for hints."""
    schema = instance(table)
    try:
        return Loaded(schema.load(data))
    except ValidationError as error:
        loaded = error.valid_data if isinstance(error.valid_data, dict) else {}
        valid = dict(_valid(schema, loaded))
        return Loaded(
            None, valid, tuple(_below_table(at, _faults(schema, error.messages, data, at)))
        )
    except ConfigProblem as problem:
        return Loaded(None, {}, (Fault(problem.at, problem.message, problem.hint),))


def _valid(schema: Schema, loaded: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what loaded, without tables that failed half-way: those are no configs, but bare
    mappings. Lists and maps keep their good items."""
    for key, value in loaded.items():
        found = schema.fields.get(key)
        inner = found.inner if isinstance(found, fields.List) else found
        if isinstance(found, fields.Dict):
            inner = found.value_field
        tables = isinstance(inner, fields.Nested)
        if isinstance(value, list):
            yield key, tuple(one for one in value if not (tables and isinstance(one, dict)))
        elif tables and isinstance(found, fields.Dict):
            yield key, {name: one for name, one in value.items() if not isinstance(one, dict)}
        elif not (tables and isinstance(value, dict)):
            yield key, value


def load_at(table: TableClass, document: Document, path: KeyPath) -> Loaded:
    """Load the table that stands at `path`, and report every fault at its place."""
    data: Any = document.data
    for key in path:
        data = data[key]
    if not isinstance(data, dict):
        document.error(path, f"{dotted(path)}: must be a table")
        return Loaded(None, {}, (Fault((), "must be a table"),))
    loaded = load(table, data, path)
    for fault in loaded.faults:
        report(document, (*path, *fault.path), fault)
    return loaded


def report(document: Document, path: KeyPath, fault: Fault) -> None:
    """Report `fault` of the value at `path`."""
    document.error(path, f"{dotted(path)}: {fault.message}" if path else fault.message, fault.hint)


def instance(table: TableClass) -> Schema:
    """Return the schema object of a class declared with `table`, or of a Table."""
    return _instance(schema_of(table))


@lru_cache(maxsize=256)
def _instance(schema: type[Table]) -> Schema:
    """Return one object per schema: making one binds every field anew."""
    return schema()


def known_keys(schema: Schema) -> dict[str, fields.Field[Any]]:
    """Return the fields of a schema by the keys that TOML uses for them."""
    return {found.data_key or name: found for name, found in schema.load_fields.items()}


def dotted(path: KeyPath) -> str:
    """Return a path as TOML writes it, without indices: the place tells which item is meant."""
    keys = (key for key in path if isinstance(key, str))
    return ".".join(
        key if key and key.replace("-", "_").isidentifier() else f'"{key}"' for key in keys
    )


def _below_table(at: KeyPath, faults: Iterable[Fault]) -> Iterator[Fault]:
    """Take the table's own path off."""
    for fault in faults:
        yield replace(fault, path=fault.path[len(at) :])


def _faults(node: object, messages: Any, data: Any, path: KeyPath) -> Iterator[Fault]:
    """Yield the faults in `messages`, which are those of `node`: a schema, a field, or None if
    unknown."""
    many = isinstance(node, fields.Nested) and node.many
    if isinstance(node, fields.Nested):
        node = node.schema
    if not isinstance(messages, dict):
        yield from (_fault(node, str(message), data, path) for message in _listed(messages))
        return
    for key, below in messages.items():
        if key == "_schema":
            yield from _faults(None, below, data, path)
        elif many:
            yield from _faults(node, below, _below(data, key), (*path, key))
        elif isinstance(node, Schema):
            yield from _faults_of_key(node, key, below, data, path)
        elif isinstance(node, fields.Dict):
            yield from _faults(node.key_field, below.get("key", ()), key, (*path, key))
            yield from _faults(
                node.value_field, below.get("value", ()), _below(data, key), (*path, key)
            )
        else:
            inner = node.inner if isinstance(node, fields.List) else None
            yield from _faults(inner, below, _below(data, key), (*path, key))


def _faults_of_key(
    schema: Schema, key: Any, messages: Any, data: Any, path: KeyPath
) -> Iterator[Fault]:
    """Yield the faults of one key. Validators of a whole table may name an attribute instead of a
    key."""
    known = known_keys(schema)
    found = known.get(key) or schema.load_fields.get(key)
    if key not in known and messages == [schema.error_messages["unknown"]]:
        hint = hints.unknown_key(hints.table_of((*path, key)), str(key), known.keys() - data.keys())
        yield Fault((*path, key), "is not a known key", hint)
    elif found is not None:
        key = found.data_key or found.name
        yield from _faults(found, messages, _below(data, key), (*path, key))
    else:
        yield from _faults(None, messages, _below(data, key), (*path, key))


def _fault(node: object, message: str, value: Any, path: KeyPath) -> Fault:
    """Make a fault of one message, without a value that is a secret or came from outside."""
    missing = message == fields.Field.default_error_messages["required"]
    if missing:
        return Fault(path, "is missing", missing=True)
    hint = "" if isinstance(node, Secret) else hints.misshapen(node, value)
    if isinstance(value, str) and value and isinstance(node, Secret):
        message = message.replace(value, "***")
    elif isinstance(value, Outside) and value:
        message = message.replace(value, value.written)
    return Fault(path, _reworded(message), hint)


def _reworded(message: str) -> str:
    """Turn a sentence of marshmallow's into what follows a key and a colon."""
    return (message[:1].lower() + message[1:]).removesuffix(".")


def _listed(messages: Any) -> Iterable[Any]:
    return messages if isinstance(messages, list | tuple) else (messages,)


def _below(data: Any, key: Any) -> Any:
    try:
        return data[key]
    except (LookupError, TypeError):
        return None
