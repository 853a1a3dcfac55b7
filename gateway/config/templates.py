"""Templates: JSON with placeholders such as `{request_id}`, checked when the configuration is read.

A string that is one placeholder alone takes the value with its JSON type: `"{limit}"` becomes 100.
Within a longer string the value is text. A member or an item without a value is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import orjson
from marshmallow import ValidationError, fields

from gateway.config.tables.schema import Text
from gateway.config.toml.problems import nearest
from gateway.config.toml.sources import FileTable, Outside, plain

PLACEHOLDER = re.compile(r"\{([a-z_]+(?:\.[A-Za-z0-9_-]+)?)\}")
"""A name in braces, with one part after a dot where names have such: `{claim.email}`. Other braces
stand for themselves."""


class Template:
    """A string or a tree of JSON with placeholders. `names`: those in it."""

    __slots__ = ("names", "tree")

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.names = frozenset(_names(tree))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.tree == other.tree

    def __hash__(self) -> int:
        return hash(repr(self.tree))

    def __repr__(self) -> str:
        return f"Template({self.tree!r})"

    def fill(self, values: Mapping[str, Any]) -> Any:
        """Return the JSON for `values` (None: there is no value); None if nothing is left."""
        return _filled(self.tree, values)


class TemplateText(Text):
    """Text with placeholders; loads as a Template. `known`: names, or prefixes that end with a
    dot."""

    def __init__(self, known: Collection[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.known = known

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        return _checked(
            Template(plain(super()._deserialize(value, attr, data, **kwargs))), self.known
        )


class TemplateJson(fields.Field[Template]):
    """A tree of JSON with placeholders, as a table, or as text in JSON, `{ file = "..." }` too."""

    def __init__(self, known: Collection[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.known = known

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Template:
        if isinstance(value, FileTable) and set(value) == {"file"}:
            value = value.contents()
        if isinstance(value, str | Outside):
            try:
                value = orjson.loads(str(value))
            except orjson.JSONDecodeError as error:
                raise ValidationError(f"is not JSON: {error}") from None
        if not isinstance(value, dict | list):
            raise ValidationError("must be a table, or text that is a JSON object")
        return _checked(Template(plain(value)), self.known)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """For editors."""
        return {"type": ["object", "string"]}


def _checked(template: Template, known: Collection[str]) -> Template:
    prefixes = tuple(name for name in known if name.endswith("."))
    for name in sorted(template.names):
        if name not in known and not name.startswith(prefixes):
            hint = nearest(name, known)
            raise ValidationError(f"no value is called {{{name}}}" + (f"; {hint}" if hint else ""))
    return template


def _names(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield from PLACEHOLDER.findall(tree)
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _names(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _names(value)


def _filled(tree: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(tree, str):
        alone = PLACEHOLDER.fullmatch(tree)
        if alone is not None:
            return values[alone[1]]
        return PLACEHOLDER.sub(lambda found: _text(values[found[1]]), tree)
    if isinstance(tree, dict):
        members = ((key, _filled(value, values)) for key, value in tree.items())
        return {key: value for key, value in members if value is not None}
    if isinstance(tree, list | tuple):
        return [value for item in tree if (value := _filled(item, values)) is not None]
    return tree


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
