"""The fields behind a chunked body (RFC 9112 section 7.1.2), which aiohttp's parser reads and
drops. Pure.

Only for bodies whose head announces them. The parser judges the same bytes; what is odd here has no
trailers, which RFC 9110 section 6.5 allows.
"""

from __future__ import annotations

import re

from gateway.core.headers import NOT_TRAILERS, PLAIN_FIELD, Pair, lower

END = b"\r\n\r\n"
LINE_MAX = 8192
"""Bytes of a chunk's size line or of a trailer field; what is longer is not looked at."""
FIELDS_MAX = 64

_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?")


class TrailerReader:
    """Follows the chunks of one body. `fields`: what stands behind them, once the body is
    complete."""

    __slots__ = ("_held", "_in_fields", "_odd", "_skip", "fields")

    def __init__(self) -> None:
        self._held = b""  # A line that is not complete.
        self._skip = 0  # Bytes of a chunk, with its CRLF, that are still to come.
        self._in_fields = self._odd = False
        self.fields: list[Pair] = []

    def feed(self, data: bytes) -> None:
        """More of the message's bytes, from the one after its head on."""
        at = 0
        while at < len(data) and not self._odd:
            if self._skip:
                taken = min(self._skip, len(data) - at)
                self._skip -= taken
                at += taken
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._held += data[at:]
                self._odd = len(self._held) > LINE_MAX
                return
            line, self._held = self._held + data[at:end], b""
            at = end + 1
            if self._line(line.removesuffix(b"\r")):
                return

    def _line(self, line: bytes) -> bool:
        """Return True if the message ends with this line."""
        if self._in_fields:
            if not line:
                return True
            plain = PLAIN_FIELD.fullmatch(line)
            if (
                plain is not None
                and lower(plain[1]) not in NOT_TRAILERS
                and len(self.fields) < FIELDS_MAX
            ):
                self.fields.append((plain[1], plain[2]))
            return False
        size = _SIZE.fullmatch(line)
        if size is None:
            self._odd = True
        elif length := int(size[1], 16):
            self._skip = length + 2
        else:
            self._in_fields = True
        return False


def body_start(before: bytes, data: bytes) -> int:
    """Return the place in `data` where the body behind the first head begins; -1 if that is
    unknown.

    before: the last bytes of the same head that came earlier.
    """
    if not before:
        lead = len(data) - len(
            data.lstrip(b"\r\n")
        )  # Empty lines before a request line (RFC 9112 section 2.2).
        place = data.find(END, lead)
        return place + 4 if place >= 0 else -1
    place = (before + data).find(END)
    return place + 4 - len(before) if place >= 0 else -1
