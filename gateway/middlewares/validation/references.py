"""What a JSON Schema refers to: within itself, by anchors and identifiers, and in other files."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import orjson

from gateway.config.openapi.modern import LISTS_OF_SCHEMAS, SCHEMAS, SCHEMAS_BY_NAME, with_nulls

Place = tuple[Any, str]
"""A schema and the base URI that its references are relative to."""

_DEPTH = 16
_IN_PLACE = ("allOf", "anyOf", "oneOf")
_CONDITIONS = ("if", "then", "else")


class Documents:
    """A schema, `base` its URI ("" for one in the configuration), and the files it leads to."""

    def __init__(self, root: Any, base: str = "") -> None:
        self.root = root
        self.base = base
        self._roots: dict[str, Any] = {}
        self._anchors: dict[tuple[str, str], Place] = {}
        self._add(root, base)

    def speaking_of(self, place: Place, depth: int = 0) -> Iterator[tuple[Mapping[str, Any], str]]:
        """The schema, and everything it says of the same value in other schemas."""
        schema, base = place
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return
        base = _base_of(schema, base)
        yield schema, base
        for word in ("$ref", "$dynamicRef"):
            if isinstance(schema.get(word), str):
                yield from self.speaking_of(self.at(schema[word], base), depth + 1)
        for word in _IN_PLACE:
            for branch in schema.get(word, ()):
                yield from self.speaking_of((branch, base), depth + 1)
        for word in _CONDITIONS:
            yield from self.speaking_of((schema.get(word), base), depth + 1)
        for branch in schema.get("dependentSchemas", {}).values():
            yield from self.speaking_of((branch, base), depth + 1)

    def at(self, reference: str, base: str) -> Place:
        """Return what a reference means; (None, "") where nothing is."""
        uri, _, fragment = urljoin(base, reference).partition("#")
        if uri not in self._roots:
            try:
                self._add(retrieve(uri), uri)
            except (OSError, ValueError):
                return None, ""
        if fragment and not fragment.startswith("/"):
            return self._anchors.get((uri, unquote(fragment)), (None, ""))
        return at_pointer("#" + fragment, self._roots[uri]), uri

    def _add(self, root: Any, uri: str) -> None:
        """Remember a document under its URI, with the identifiers and anchors in it."""
        self._roots.setdefault(uri, root)
        pending: list[Place] = [(root, uri)]
        while pending:
            schema, base = pending.pop()
            if not isinstance(schema, Mapping):
                continue
            inner = _base_of(schema, base)
            if inner != base:
                self._roots.setdefault(inner.partition("#")[0], schema)
            for word in ("$anchor", "$dynamicAnchor"):
                if isinstance(schema.get(word), str):
                    self._anchors.setdefault(
                        (inner.partition("#")[0], schema[word]), (schema, inner)
                    )
            pending += [(below, inner) for below in below_of(schema)]


def below_of(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas right below one."""
    for word in SCHEMAS_BY_NAME:
        if isinstance(schema.get(word), Mapping):
            yield from schema[word].values()
    for word in LISTS_OF_SCHEMAS:
        if isinstance(schema.get(word), list):
            yield from schema[word]
    for word in SCHEMAS:
        if word in schema:
            yield schema[word]


def at_pointer(reference: str, root: Any) -> Any:
    """Return the part that a JSON Pointer ("#/a/b") names; None for other references."""
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


def retrieve(uri: str) -> Any:
    """Another file that a schema refers to; nothing is fetched from the network.

    Raises ValueError or OSError.
    """
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ValueError("only files are read")
    text = Path(url2pathname(parts.path)).read_bytes()
    return with_nulls(orjson.loads(text.removeprefix(BOM_UTF8)))


def _base_of(schema: Mapping[str, Any], base: str) -> str:
    return urljoin(base, schema["$id"]) if isinstance(schema.get("$id"), str) else base
