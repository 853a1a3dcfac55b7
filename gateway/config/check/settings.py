"""The middlewares of one pipeline file: listed names, their tables, and what routes override.

"rate_limit" is configured by `[rate_limit]`, its instance "rate_limit.ip" by `[rate_limit.ip]`
alone, and an operator's own "package.module:build" by a table with that quoted name. A route's
table is laid over the pipeline's and loaded again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, fields

from gateway.config import hints
from gateway.config.tables.load import Fault, Loaded, dotted, instance, known_keys, load
from gateway.config.tables.schema import TableClass
from gateway.config.toml.positions import KeyPath, Place
from gateway.config.toml.read import Document
from gateway.config.toml.sources import FileTable, plain
from gateway.core.hooks import kind_of

Entries = Sequence[tuple[str, KeyPath]]
"""A list of middlewares: each name and its place."""

SchemaFor = Callable[[str], TableClass | None]
"""Return a middleware's Table, or None if it takes its table as it is. Raises LookupError, with a
message, for an unknown name."""


class UnknownKind(LookupError):
    """A middleware does not exist or cannot be loaded; the message says which."""


class Kinds:
    """The middlewares that the caller knows; each is looked up once."""

    def __init__(self, schema_for: SchemaFor, known_names: Sequence[str]) -> None:
        self.known_names = tuple(known_names)
        self._schema_for = schema_for
        self._seen: dict[str, TableClass | UnknownKind | None] = {}

    def table(self, kind: str) -> TableClass | None:
        """Return a middleware's Table. Raises UnknownKind, also when the import of an operator's
        module raised."""
        if kind not in self._seen:
            try:
                self._seen[kind] = self._schema_for(kind)
            except LookupError as error:
                self._seen[kind] = UnknownKind(
                    error.args[0] if error.args else f"no middleware is called {kind!r}"
                )
            except (Exception, SystemExit) as error:
                self._seen[kind] = UnknownKind(
                    f"cannot load {kind}: {type(error).__name__}: {error}"
                )
        found = self._seen[kind]
        if isinstance(found, UnknownKind):
            raise found
        return found

    def knows(self, kind: str) -> bool:
        try:
            self.table(kind)
        except UnknownKind:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Written:
    """A middleware's table without its instances' tables, and its place. `value` may be of any
    type."""

    path: KeyPath
    value: Any


class Middlewares:
    """What one pipeline file says about middlewares. `listed`: each known name's first place in the
    lists."""

    def __init__(self, document: Document, kinds: Kinds) -> None:
        self.document = document
        self.kinds = kinds
        self.listed: dict[str, KeyPath] = {}
        self.tables: dict[str, Written] = {}
        self._unknown: set[str] = set()
        self._faults: dict[str, tuple[Fault, ...]] = {}

    def enter(self, entries: Entries) -> None:
        """Add the names of one list."""
        seen: set[str] = set()
        for name, path in entries:
            if name in seen:
                hint = "the same thing twice is an instance: 'NAME.second'"
                self.document.error(path, f"{dotted(path)}: {name!r} is listed twice", hint)
            elif self._exists(name, path):
                self.listed.setdefault(name, path)
            seen.add(name)

    def read_tables(self, own: Collection[str]) -> None:
        """Find the table of every listed name. `own`: the pipeline's own keys."""
        self.tables, unlisted = self._split(self.document.data, (), own)
        for key in unlisted:
            if self.kinds.knows(kind_of(key)):
                hint = f"put {key!r} into request, response or error, or remove the table"
                self.document.warning(
                    (key,), f"[{key}] has no effect: it is in none of the lists", hint
                )
            elif key == "upstream":
                self.document.error(
                    (key,),
                    "upstream: is not a known key",
                    "upstreams stand in a file without pipelines",
                )
            elif kind_of(key) not in self._unknown:
                self.document.error(
                    (key,),
                    f"{dotted((key,))}: is not a known key",
                    self._hint("pipeline", key, own),
                )

    def load(self, name: str) -> Any:
        """Load the pipeline's config of a listed name; report its faults and return None if it has
        any."""
        table = self.tables.get(name)
        loaded = self._load(name, table.value if table else {})
        self._faults[name] = loaded.faults
        for fault in loaded.faults:
            # Without a table, what is missing is missing for this entry of the list.
            self._report(name, fault, (*table.path, *fault.path) if table else self.listed[name])
        return loaded.value

    def overrides(
        self, path: KeyPath, data: Mapping[str, Any], own: Collection[str], names: Collection[str]
    ) -> dict[str, Written]:
        """Return what the route at `path` overrides, by name.

        own: the route's own keys.
        names: the middlewares in the lists that this route goes through.
        """
        tables, unlisted = self._split(data, path, own)
        for key in unlisted:
            if self.kinds.knows(kind_of(key)):
                self._idle((*path, key), key)
            elif kind_of(key) not in self._unknown:
                self.document.error(
                    (*path, key),
                    f"{dotted((*path, key))}: is not a known key",
                    self._hint("route", key, own),
                )
        for name, table in tables.items():
            if name not in names and not (table.value is False and kind_of(name) == "auth"):
                self._idle(
                    table.path, name
                )  # `auth = false` beside a list without it says that this is meant
        return tables

    def load_over(self, name: str, override: Written) -> Any:
        """Load `name` with a route's table over the pipeline's; report faults and return None if it
        has any.

        Faults of the pipeline's table, which was loaded before, are not reported again.
        """
        if not isinstance(override.value, dict):
            self._report(
                name, Fault((), "must be a table, or false to leave it out"), override.path
            )
            return None
        base = self.tables.get(name)
        under = base.value if base and isinstance(base.value, dict) else {}
        loaded = self._load(name, merged(under, override.value, self._schema(name)))
        known = {(fault.path, fault.message) for fault in self._faults.get(name, ())}
        for fault in loaded.faults:
            path = self._where([override.path, *([base.path] if base else [])], fault.path)
            here = path[: len(override.path)] == override.path and self.document.depth(path) == len(
                path
            )
            if (fault.path, fault.message) not in known or here:
                self._report(name, fault, path)
        return loaded.value

    def place(self, name: str, below: KeyPath, override: KeyPath | None = None) -> Place:
        """Return the place of a key of `name`: in the route's `override`, the pipeline's table, or
        the list."""
        table = self.tables.get(name)
        paths = [path for path in (override, table.path if table else None) if path is not None]
        if not paths:
            return self.document.place(self.listed.get(name, ()))
        return self.document.place(self._where(paths, below))

    def _exists(self, name: str, place: KeyPath) -> bool:
        kind = kind_of(name)
        given = name[len(kind) + 1 :]
        try:
            table = self.kinds.table(kind)
        except UnknownKind as error:
            self._unknown.add(kind)
            self.document.error(
                place,
                str(error),
                ""
                if ":" in kind or kind in self.kinds.known_names
                else hints.unknown_middleware(kind, self.kinds.known_names),
            )
            return False
        if name != kind and not given.replace("-", "_").isidentifier():
            self.document.error(
                place,
                f"{name!r}: an instance is named in letters, digits, '-' and '_'",
                f"e.g. '{kind}.second'",
            )
            return False
        if table is not None and given in known_keys(instance(table)):
            self.document.error(
                place,
                f"{name!r}: {given!r} is a key of [{kind}] and cannot name an instance",
                "choose another name",
            )
            return False
        return True

    def _split(
        self, data: Mapping[str, Any], base: KeyPath, own: Collection[str]
    ) -> tuple[dict[str, Written], list[str]]:
        """Return the tables among `data` by listed name, and the keys that belong to none."""
        found: dict[str, Written] = {}
        unlisted: list[str] = []
        for key, value in data.items():
            if key in own:
                continue
            rest = value
            for name in self.listed if isinstance(value, dict) else ():
                given = name[len(key) + 1 :]
                if name != key and kind_of(name) == key and given in value:
                    self._put(found, name, Written((*base, key, given), value[given]))
                    rest = {word: item for word, item in rest.items() if word != given}
            if not rest and rest is not value:
                continue  # nothing but instances in it
            if key in self.listed:
                self._put(found, key, Written((*base, key), rest))
            else:
                unlisted.append(key)
        return found, unlisted

    def _put(self, found: dict[str, Written], name: str, table: Written) -> None:
        if name in found:
            line = self.document.place(found[name].path)[0]
            self.document.error(
                table.path, f"{name!r} is configured twice", f"it was in line {line} already"
            )
        found.setdefault(name, table)

    def _load(self, name: str, data: Any) -> Loaded:
        if not isinstance(data, dict):
            return Loaded(faults=(Fault((), "must be a table"),))
        table = self.kinds.table(kind_of(name))
        return Loaded(plain(data)) if table is None else load(table, data, (kind_of(name),))

    def _schema(self, name: str) -> Schema | None:
        table = self.kinds.table(kind_of(name))
        return None if table is None else instance(table)

    def _where(self, tables: Sequence[KeyPath], below: KeyPath) -> KeyPath:
        """Return the path of `below` in that table which has most of it; the first of several."""
        return max(
            ((*path, *below) for path in tables),
            key=lambda full: self.document.depth(full) - len(full),
        )

    def _report(self, name: str, fault: Fault, path: KeyPath) -> None:
        shown = ".".join(filter(None, (name, dotted(fault.path))))
        self.document.error(path, f"{shown}: {fault.message}", fault.hint)

    def _idle(self, path: KeyPath, name: str) -> None:
        self.document.warning(
            path,
            f"this route's {name!r} has no effect: it is in none of its lists",
            "remove it, or list it",
        )

    def _hint(self, table: str, key: str, own: Iterable[str]) -> str:
        return hints.unknown_key(table, key, {*own, *self.kinds.known_names, *self.listed})


def merged(
    under: Mapping[str, Any], over: Mapping[str, Any], known: Schema | fields.Dict | None = None
) -> Mapping[str, Any]:
    """Lay `over` on `under`: tables key by key; everything else (arrays too) is replaced.

    known: the table's schema, where a key may give way to its alternatives (see `declare.table`),
        or the field of a table whose keys the operator chooses.
    """
    if not over:
        return under
    result = dict(under)
    for group, others in _alternatives(known):
        if (group - others) & over.keys() and (others - group) & result.keys():
            result = {key: value for key, value in result.items() if key not in others}
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        result[key] = merged(below, value, _below(known, key)) if both else value  # type: ignore[arg-type]
    return over if isinstance(over, FileTable) and result.keys() == over.keys() else result


def _below(known: Schema | fields.Dict | None, key: str) -> Schema | fields.Dict | None:
    """Return what is known about the table under `key`."""
    found = (
        known.value_field
        if isinstance(known, fields.Dict)
        else known_keys(known).get(key)
        if known is not None
        else None
    )
    if isinstance(found, fields.Nested):
        schema: Schema = found.schema
        return schema
    return found if isinstance(found, fields.Dict) else None


def _alternatives(
    known: Schema | fields.Dict | None,
) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Yield each group of a table's ALTERNATIVES with all keys of the other groups."""
    groups: Sequence[frozenset[str]] = getattr(getattr(known, "makes", None), "ALTERNATIVES", ())
    for group in groups:
        yield group, frozenset().union(*(other for other in groups if other is not group))
