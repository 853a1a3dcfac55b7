"""Values as their schema wants them: texts tidied, types coerced, defaults filled in, unknown
members left out.

A cleaner is compiled from a schema. It looks at all schemas that speak of a value, as parameters.py
does; defaults count where they certainly apply: in `properties`, through `$ref` and `allOf`, not in
alternatives or conditions.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from gateway.middlewares.validation.parameters import typed_scalar, types_of
from gateway.middlewares.validation.references import Documents, Place

SANITIZERS = ("trim", "controls", "nfc", "operators")
"""What `sanitize` may name: white space around texts goes; control characters but tabs and line
breaks go; Unicode is composed (UAX #15); names of members that begin with "$" go, which are
operators of databases."""

_CONTROLS = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LONGEST_NAME = 100
"""Characters of a member's name that `patternProperties` is asked about."""
_DEPTH = 8
"""References that are followed for the defaults of one value."""


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What is done to a value before it is judged."""

    defaults: bool = False
    coerce: bool = False
    strip: bool = False
    sanitize: tuple[str, ...] = ()
    xml: bool = False
    """Whether values from XML are cleaned too, as they go on as JSON."""
    wrap: bool = False
    """A value that should be an array becomes one with it, and "" an empty object: for XML."""

    def for_xml(self) -> Cleaning:
        """What is done to values from XML."""
        return replace(self, wrap=True) if self.xml else Cleaning(wrap=True)

    def __bool__(self) -> bool:
        return self.defaults or self.coerce or self.strip or bool(self.sanitize)


class Cleaner:
    """Cleans values of one schema."""

    def __init__(self, documents: Documents, how: Cleaning, root: Place | None = None) -> None:
        """root: the schema, where it is not the whole document."""
        self._documents = documents
        self._how = how
        self._by_schema = how.defaults or how.coerce or how.strip or how.wrap
        self._nodes: dict[tuple[int, ...], _Node] = {}
        self._root = [root or (documents.root, documents.base)]

    def __call__(self, value: Any) -> Any:
        """The clean value; parts of the one that is given may have been changed."""
        if self._how.sanitize:
            value = _sanitized(value, frozenset(self._how.sanitize))
        return self._clean(value, self._root) if self._by_schema else value

    def _clean(self, value: Any, places: list[Place]) -> Any:
        node = self._node(places)
        how = self._how
        if how.coerce or how.wrap:
            value = node.coerced(value, how)
        if isinstance(value, dict):
            self._clean_object(value, node)
        elif isinstance(value, list):
            for place, member in enumerate(value):
                below = node.first.get(place, node.items)
                if below:
                    value[place] = self._clean(member, below)
        return value

    def _clean_object(self, value: dict[str, Any], node: _Node) -> None:
        if self._how.defaults:
            for name, default in node.defaults.items():
                if name not in value:
                    value[name] = deepcopy(default)
        unknown: list[str] = []
        for name, member in value.items():
            below = node.below(name)
            if below is None:
                unknown.append(name)
            elif below:
                value[name] = self._clean(member, below)
        if self._how.strip and node.closed:
            for name in unknown:
                del value[name]

    def _node(self, places: list[Place]) -> _Node:
        key = tuple(id(schema) for schema, _ in places)
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = _Node(places, self._documents)
        return node


class _Node:
    """What schemas say about one value.

    first, items: the places of an array's members. closed: objects have the named members alone.
    """

    def __init__(self, places: list[Place], documents: Documents) -> None:
        self.places = places  # Keeps the schemas, whose ids are keys, alive.
        self.types = types_of(places, documents)
        self.first: dict[int, list[Place]] = {}
        self.items: list[Place] = []
        self.defaults: dict[str, Any] = {}
        self._known: dict[str, list[Place]] = {}
        self._patterns: list[tuple[re.Pattern[str], Place]] = []
        self._others: list[Place] = []
        declared = is_open = False
        for place in places:
            for part, base in documents.speaking_of(place):
                declared = declared or "properties" in part
                for name, below in part.get("properties", {}).items():
                    self._known.setdefault(name, []).append((below, base))
                for pattern, below in part.get("patternProperties", {}).items():
                    self._patterns += _compiled(pattern, (below, base))
                for word in ("additionalProperties", "unevaluatedProperties"):
                    if part.get(word, False) is not False:
                        is_open = True
                        self._others.append((part[word], base))
                for number, below in enumerate(part.get("prefixItems", ())):
                    self.first.setdefault(number, []).append((below, base))
                if "items" in part:
                    self.items.append((part["items"], base))
            for part, base in _certain(place, documents):
                for name, below in part.get("properties", {}).items():
                    for one, _ in _certain((below, base), documents):
                        if "default" in one:
                            self.defaults.setdefault(name, one["default"])
        self.closed = declared and not is_open

    def below(self, name: str) -> list[Place] | None:
        """The places of a member; None for one that no schema names."""
        known = self._known.get(name)
        if known is not None:
            return known
        # Strangers choose names, and a pattern may take long over a long one.
        known_patterns = self._patterns if len(name) <= _LONGEST_NAME else ()
        matching = [place for pattern, place in known_patterns if pattern.search(name)]
        return matching or (self._others if self._others else None)

    def coerced(self, value: Any, how: Cleaning) -> Any:
        """The value as one of the types that are wanted, where it is of none of them."""
        types = self.types
        if isinstance(value, str) and "string" not in types and types:
            if how.wrap and value.strip() == "" and "object" in types:
                return {}
            found = typed_scalar(types, value.strip() if how.wrap else value)
            if found is not value and not isinstance(found, str):
                return found
        elif (
            isinstance(value, int)
            and not isinstance(value, bool)
            and how.coerce
            and "string" in types
            and not types & {"integer", "number"}
        ):
            return str(value)
        if how.wrap and "array" in types and not isinstance(value, list):
            return [value] if value != "" else []
        return value


def _certain(place: Place, documents: Documents, depth: int = 0) -> Iterator[Place]:
    """Yield the schemas that apply to a value whatever it is."""
    schema, base = place
    if not isinstance(schema, dict) or depth > _DEPTH:
        return
    yield place
    if isinstance(schema.get("$ref"), str):
        yield from _certain(documents.at(schema["$ref"], base), documents, depth + 1)
    for branch in schema.get("allOf", ()):
        yield from _certain((branch, base), documents, depth + 1)


def _compiled(pattern: str, place: Place) -> list[tuple[re.Pattern[str], Place]]:
    try:
        return [(re.compile(pattern), place)]
    except re.error:
        return []  # The schema's own dialect of patterns.


def _sanitized(value: Any, ways: frozenset[str]) -> Any:
    if isinstance(value, str):
        for way in _WAYS:
            if way in ways:
                value = _WAYS[way](value)
        return value
    if isinstance(value, list):
        return [_sanitized(one, ways) for one in value]
    if isinstance(value, dict):
        return {
            name: _sanitized(one, ways)
            for name, one in value.items()
            if not (name.startswith("$") and "operators" in ways)
        }
    return value


_WAYS: dict[str, Callable[[str], str]] = {
    "nfc": lambda text: text if text.isascii() else unicodedata.normalize("NFC", text),
    "controls": lambda text: text if text.isprintable() else _CONTROLS.sub("", text),
    "trim": str.strip,
}
