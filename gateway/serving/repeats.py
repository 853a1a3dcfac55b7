"""A request whose fields are those of the request before it on its connection, or nearly so: what repeats is not parsed again.

Clients repeat themselves: an SDK or a browser sends the same fields with every request of a connection, but perhaps for a request
id or a trace. What a field means depends on nothing but its line for the requests taken here, GET and HEAD with a plain target on
HTTP/1.1: the parser has judged these very lines, and found that no body follows them. A line that differs is taken if it is a
field of the plainest kind, and none that the parser heeds. Anything else, and the parser judges all of it again: another line
that frames the message or names the connection's options, a name that is there twice, white space or bytes out of the ordinary,
anything after the head, a head in pieces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy, istr

from gateway.core.headers import Pair

_LINE = re.compile(rb"(GET|HEAD) (/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*) HTTP/1\.1")
"""RFC 3986's characters only: what the parser makes of others is for the parser to say."""
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
_HEEDED = frozenset(
    b"connection proxy-connection keep-alive upgrade te trailer transfer-encoding content-length content-encoding expect host "
    b"sec-websocket-key1 http2-settings".split()
)
"""Names that decide how a message is read, where it ends, or what becomes of its connection."""
_CRLF = b"\r\n"
_END = b"\r\n\r\n"
FIELDS_MOST = 64
FIELD_LONGEST = 1024
"""Fields and bytes of one up to which this looks at all; the parser's own limits, where lower, go before."""

Taken = tuple[str, str]
"""The method and the target."""


class Repeat:
    """What a connection's next request is held against: the bytes after the request line, and what they were parsed into."""

    __slots__ = ("_fields", "_heeded", "_lines", "_longest", "_most", "_section", "headers", "raw_headers")

    def __init__(
        self,
        section: bytes,
        lines: Sequence[bytes],
        fields: Sequence[tuple[istr, str]],
        headers: CIMultiDictProxy[str],
        raw_headers: Sequence[Pair],
        heeded: Sequence[tuple[int, bytes]],
        longest: int,
        most: int,
    ) -> None:
        """heeded: the lines that the parser heeds, with their places; they must all be there again."""
        self.headers = headers
        self.raw_headers = raw_headers
        self._section = section
        self._lines = lines
        self._fields = fields
        self._heeded = heeded
        self._longest = longest
        self._most = most

    def taken(self, data: bytes) -> Taken | None:
        """What `data` asks for when it is one whole request with exactly these fields."""
        section = self._section
        if not data.endswith(section):
            return None
        end = len(data) - len(section)
        match = _LINE.fullmatch(data, 0, end)
        return (match[1].decode(), match[2].decode()) if match is not None and end <= self._longest else None

    def varied(self, data: bytes) -> tuple[Repeat, Taken] | None:
        """The same for one with other fields of the plainest kind, and what the next is to be held against."""
        match = _LINE.match(data)
        if match is None or match.end() > self._longest:
            return None
        section = data[match.end() :]
        if section[:2] != _CRLF or section.find(_END) != len(section) - 4:
            return None
        lines = section[2:-4].split(_CRLF)
        given = len(lines)
        if given > self._most:
            return None
        for place, line in self._heeded:
            if place >= given or lines[place] != line:
                return None
        known, old_fields, old_raw = self._lines, self._fields, self.raw_headers
        count = len(known)
        fields: list[tuple[istr, str]] = []
        raw: list[Pair] = []
        others: list[istr] = []
        for place, line in enumerate(lines):
            if place < count and line == known[place]:
                fields.append(old_fields[place])
                raw.append(old_raw[place])
                continue
            plain = _FIELD.fullmatch(line)
            if plain is None or len(line) > FIELD_LONGEST or len(line) > self._longest:
                return None
            name, value = plain.groups()
            if name.lower() in _HEEDED:
                return None
            other = istr(name.decode())
            others.append(other)
            fields.append((other, value.decode()))
            raw.append((name, value))
        headers = CIMultiDict(fields)
        for other in others:
            if len(headers.getall(other)) > 1:
                return None
        repeat = Repeat(section, lines, fields, CIMultiDictProxy(headers), tuple(raw), self._heeded, self._longest, self._most)
        return repeat, (match[1].decode(), match[2].decode())


def repeatable(data: bytes, message: Any, payload: Any, longest: int, most: int) -> Repeat | None:
    """What the next request may repeat of the one that was parsed from exactly `data`; None where it must be parsed anyway.

    longest: bytes of a line, and most: fields, up to which neither need be judged by the parser.
    """
    if payload is not EMPTY_PAYLOAD or message.__class__ is not RawRequestMessage or message.should_close or message.upgrade:
        return None
    match = _LINE.match(data)
    if match is None:
        return None
    section = data[match.end() :]
    if section[:2] != _CRLF or section.find(_END) != len(section) - 4:
        return None
    lines = section[2:-4].split(_CRLF)
    fields = [(istr(name), value) for name, value in message.headers.items()]
    if len(lines) != len(fields):
        return None
    raw = message.raw_headers
    heeded = [(place, line) for place, line in enumerate(lines) if raw[place][0].lower() in _HEEDED]
    return Repeat(section, lines, fields, message.headers, raw, heeded, longest, min(most, FIELDS_MOST))
