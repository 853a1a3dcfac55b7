"""Parse TOML and JSON that operators and stores hand over.

The standard library's parsers recurse. For text that nests too deeply they raise RecursionError,
which names no place and is no ValueError. Here it becomes the format's own error, with the place
where the nesting goes too far.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

MAX_DEPTH = 100
"""Levels of brackets that are always read; the parsers give up somewhere beyond it."""

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' r"'''.*?'''|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'|#[^\n]*|[\[\]{}]",
    re.DOTALL,
)
"""Brackets, and the strings and comments whose brackets do not count. JSON needs no others."""


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
    """Return the error for TOML on which a recursive reader has given up."""
    at = _too_deep(text)
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    return tomllib.TOMLDecodeError(f"Nests too deeply (at line {line}, column {column})")


def _too_deep(text: str) -> int:
    """Return the offset of the first bracket deeper than MAX_DEPTH, 0 when brackets are not the
    cause."""
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
