"""Find the place of every key and value of a TOML text.

A scanner of TOML 1.0 (and of 1.1's inline tables) that skips values and notes keys. The text must
be valid: tomllib reads it first, and enforces what may follow what.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both from 1, columns in characters."""

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A multi-line string may end in up to five quotes: two of its own and the three that close it.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' r"|'''.*?'''(?:'{0,2})" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'",
    re.DOTALL,
)
_PLAIN_VALUE = re.compile(r"[^,\]}#\n]+")
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def positions(text: str) -> Mapping[KeyPath, Place]:
    """Map every key path of the document `text` (which tomllib accepts) to its place.

    The place of a key is where the key is written; of an array's item, where the value starts; of a
    table in an array of tables, where its header names the array. A table that several headers
    mention is where its own header is, if it has one.
    """
    scanner = _Scanner(text)
    scanner.document()
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    places = {}
    for path, offset in scanner.offsets.items():
        line = bisect_right(starts, offset)
        places[path] = (line, offset - starts[line - 1] + 1)
    return places


def syntax_error(error: tomllib.TOMLDecodeError, text: str) -> tuple[Place, str]:
    """Return the place, and the message without it, of tomllib's refusal of `text`."""
    message = str(error)
    match = _AT.search(message)
    if match is None:
        return (1, 1), message
    if match[1] is None:
        last = text.rstrip()
        return (last.count("\n") + 1, len(last) - (last.rfind("\n") + 1) + 1), message[
            : match.start()
        ] + " at the end"
    return (int(match[1]), int(match[2])), message[: match.start()]


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.offsets: dict[KeyPath, int] = {}
        self.arrays: dict[KeyPath, int] = {}
        """How many tables each array of tables has so far."""

    def document(self) -> None:
        table: KeyPath = ()
        self.blank()
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            self.blank()

    def blank(self) -> None:
        """Skip white space, line ends and comments."""
        self.skip(_BLANK)

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def header(self) -> KeyPath:
        """Read `[a.b]` or `[[a.b]]`. A name on the way that is an array of tables means its last
        table."""
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        path: KeyPath = ()
        *before, (last, offset) = self.keys()
        for key, start in before:
            path += (key,)
            self.offsets.setdefault(path, start)
            if path in self.arrays:
                path += (self.arrays[path] - 1,)
        path += (last,)
        if array:
            count = self.arrays.get(path, 0)
            self.arrays[path] = count + 1
            self.offsets.setdefault(path, offset)
            path += (count,)
        self.offsets[path] = offset
        self.at += 2 if array else 1
        return path

    def keys(self) -> list[tuple[str, int]]:
        """Read a dotted key up to the sign after it; return each part and where it starts."""
        found = []
        while True:
            self.blank()
            start = self.at
            found.append((self.key(), start))
            self.blank()
            if self.text[self.at] != ".":
                return found
            self.at += 1

    def key(self) -> str:
        bare = _BARE_KEY.match(self.text, self.at)
        if bare:
            self.at = bare.end()
            return bare[0]
        quoted = self.string()
        return quoted[1:-1] if "\\" not in quoted else next(iter(tomllib.loads(f"{quoted} = 0")))

    def string(self) -> str:
        match = _STRING.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not TOML at offset {self.at}")
        self.at = match.end()
        return match[0]

    def pair(self, table: KeyPath) -> None:
        """Read `key = value`, or `a.b = value`."""
        path = table
        for key, start in self.keys():
            path += (key,)
            self.offsets.setdefault(path, start)
        self.at += 1  # the equals sign
        self.blank()
        self.value(path)

    def value(self, path: KeyPath) -> None:
        sign = self.text[self.at]
        if sign in "\"'":
            self.string()
        elif sign == "[":
            self.array(path)
        elif sign == "{":
            self.inline_table(path)
        else:
            self.skip(_PLAIN_VALUE)

    def array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while not self.closed("]"):
            item = (*path, index)
            self.offsets[item] = self.at
            self.value(item)
            index += 1

    def inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while not self.closed("}"):
            self.pair(path)

    def closed(self, bracket: str) -> bool:
        """Skip to the next item of an array or inline table; return True, past the bracket, if
        there is none."""
        self.blank()
        if self.text[self.at] == ",":
            self.at += 1
            self.blank()
        if self.text[self.at] != bracket:
            return False
        self.at += 1
        return True
