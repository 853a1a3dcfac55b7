"""Keys about versions of an API: which one a route is, how requests name it, and its last day."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Literal

from marshmallow import ValidationError, fields

from gateway.config.tables.schema import FieldName, Text
from gateway.config.toml.sources import Outside

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
"""What a version may be called."""


@dataclass(frozen=True, slots=True)
class VersionBy:
    """How a request names the version it wants.

    header:  the field, where it is one. default: the version of requests that name none, "" if
             they must.
    """

    kind: Literal["path", "header", "media_type"] = "path"
    header: str = ""
    default: str = ""


class VersionByField(fields.Field[VersionBy]):
    """`"path"`, `"media_type"`, `{ header = "X-API-Version" }`; tables may have a `default`."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> VersionBy:
        if value in ("path", "media_type"):
            return VersionBy("path" if value == "path" else "media_type")
        if not isinstance(value, dict) or not value.keys() & {"header", "media_type"}:
            raise ValidationError(
                'must be "path", "media_type", { header = "X-API-Version" } or '
                '{ media_type = true, default = "1" }'
            )
        if unknown := value.keys() - {"header", "media_type", "default"}:
            raise ValidationError(f"has a key that is not known: {sorted(unknown)[0]!r}")
        default = Version().deserialize(value["default"]) if "default" in value else ""
        if "header" in value:
            if "media_type" in value:
                raise ValidationError("has both header and media_type")
            return VersionBy("header", FieldName().deserialize(value["header"]), default)
        if value["media_type"] is not True:
            raise ValidationError("media_type must be true")
        return VersionBy("media_type", "", default)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """For editors."""
        default = {"default": {"type": "string"}}
        header = {"header": {"type": "string"}, **default}
        media_type = {"media_type": {"const": True}, **default}
        return {
            "anyOf": [
                {"enum": ["path", "media_type"]},
                {"type": "object", "properties": header, "required": ["header"]},
                {"type": "object", "properties": media_type, "required": ["media_type"]},
            ]
        }


class Version(Text):
    """A version's name: `"1"`, `"2.0"`, `"2026-01"`."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if not VERSION.fullmatch(value):
            raise ValidationError(f"must be letters, digits and . _ - (32 at most), not {value!r}")
        return value


class Day(fields.Field[float]):
    """A day, `2026-12-31` with or without quotes, or a time; loads as Unix seconds.

    A day begins at 00:00 UTC; a time without an offset is UTC.
    """

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> float:
        if isinstance(value, str | Outside):
            try:
                value = datetime.fromisoformat(str(value))
            except ValueError:
                raise ValidationError(f"must be a day such as 2026-12-31, not {value!r}") from None
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if not isinstance(value, datetime):
            raise ValidationError("must be a day such as 2026-12-31")
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """For editors; TOML's own dates reach them as strings."""
        return {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}|\$\{"}
