"""What `[validation]` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from marshmallow import ValidationError, validates, validates_schema

from gateway.config.tables.schema import Items, Map, Size, SubTable, Table, Text
from gateway.config.toml.sources import FileTable, plain


@dataclass(frozen=True, slots=True)
class SchemaConfig:
    """Where a schema is; exactly one of these is set.

    file:        JSON Schema (2020-12) as JSON, relative to the TOML file. `text` is what it held when the configuration was read.
    schema:      the same, written in the TOML.
    marshmallow: "package.module:Class", a marshmallow Schema.
    """

    file: str = ""
    schema: Mapping[str, Any] | None = None
    marshmallow: str = ""
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """What requests must look like.

    max_body:      bytes a request's body may have.
    content_types: media types it may be of ("application/json", "image/*", "application/*+json"); empty takes all.
    methods:       whose requests must have a body that `body` describes; others' bodies are only limited.
    body, query, path: schemas of the body, the query's parameters and the route's captures; None for no check.
    """

    max_body: int = 10_000_000
    content_types: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("POST", "PUT", "PATCH")
    body: SchemaConfig | None = None
    query: SchemaConfig | None = None
    path: SchemaConfig | None = None


class SchemaTable(Table):
    makes = SchemaConfig
    file = Text()
    schema = Map()
    marshmallow = Text()

    @validates_schema
    def _one(self, data: dict[str, Any], **_: Any) -> None:
        if len(data) != 1:
            raise ValidationError("must have exactly one of file, schema and marshmallow")

    @validates("marshmallow")
    def _marshmallow(self, value: str, data_key: str) -> None:
        if not re.fullmatch(r"[\w.]+:\w+", value):
            raise ValidationError('must be "package.module:Class"')


class SchemaField(SubTable):
    """A schema's table; `false` switches off what the pipeline's table has."""

    def __init__(self) -> None:
        super().__init__(SchemaTable)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, partial: Any = None, **kwargs: Any
    ) -> Any:
        if value is False:
            return None
        loaded: SchemaConfig = super()._deserialize(value, attr, data, partial, **kwargs)
        if isinstance(value, FileTable):
            # Read here it counts for the hash of the configuration, and one compilation sees one state of it.
            return replace(loaded, text=str(value.contents()))
        return loaded if loaded.schema is None else replace(loaded, schema=plain(loaded.schema))


class ValidationTable(Table):
    makes = ValidationConfig
    max_body = Size()
    content_types = Items(Text())
    methods = Items(Text())
    body = SchemaField()
    query = SchemaField()
    path = SchemaField()

    @validates("content_types")
    def _content_types(self, value: tuple[str, ...], data_key: str) -> None:
        wrong = {
            index: [f"is not a media type: {given!r}"]
            for index, given in enumerate(value)
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+", given)
        }
        if wrong:
            raise ValidationError(wrong)

    @validates("methods")
    def _methods(self, value: tuple[str, ...], data_key: str) -> None:
        wrong = {
            index: ["must be a method in capitals"] for index, given in enumerate(value) if not re.fullmatch(r"[A-Z]+", given)
        }
        if wrong:
            raise ValidationError(wrong)
