"""TOML and JSON text to data, for everything an operator or a store may hand over.

The standard library's parsers recurse: of text that nests too deeply they raise RecursionError, which says no place and is no
ValueError. Here it becomes the error of the format, with the place where the nesting goes too far.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

MAX_DEPTH = 100
"""Levels of brackets up to which text is always read; the parsers give up somewhere beyond it."""

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' r"'''.*?'''|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'|#[^\n]*|[\[\]{}]",
    re.DOTALL,
)
"""Strings and comments, whose brackets do not count, and brackets. JSON has no strings and comments but TOML's."""


def loads_toml(text: str) -> dict[str, Any]:
    """Like `tomllib.loads`, but raises nothing but TOMLDecodeError."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        pass
    raise nests_too_deeply(text)


def loads_json(text: str | bytes) -> Any:
    """Like `json.loads`, but raises nothing but ValueError (mostly JSONDecodeError)."""
    try:
        return json.loads(text)
    except RecursionError:
        shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    raise json.JSONDecodeError("nests too deeply", shown, _too_deep(shown))


def nests_too_deeply(text: str) -> tomllib.TOMLDecodeError:
    """The error for TOML that a recursive reader has given up on."""
    at = _too_deep(text)
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    return tomllib.TOMLDecodeError(f"Nests too deeply (at line {line}, column {column})")


def _too_deep(text: str) -> int:
    """The offset of the first bracket that is more than MAX_DEPTH levels deep; 0 when brackets are not the reason."""
    depth = 0
    for token in _TOKEN.finditer(text):
        sign = text[token.start()]
        if sign in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return token.start()
        elif sign in "]}":
            depth -= 1
    return 0
