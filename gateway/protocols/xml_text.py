"""XML texts as values that a JSON Schema can judge; without DTDs, entities and namespaces. Pure.

The root element's content is the value. An element is its text, or an object of its attributes
(`@name`) and child elements; several children of one name are an array. Text beside attributes
stands under `#text`. A document type is refused before anything in it is read, so no entity can
expand or lead to a file or address.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from gateway.core.failures import Failure
from gateway.protocols.json_text import Bounds, Unreadable

_ENCODINGS = frozenset(("utf-8", "us-ascii", "ascii"))


def xml_value(data: bytes, bounds: Bounds) -> Any:
    """The value of an XML text in UTF-8. Raises Unreadable."""
    reader = _Reader(bounds)
    parser = expat.ParserCreate("utf-8", namespace_separator="}")
    parser.buffer_text = True
    parser.XmlDeclHandler = reader.declaration
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        detail = f"The body is not XML: line {error.lineno}, column {error.offset + 1}."
        raise Unreadable(Failure.MALFORMED, detail, expat.ErrorString(error.code)) from None
    return reader.value


class _Reader:
    """Builds the value. `_open`: what the open elements hold so far, and their text."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: list[tuple[dict[str, Any], list[str]]] = []
        self._members = 0
        self.value: Any = None

    def declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        # Readers differ about what stands in a text that says it is in another encoding.
        if version != "1.0" or (encoding or "utf-8").lower() not in _ENCODINGS:
            raise Unreadable(Failure.UNSUPPORTED_MEDIA_TYPE, "The body must be XML 1.0 in UTF-8.")

    def doctype(self, *_: Any) -> None:
        raise Unreadable(Failure.MALFORMED, "The body has a document type, which is not allowed.")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._members += 1 + len(attributes)
        if self._members > self._bounds.members:
            detail = f"The body may have at most {self._bounds.members} members."
            raise Unreadable(Failure.BODY_TOO_LARGE, detail)
        if len(self._open) >= self._bounds.depth:
            detail = f"The body may nest at most {self._bounds.depth} levels deep."
            raise Unreadable(Failure.MALFORMED, detail)
        found = {f"@{_local(key)}": value for key, value in attributes.items()}
        if len(found) < len(attributes):  # Readers differ about which one counts.
            detail = "The body has attributes that differ in their namespace only."
            raise Unreadable(Failure.MALFORMED, detail)
        self._open.append((found, []))

    def end(self, name: str) -> None:
        found, pieces = self._open.pop()
        text = "".join(pieces)
        value: Any = found
        if not found:
            value = text
        elif text.strip():
            if any(not key.startswith("@") for key in found):
                raise Unreadable(Failure.MALFORMED, "The body has text beside elements.")
            found["#text"] = text
        if not self._open:
            self.value = value
            return
        above, key = self._open[-1][0], _local(name)
        if key not in above:
            above[key] = value
        elif type(above[key]) is _Several:
            above[key].append(value)
        else:
            above[key] = _Several((above[key], value))

    def text(self, data: str) -> None:
        self._open[-1][1].append(data)


class _Several(list[Any]):
    """The children of one name."""


def _local(name: str) -> str:
    return name.rpartition("}")[2]
