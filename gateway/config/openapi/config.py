"""`[[openapi]]` of a pipeline: routes from a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, HttpUrl, Items, Map, Text


def _prefix(value: str) -> None:
    if not value.startswith("/") or "{" in value:
        raise ValidationError("must start with '/', and holds no variables")


def _overrides(value: Mapping[str, Any]) -> None:
    wrong = {
        name: ["must be a table of a route's keys, or false to leave the operation out"]
        for name, one in value.items()
        if not (isinstance(one, dict) or (one is False and name != "*"))
    }
    if wrong:
        raise ValidationError(wrong)


@table
class ApiConfig:
    """What the document of a gateway's own API says about it."""

    title: str = setting(default="", doc="its name; that of the only document when left out")
    version: str = setting(default="", doc="the API's version, likewise")
    description: str = setting(default="", doc="Markdown, likewise")
    servers: tuple[str, ...] = setting(
        Items(HttpUrl()), default=(), doc="where it is; the host that was asked when left out"
    )


@table
class OpenApiConfig:
    """One OpenAPI document, each of whose operations is a route."""

    file: str = setting(
        doc="OpenAPI 3.0 or 3.1 in JSON or YAML, relative to this file; needs the extra `openapi`"
    )
    upstream: str = setting(default="", doc="the NAME of an `[upstream.NAME]` for all operations")
    prefix: str = setting(
        default="", check=_prefix, doc="in front of the document's paths; sent on with them"
    )
    validate: str = setting(
        Choice("enforce", "report"),
        default="enforce",
        doc="whether requests that the document does not allow are refused, or only logged and "
        "counted (`gateway_validation_reports_total`)",
    )
    overrides: Mapping[str, Any] = setting(
        Map(keys=Text(), values=fields.Raw()),
        default_factory=dict,
        check=_overrides,
        doc="a route's keys by operation, such as "
        '`"POST /cameras" = { rate_limit = { class = "strict" } }`; `"*"` for all of them, `false` '
        "leaves one out",
    )
