"""The tables of docs/configuration.md: every key with type, default and meaning, as its declaration
has them.

python -m tests.docs.reference --write      # write them between the page's markers
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from marshmallow import Schema, fields, validate

from gateway import middlewares
from gateway.config.tables import schema
from gateway.config.tables.declare import settings
from gateway.config.tables.errors import ByFailure, Types
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.tables.server import GatewayConfig, WorkersField
from gateway.config.tables.upstream import UpstreamConfig
from gateway.config.templates import TemplateJson
from gateway.config.versions import Day, VersionByField
from gateway.core.failures import Failure
from gateway.middlewares.auth.permissions import Require
from gateway.middlewares.rate_limit.keys import KeyField
from gateway.tokens.claims import Texts
from tests.docs import generated

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
MARKED = re.compile(r"(<!-- keys of (.+?) -->\n)(.*?)(<!-- end of keys -->\n)", re.DOTALL)
OWN_LOGS = "[logging] of gateway.toml"
FAILURES = "failures"
"""The name of the one table that is not about keys."""

TYPES: Mapping[type, str] = {
    schema.Boolean: "boolean",
    schema.Whole: "whole number",
    schema.Number: "number",
    schema.Duration: "duration",
    schema.Size: "size",
    schema.HttpUrl: "URL",
    schema.Network: "network",
    schema.FieldName: "header name",
    schema.FieldValue: "header value",
    schema.Secret: "secret",
    schema.Text: "text",
    KeyField: "text, or array of it",
    Require: "array: text, or table of them",
    Texts: "text, or array: text",
    TemplateJson: "table, or JSON as text",
    Types: "text, or table by failure",
    Day: "day",
    VersionByField: "`path` `media_type`, or table",
    WorkersField: "whole number, or `auto`",
    fields.Raw: "anything",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One key. `default` is "" where there is none to name: a table, or something that is off
    unless given."""

    key: str
    type: str
    default: str
    meaning: str

    def __str__(self) -> str:
        return f"| `{self.key}` | {self.type} | {self.default} | {self.meaning} |\n"


@dataclasses.dataclass(frozen=True)
class Section:
    """One table of TOML under the heading it has on the page."""

    heading: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return "| key | type | default | meaning |\n|---|---|---|---|\n" + "".join(
            map(str, self.rows)
        )


def written(page: str) -> str:
    """The page with every marked table as it has to be. Raises KeyError for a marker that names no
    table."""
    tables = {section.heading: str(section) for section in sections()} | {FAILURES: failures()}
    page = with_headings(page, [*tables])
    return MARKED.sub(lambda found: found[1] + tables[found[2]] + found[4], page)


def with_headings(page: str, headings: list[str]) -> str:
    """The page with a heading for each table that it lacks, in front of the one that follows."""
    for place, heading in reversed([*enumerate(headings)]):
        if f"<!-- keys of {heading} -->" in page:
            continue
        following = f"<!-- keys of {headings[place + 1]} -->"
        at = page.rindex("\n#", 0, page.index(following)) + 1
        made = f"### `{heading}`\n\n<!-- keys of {heading} -->\n<!-- end of keys -->\n\n"
        page = page[:at] + made + page[at:]
    return page


def failures() -> str:
    """The table of failures."""
    rows = (f"| `{one.reason}` | {one.code} | {one.status} | {one.title} |\n" for one in Failure)
    return "| name | code | status | title |\n|---|---|---|---|\n" + "".join(rows)


def sections() -> list[Section]:
    """Every section, in the order of the page; keys of gateway.toml and pipeline files stand in no
    table."""
    own = walk(GatewayConfig, "")
    # A middleware is called logging, too.
    found = [
        dataclasses.replace(one, heading=OWN_LOGS) if one.heading == "[logging]" else one
        for one in own
    ]
    found += [*walk(UpstreamConfig, "upstream.NAME")]
    found += [*walk(PipelineConfig, "pipeline"), *walk(RouteConfig, "route", many=True)]
    for name in middlewares.CATALOGUE:
        table = middlewares.find(name).config
        if table is not None:
            found += walk(table, name)
    return found


def walk(table: type[Schema], path: str, *, many: bool = False) -> Iterator[Section]:
    """This table and those below it."""
    made = schema.schema_of(table)()
    names = {"": "gateway.toml", "pipeline": "pipelines/NAME.toml"}
    known = {one.data_key or name: (name, one) for name, one in made.load_fields.items()}
    if known:
        docs = {name: one.doc for name, one in settings(made.makes).items()}
        rows = tuple(
            Row(key, kind(one), default(made, name, one), docs[name])
            for key, (name, one) in known.items()
        )
        yield Section(names.get(path) or (f"[[{path}]]" if many else f"[{path}]"), rows)
    for key, (_, one) in known.items():
        below, listed, named = nested(one)
        if below is not None:
            start = f"{path}.{key}" if path not in names else key
            yield from walk(below, f"{start}.NAME" if named else start, many=listed)


def nested(one: Any) -> tuple[type[Schema] | None, bool, bool]:
    """The table in a field, whether it is an array of them, and whether the operator names them."""
    if isinstance(one, fields.Dict) and isinstance(one.value_field, fields.Nested):
        return type(one.value_field.schema), False, True
    listed = isinstance(one, fields.List)
    inner = one.inner if isinstance(one, fields.List) else one
    if isinstance(inner, fields.Nested):
        return type(inner.schema), listed or inner.many, False
    return None, False, False


def kind(one: Any) -> str:
    """A field's type in words."""
    if isinstance(one, fields.Nested):
        return "array of tables" if one.many else "table"
    if isinstance(one, fields.List):
        inner = kind(one.inner)
        return "array of tables" if inner == "table" else f"array: {inner}"
    if isinstance(one, ByFailure):
        return f"table by failure: {kind(one.value_field)}"
    if isinstance(one, fields.Dict):
        return f"table by name: {kind(one.value_field)}" if one.value_field is not None else "table"
    if isinstance(one, schema.Choice):
        return " ".join(f"`{word}`" for word in one.words)
    return next(TYPES[cls] for cls in type(one).__mro__ if cls in TYPES) + bounds(one)


def bounds(one: Any) -> str:
    """The limits of a number."""
    limits = next((check for check in one.validators if isinstance(check, validate.Range)), None)
    if limits is None or (limits.min is None and limits.max is None):
        return ""
    if limits.max is None:
        return f", from {figure(limits.min)}" if limits.min else ""
    return f", {figure(limits.min)} to {figure(limits.max)}"


def figure(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:f}".rstrip("0")


def default(made: Schema, name: str, one: Any) -> str:
    """What stands in the dataclass, as TOML would have it."""
    if one.required:
        return "required"
    makes = getattr(made, "makes", None)
    if makes is None or not dataclasses.is_dataclass(makes):
        return ""
    found = {attribute.name: attribute for attribute in dataclasses.fields(makes)}.get(
        one.attribute or name
    )
    if found is None:
        return ""
    value = found.default
    if found.default_factory is not dataclasses.MISSING:
        value = found.default_factory()
    return shown(value, one)


def shown(value: Any, one: Any) -> str:
    if (
        value is None
        or value is dataclasses.MISSING
        or dataclasses.is_dataclass(value)
        or value in ("", (), {})
    ):
        return ""
    if isinstance(one, schema.Duration):
        return f"`{duration(value)}`"
    if isinstance(one, schema.Size):
        return f"`{size(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple | list | frozenset):
        items = ", ".join(f'"{item}"' if isinstance(item, str) else str(item) for item in value)
        return f"`[{items}]`"
    if isinstance(value, int | float):
        return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
    return ""


def duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length and seconds % length == 0:
            return f'"{seconds / length:g}{unit}"'
    return f'"{seconds * 1000:g}ms"' if seconds else "0"


def size(count: int) -> str:
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= length and count % length == 0:
            return f'"{count // length}{unit}"'
    for unit, length in (("MB", 10**6), ("kB", 10**3)):
        if count >= length and count % length == 0:
            return f'"{count // length}{unit}"'
    return str(count)


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
        generated.write()
    else:
        print(*(f"### `{section.heading}`\n\n{section}" for section in sections()), sep="\n")
