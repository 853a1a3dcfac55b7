"""Hints for keys and values that are not known: by meaning first, then by spelling.

A key may be another gateway's word (`max_conns`), stand in the wrong table (`timeout` beside
`timeouts`), or be misspelt. Only keys of tables that every configuration has are looked up in
their declarations; for middlewares, which are imported when a list names them, foreign_words.py has
the keys that are often sought elsewhere.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from functools import cache

from marshmallow import Schema, fields

from gateway.config.foreign_words import FILES, MIDDLEWARES, VALUES, WORDS
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.tables.schema import (
    Boolean,
    Choice,
    Number,
    Secret,
    TableClass,
    Whole,
    schema_of,
)
from gateway.config.tables.server import GatewayConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.problems import nearest

Place = tuple[str, str]
"""A table's path, "" for gateway.toml and with NAME for what operators choose, and a key."""

PIPELINE, ROUTE, UPSTREAM = "pipeline", "route", "upstream.NAME"
SIMILAR = 0.8
"""From this likeness on a word is taken for a misspelling, before its meaning elsewhere."""
USUAL = ("url", "path", "file")
"""Keys that one value written in place of a whole table is usually meant for."""
BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), "true"),
    **dict.fromkeys(("false", "no", "off", "0"), "false"),
}
LONGEST_SHOWN = 40
"""Characters of a value that a hint repeats."""
MANY = 3
"""So many other tables may be named in a hint."""


def table_of(path: KeyPath) -> str:
    """Return the table in which the key at `path` stands, as WORDS names it."""
    keys = [key for key in path[:-1] if isinstance(key, str)]
    if keys[:1] == ["upstream"] and len(keys) > 1:
        keys[1] = "NAME"
    return ".".join(keys)


def unknown_key(table: str, key: str, known: Collection[str]) -> str:
    """Return a hint for a key that `table` does not know; "" if there is none.

    known: the keys that it has and that are not given.
    """
    word = _plain(key)
    if word in known:
        return f"did you mean {word!r}?"
    places = _meant(word)
    here = [name for where, name in places if where == table and name in known]
    if here:
        return f"did you mean {here[0]!r}?"
    places = places or [(where, word) for where in _index().get(word, ())]
    below = [
        f"{where.removeprefix(f'{table}.')}.{name}"
        for where, name in places
        if _is_below(where, table) and where.removeprefix(f"{table}.").split(".")[0] in known
    ]
    close = get_close_matches(key, sorted(known), n=1, cutoff=SIMILAR)
    if here := [*_middleware(table, word), *below, *close]:
        return f"did you mean {here[0]!r}?"
    return _elsewhere(table, word, places) or nearest(key, known)


def unknown_middleware(name: str, known: Collection[str]) -> str:
    """Return a hint for a name in a list that no middleware has."""
    word = _plain(name)
    if word not in known:
        word = next((one for one in _names().get(word, ()) if one in known), "")
    return f"did you mean {word!r}?" if word else nearest(name, known)


def unknown_value(value: str, choices: Collection[str]) -> str:
    """Return a hint for a value that is none of a few words; "" if none is like it."""
    word = _plain(value)
    if word not in choices:
        close = get_close_matches(word, sorted(choices), n=1)
        meant = (one for one, words in VALUES.items() if one in choices and word in words.split())
        word = next(meant, close[0] if close else "")
    return f"did you mean {word!r}?" if word else ""


def misshapen(field: object, value: object) -> str:
    """Return a hint for a value that is not of the kind that a field or table takes."""
    if isinstance(field, Schema) and not isinstance(value, dict):
        keys = [one.data_key or name for name, one in field.load_fields.items()]
        first = next((key for key in (*USUAL, *keys) if key in keys), "")
        return f"a table, such as {{ {first} = ... }}" if first else ""
    if type(value) is not str or not value:
        return ""
    if isinstance(field, Choice):
        return unknown_value(value, field.words)
    if isinstance(field, fields.List):
        hidden = isinstance(field.inner, Secret) or len(value) > LONGEST_SHOWN
        return f"in brackets: [{'...' if hidden else repr(value)}]"
    if isinstance(field, Boolean):
        word = BOOLEANS.get(value.lower(), "")
        return f"write {word}, without quotes" if word else ""
    if isinstance(field, Whole | Number) and re.fullmatch(r"\d+(\.\d+)?", value):
        return f"write {value}, without quotes"
    return ""


def _middleware(table: str, word: str) -> list[str]:
    """Return the middlewares that a key of a pipeline or route may be meant for."""
    if table not in (ROUTE, PIPELINE):
        return []
    return [word] if word in MIDDLEWARES else _names().get(word, [])


def _elsewhere(table: str, word: str, places: list[Place]) -> str:
    """Return a hint that names other tables: of the same file if there are any, else all, unless
    they are too many."""
    if table == "" and word in FILES:
        return FILES[word]
    if table == "" and word in {*MIDDLEWARES, *_names()}:
        name = word if word in MIDDLEWARES else _names()[word][0]
        return f"the table of {name!r} stands in the pipeline that lists it"
    near = [place for place in places if _root(place[0]) == _root(table)] or places
    if not near or len(near) > MANY:
        return ""
    names = list(dict.fromkeys(name for _, name in near))
    tables = " or ".join(_header(where, name) for where, name in near)
    if names == [word]:
        return f"{word!r} stands in {tables}"
    if len(names) == 1:
        return f"did you mean {names[0]!r} in {tables}?"
    each = " or ".join(f"{name!r} in {_header(where, name)}" for where, name in near)
    return f"did you mean {each}?"


def _is_below(where: str, table: str) -> bool:
    if table == ROUTE:
        return where.split(".")[0] in MIDDLEWARES or where.startswith(f"{ROUTE}.")
    return bool(table) and where.startswith(f"{table}.")


def _root(table: str) -> str:
    """Return what tables of one file have in common."""
    first = table.split(".")[0]
    return "" if first in _tables_of_gateway() else first


def _header(table: str, key: str) -> str:
    """Return the table of a key as its line in TOML, or the file it is."""
    if (table, key) == ("logging", "process"):  # A middleware is called logging, too.
        return "[logging] of gateway.toml"
    if table == "":
        return "gateway.toml"
    if table == PIPELINE:
        return "pipelines/NAME.toml, outside of tables"
    shown = f"[[{table}]]" if table in _arrays() else f"[{table}]"
    return f"{shown} of a pipeline" if table.split(".")[0] in MIDDLEWARES else shown


def _plain(word: str) -> str:
    """Return a word in our spelling: lower case, with underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).replace("-", "_").lower()


@cache
def _words() -> dict[str, list[Place]]:
    found: defaultdict[str, list[Place]] = defaultdict(list)
    for table, keys in WORDS.items():
        for key, words in keys.items():
            for word in (key, *words.split()):
                found[word].append((table, key))
    return dict(found)


def _meant(word: str) -> list[Place]:
    return _words().get(word, [])


@cache
def _names() -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, words in MIDDLEWARES.items():
        for word in words.split():
            found[word].append(name)
    return dict(found)


@cache
def _tables() -> tuple[tuple[str, bool, frozenset[str]], ...]:
    """Every table that all configurations have: its path, whether there are several, its keys."""
    roots: Iterable[tuple[TableClass, str]] = (
        (GatewayConfig, ""),
        (UpstreamConfig, UPSTREAM),
        (PipelineConfig, PIPELINE),
        (RouteConfig, ROUTE),
    )
    return tuple(one for table, path in roots for one in _walk(schema_of(table)(), path, False))


def _walk(schema: Schema, path: str, many: bool) -> Iterator[tuple[str, bool, frozenset[str]]]:
    keys = {one.data_key or name: one for name, one in schema.load_fields.items()}
    yield path, many, frozenset(keys)
    for key, one in keys.items():
        listed = isinstance(one, fields.List)
        inner = one.inner if isinstance(one, fields.List) else one
        if isinstance(inner, fields.Nested):
            below = f"{path}.{key}".removeprefix(".").removeprefix(f"{PIPELINE}.")
            yield from _walk(inner.schema, below, listed or bool(inner.many))


@cache
def _index() -> dict[str, list[str]]:
    """The tables that have a key."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for table, _, keys in _tables():
        for key in keys:
            found[key].append(table)
    return dict(found)


@cache
def _arrays() -> frozenset[str]:
    middlewares = ("auth.jwt", "rate_limit.rules", ROUTE)
    return frozenset((*(table for table, many, _ in _tables() if many), *middlewares))


@cache
def _tables_of_gateway() -> frozenset[str]:
    return frozenset(("", *(key for table, _, keys in _tables() if table == "" for key in keys)))
