"""Bodies as the values that a schema judges, and values as bodies again.

JSON and XML are read in gateway/protocols. All of it costs time in proportion to the body: it runs
on the loop for small ones and in the helper process (judge.py) for large ones.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import quote_plus

from gateway.core.failures import Failure
from gateway.middlewares.validation.parameters import Strings, parsed
from gateway.middlewares.validation.schemas import Schema
from gateway.protocols.json_text import Bounds, Unreadable, json_text, json_value, members_at_most
from gateway.protocols.xml_text import xml_value

Kind = Literal["json", "form", "xml"]


def value_of(data: bytes, kind: Kind, schema: Schema, bounds: Bounds) -> Any:
    """The clean value of a body. Raises Unreadable."""
    if kind == "json":
        value = json_value(data, bounds)
    elif kind == "form":
        value = schema.typed(form_fields(data))
    else:
        value = xml_value(data, bounds)
    return schema.cleaned(value, kind == "xml")


def body_of(value: Any, kind: Kind, schema: Schema) -> bytes:
    """The body that goes on: a form as a form, else JSON."""
    return form_text(value, schema.split).encode() if kind == "form" else json_text(value)


def most_members(data: bytes, kind: Kind) -> int:
    """An upper bound for the number of values in a body, at the cost of a look."""
    return data.count(b"<") + data.count(b"=") if kind == "xml" else members_at_most(data)


def form_fields(data: bytes) -> Strings:
    """The fields of an urlencoded form. Raises Unreadable."""
    try:
        return parsed(data.decode())
    except ValueError:
        raise Unreadable(Failure.MALFORMED, "The body is not a form in UTF-8.") from None


def form_text(fields: dict[str, Any], split: frozenset[str] = frozenset()) -> str:
    """A form, or a query, of parameters by name. split: names whose values stand in one, with
    commas."""
    parts = []
    for name, value in fields.items():
        values = [_text(one) for one in (value if isinstance(value, list) else [value])]
        if name in split:
            values = [",".join(values)]
        parts += [f"{quote_plus(name)}={quote_plus(one)}" for one in values]
    return "&".join(parts)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value).decode()
