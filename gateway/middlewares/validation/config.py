"""What `[validation]` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from marshmallow import ValidationError

from gateway.config.openapi.document import Operation
from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import (
    Choice,
    FieldName,
    Items,
    Map,
    Size,
    SubTable,
    Whole,
)
from gateway.config.toml.sources import FileTable, plain
from gateway.middlewares.validation.cleaning import SANITIZERS


def _marshmallow(value: str) -> None:
    if not re.fullmatch(r"[\w.]+:\w+", value):
        raise ValidationError('must be "package.module:Class"')


@table
class SchemaConfig:
    """Where a schema is."""

    file: str = setting(
        default="", doc="a file with JSON Schema (draft 2020-12), relative to the pipeline's file"
    )
    schema: Mapping[str, Any] | None = setting(
        Map(), default=None, doc="the schema itself, as a table"
    )
    marshmallow: str = setting(
        default="",
        check=_marshmallow,
        doc='`"package.module:Class"`, a marshmallow schema of your own',
    )
    text: str | None = None
    """What `file` held when the configuration was read."""

    def check(self) -> None:
        if sum((bool(self.file), self.schema is not None, bool(self.marshmallow))) != 1:
            raise ValidationError("must have exactly one of file, schema and marshmallow")


class SchemaField(SubTable):
    """A schema's table; `false` switches off what the pipeline's table has."""

    def __init__(self) -> None:
        super().__init__(SchemaConfig)

    def _deserialize(
        self,
        value: Any,
        attr: str | None,
        data: Mapping[str, Any] | None,
        partial: Any = None,
        **kwargs: Any,
    ) -> Any:
        if value is False:
            return None
        loaded: SchemaConfig = super()._deserialize(value, attr, data, partial, **kwargs)
        if isinstance(value, FileTable):
            # Read here it counts for the hash of the configuration, and one compilation sees one
            # state of it.
            return replace(loaded, text=str(value.contents()))
        return loaded if loaded.schema is None else replace(loaded, schema=plain(loaded.schema))


def _content_types(value: tuple[str, ...]) -> None:
    word = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
    _all_match(f"{word}/{word}", value, "is not a media type: {!r}")


def _methods(value: tuple[str, ...]) -> None:
    _all_match("[A-Z]+", value, "must be a method in capitals")


def _all_match(pattern: str, words: tuple[str, ...], message: str) -> None:
    wrong = {
        index: [message.format(word)]
        for index, word in enumerate(words)
        if not re.fullmatch(pattern, word)
    }
    if wrong:
        raise ValidationError(wrong)


@table
class ValidationConfig:
    """What requests must look like."""

    max_body: int | None = setting(
        Size(),
        default=None,
        doc="of a request; 1 MB with a schema, else 10 MB; `[server]`'s `max_body` holds too",
    )
    max_depth: int = setting(
        Whole(least=1, most=200), default=64, doc="levels a JSON body with a schema may nest"
    )
    max_members: int = setting(
        Whole(least=1),
        default=250_000,
        doc="members that all arrays and objects of such a body may have together",
    )
    content_types: tuple[str, ...] = setting(
        default=(),
        check=_content_types,
        doc='media types of bodies, e.g. `"application/*+json"`, `"image/*"`; all when left out',
    )
    methods: tuple[str, ...] = setting(
        default=("POST", "PUT", "PATCH"),
        check=_methods,
        doc="whose requests must have a body as in `body`; others' are only limited in size",
    )
    body_required: bool = setting(
        default=True, doc="whether they must have one; `false` judges only those that are there"
    )
    required_headers: tuple[str, ...] = setting(
        Items(FieldName()), default=(), doc="fields without which a request is answered 400"
    )
    xml: str = setting(
        Choice("refuse", "check", "json"),
        default="refuse",
        doc="bodies in XML where there is a schema: 415; judged and sent on as they came; or "
        "sent on as JSON",
    )
    defaults: bool = setting(
        default=False, doc="whether `default` of the schemas is filled in where nothing is given"
    )
    coerce: bool = setting(
        default=False, doc='whether `"5"` becomes 5 where a body must have a number, and so on'
    )
    unknown: str = setting(
        Choice("keep", "strip"),
        default="keep",
        doc="what becomes of members and parameters that the schemas do not name",
    )
    sanitize: tuple[str, ...] = setting(
        Items(Choice(*SANITIZERS)),
        default=(),
        doc="what is done to every text: `trim` white space, drop `controls`, compose Unicode "
        "(`nfc`); and to members whose name begins with `$`: they go (`operators`)",
    )
    body: SchemaConfig | None = setting(
        SchemaField(),
        default=None,
        doc="of a JSON body, a form or XML: `[validation.body]`; `false` in a route switches it "
        "off",
    )
    split: tuple[str, ...] = setting(
        default=(),
        doc=(
            "parameters whose value is a list with commas (`ids=1,2`); others repeat "
            "(`ids=1&ids=2`)"
        ),
    )
    query: SchemaConfig | None = setting(
        SchemaField(),
        default=None,
        doc="the schema of the query's parameters, as an object: `[validation.query]`; likewise",
    )
    path: SchemaConfig | None = setting(
        SchemaField(),
        default=None,
        doc="of a path template's variables, as an object: `[validation.path]`; likewise",
    )
    report: bool = setting(
        default=False,
        doc="refuse nothing and change nothing: what would be refused is only counted, logged and "
        "remembered ([explain.md](explain.md#before-it-is-switched-on)). What is too large is "
        "refused all the same where a body is judged",
    )
    operation: Operation | None = None
    """Set by check, for a route of an OpenAPI document: what its requests must look like, in place
    of `body`, `query` and `path`."""

    def check(self) -> None:
        if self.xml == "check" and (self.defaults or self.sanitize or self.unknown == "strip"):
            raise ValidationError(
                'sends bodies on as they came, which cannot be cleaned: xml = "json"', "xml"
            )
