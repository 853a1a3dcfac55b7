"""JSON texts as values: size, depth and members bounded first, what readers differ about refused.

Pure. All of it costs time in proportion to the text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import orjson

from gateway.core.failures import Failure


class Unreadable(Exception):
    """A body that is not judged; `detail` is for the client, `why` for operators."""

    def __init__(self, failure: Failure, detail: str, why: str = "") -> None:
        super().__init__(failure, detail)
        self.failure = failure
        self.detail = detail
        self.why = why


@dataclass(frozen=True, slots=True)
class Bounds:
    """How deep a body may nest, and how many members its arrays and objects may have together."""

    depth: int = 64
    members: int = 250_000


_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = {byte: 1 if byte in b"[{" else -1 for byte in b"[]{}"}
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_TOO_MANY_DIGITS = b"0" * 16
"""Digits in a row from which a double may not hold them all, once all are noughts."""


def json_value(data: bytes, bounds: Bounds) -> Any:
    """The value of a JSON text. Raises Unreadable."""
    _check_shape(data, bounds)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        nested = " It nests too deeply." if "depth" in error.msg else ""
        detail = f"The body is not JSON: line {error.lineno}, column {error.colno}.{nested}"
        raise Unreadable(Failure.MALFORMED, detail, error.msg) from None
    # Each string has two quotation marks that delimit it.
    if _unescaped(data).count(b'"') != _unescaped(orjson.dumps(value)).count(b'"'):
        # RFC 8259 section 4: which one counts is up to the reader, so the origin may take the other
        # one.
        raise Unreadable(Failure.MALFORMED, "The body has a name twice in one object.")
    return _exact(data) if _TOO_MANY_DIGITS in data.translate(_DIGITS) else value


def members_at_most(data: bytes) -> int:
    """An upper bound for the number of values in a JSON text, at the cost of a look."""
    return data.count(b",") + _openers(data) + 1


def _openers(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")


def _check_shape(data: bytes, bounds: Bounds) -> None:
    """Raise Unreadable where the bounds are passed.

    Brackets and commas in strings are told apart only when the counts are high.
    """
    if _openers(data) <= bounds.depth and members_at_most(data) <= bounds.members:
        return
    bare = b"".join(_unescaped(data).split(b'"')[::2])
    if members_at_most(bare) > bounds.members:
        detail = f"The body may have at most {bounds.members} members."
        raise Unreadable(
            Failure.BODY_TOO_LARGE, detail, f"at least {members_at_most(bare) // 2} members"
        )
    # Each step in C: a body may be brackets alone.
    deepest = max(
        accumulate(map(_STEPS.__getitem__, bare.translate(None, _NO_BRACKETS))), default=0
    )
    if deepest > bounds.depth:
        detail = f"The body may nest at most {bounds.depth} levels deep. It nests too deeply."
        raise Unreadable(Failure.MALFORMED, detail, f"{deepest} levels")


def _unescaped(data: bytes) -> bytes:
    """Return a JSON text without the quotation marks in its strings."""
    return data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data


def _exact(data: bytes) -> Any:
    """The value with whole numbers of any size; a double cannot tell them apart beyond 2**53."""
    try:
        return json.loads(data, parse_float=_float)
    except (ValueError, RecursionError):  # Longer than Python converts, or a fraction lost.
        detail = "The body has a number of more digits than can be told apart."
        raise Unreadable(Failure.MALFORMED, detail) from None


def _float(literal: str) -> float:
    value = float(literal)
    if (
        value.is_integer()
        and "e" not in literal
        and "E" not in literal
        and literal.partition(".")[2].strip("0")
    ):
        raise ValueError(f"{literal} would count as {value}")
    return value


def json_text(value: Any) -> bytes:
    """The JSON text of a value, with whole numbers of any size.

    What is no Unicode (bytes of a path or a field that were no UTF-8) becomes "?".
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # A number beyond 64 bits, or surrogates.
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")
