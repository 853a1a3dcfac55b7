"""What `[transform]` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import fields

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, FieldName, FieldValue, Items, Map, Size, Text

_FIELDS = Map(keys=FieldName(), values=FieldValue())


@table
class QueryConfig:
    """The query that is sent on."""

    set: Mapping[str, str] = setting(
        Map(keys=Text(), values=Text(empty=True)),
        default_factory=dict,
        doc="parameters in place of any of the same name",
    )
    remove: tuple[str, ...] = setting(default=(), doc="names of parameters that are not sent on")


@table
class BodyConfig:
    """A JSON body. A path is names with dots between them; a number is a place in an array, `*` is
    every member."""

    rename: Mapping[str, str] = setting(
        default_factory=dict, doc="where the value at a path goes instead, by path"
    )
    remove: tuple[str, ...] = setting(default=(), doc="paths of what goes")
    set: Mapping[str, Any] = setting(
        Map(keys=Text(), values=fields.Raw()),
        default_factory=dict,
        doc="values by path, of any type; what leads there is made. A table sets each of its keys",
    )


@table
class FieldChanges:
    """What becomes of header fields, either way."""

    rename: Mapping[str, str] = setting(
        Map(keys=FieldName(), values=FieldName()),
        default_factory=dict,
        doc="the new name of a field, by the old one",
    )
    remove: tuple[str, ...] = setting(
        Items(FieldName()), default=(), doc="fields that do not go on"
    )
    set: Mapping[str, str] = setting(
        _FIELDS, default_factory=dict, doc="fields in place of any of the same name"
    )
    add: Mapping[str, str] = setting(
        _FIELDS, default_factory=dict, doc="fields beside those of the same name"
    )


@table
class RequestChanges(FieldChanges):
    """What upstreams are sent."""

    query: QueryConfig = setting(default=QueryConfig(), doc="`[transform.request.query]`")
    body: BodyConfig = setting(default=BodyConfig(), doc="`[transform.request.body]`")


@table
class ResponseChanges(FieldChanges):
    """What clients get. With `transform` in `error` the fields of error answers change too."""

    body: BodyConfig = setting(default=BodyConfig(), doc="`[transform.response.body]`")
    lines: bool = setting(
        default=False,
        doc="whether `body` also changes each line of `application/x-ndjson` and each `data` line "
        "of `text/event-stream`, as they arrive; those that are no JSON pass",
    )


@table
class TransformConfig:
    """What is changed. Renaming comes first, then removing, then setting, then adding."""

    request: RequestChanges = setting(default=RequestChanges(), doc="`[transform.request]`")
    response: ResponseChanges = setting(default=ResponseChanges(), doc="`[transform.response]`")
    max_body: int = setting(
        Size(),
        default=1_000_000,
        doc="bytes of a JSON body that is changed; each million takes some 10 ms of a core",
    )
    unreadable: str = setting(
        Choice("refuse", "pass"),
        default="refuse",
        doc="what becomes of a body that says it is JSON and is larger, coded (gzip), in parts or "
        "no JSON after all: refused (413, 415, 400; an upstream's is a 502), or sent on unchanged",
    )
