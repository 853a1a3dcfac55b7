"""Permissions: what callers hold, what a request needs, and whether the one covers the other.

A permission is a word such as "cameras:read". "cameras:*" grants everything that begins with
"cameras:", and "*" grants everything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields

from gateway.config.tables.schema import Items, Text
from gateway.core.identities import covers
from gateway.credentials.api_keys.key_file import PERMISSION

EVERY = "*"
"""The key of `require` for the methods it does not name."""

MEMORY = 4096
"""Verdicts remembered; there are as many as there are different sets of permissions."""

_METHOD = re.compile(r"[A-Z][A-Z-]*|\*")


class Permission(Text):
    """One permission."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if not PERMISSION.fullmatch(value):
            rule = '"*" stands alone or after a colon, as in "cameras:*"'
            raise ValidationError(f"is not a permission: {value!r}; {rule}")
        return value


class Require(fields.Field[Mapping[str, frozenset[str]]]):
    """An array of permissions, or a table of arrays by method; loads as the latter ("*": all)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.list = Items(Permission())

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Mapping[str, frozenset[str]]:
        if isinstance(value, list):
            return {EVERY: self._words(value)}
        if not isinstance(value, dict):
            raise ValidationError("must be an array of permissions, or a table of them by method")
        found: dict[str, frozenset[str]] = {}
        errors: dict[str, Any] = {}
        for method, needed in value.items():
            try:
                if not _METHOD.fullmatch(method):
                    raise ValidationError('must be a method such as GET, in capitals, or "*"')
                found[method] = self._words(needed)
            except ValidationError as error:
                errors[method] = error.messages
        if EVERY not in value:
            # If this were optional, a method that the table forgets would need no permission.
            errors[EVERY] = ['say what the other methods need: "*" = [], if it is nothing']
        if errors:
            raise ValidationError(errors)
        return found

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """For editors."""
        words = {
            "type": "array",
            "items": {"type": "string", "pattern": rf"^({PERMISSION.pattern})$|\$\{{"},
        }
        table = {
            "type": "object",
            "additionalProperties": words,
            "propertyNames": {"pattern": f"^({_METHOD.pattern})$"},
        }
        return {"anyOf": [words, {**table, "required": [EVERY]}]}

    def _words(self, value: object) -> frozenset[str]:
        words: Any = self.list.deserialize(value)
        return frozenset(words)


class Requirements:
    """The permissions that requests need, by method; HEAD needs what GET does unless it is listed.

    RFC 9110 section 9.3.2.
    """

    __slots__ = ("_by_method", "_others", "_verdicts")

    def __init__(self, require: Mapping[str, frozenset[str]]) -> None:
        self._by_method = dict(require)
        self._others = self._by_method.pop(EVERY, frozenset())
        if "GET" in self._by_method:
            self._by_method.setdefault("HEAD", self._by_method["GET"])
        self._verdicts: dict[tuple[frozenset[str], frozenset[str]], bool] = {}

    def of(self, method: str) -> frozenset[str]:
        """The permissions a request with this method needs, all of them."""
        return self._by_method.get(method, self._others)

    def met(self, needed: frozenset[str], held: frozenset[str]) -> bool:
        """Return True if `held` grants all of `needed`, wildcards included; remembered."""
        verdict = self._verdicts.get((needed, held))
        if verdict is None:
            if len(self._verdicts) >= MEMORY:
                self._verdicts.clear()
            verdict = self._verdicts[needed, held] = covers(held, needed)
        return verdict
