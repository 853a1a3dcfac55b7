"""A request whose fields are those of the request before it on its connection, or nearly so: what repeats is not parsed again.

Clients repeat themselves: an SDK or a browser sends the same fields with every request of a connection, but perhaps for a request
id or a trace. What a field means depends on nothing but its line for the requests taken here, GET and HEAD with a plain target on
HTTP/1.1: the parser has judged these very lines, and found that no body follows them. A line may have another value, of the
plainest kind, unless the parser heeds its name. Anything else, and the parser judges all of it again: other names, another order,
white space or bytes out of the ordinary, anything after the head, a head in pieces.
"""

from __future__ import annotations

import re
from itertools import compress, count
from operator import ne
from typing import Any

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDict, CIMultiDictProxy, istr

from gateway.core.headers import PLAIN_FIELD, Pair

_LINE = re.compile(rb"(GET|HEAD) (/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*) HTTP/1\.1")
"""RFC 3986's characters only: what the parser makes of others is for the parser to say."""
_HEEDED = frozenset(
    b"connection proxy-connection keep-alive upgrade te trailer transfer-encoding content-length content-encoding expect host "
    b"sec-websocket-key1 http2-settings".split()
)
"""Names that decide how a message is read, where it ends, or what becomes of its connection."""
PATIENCE = 16
"""Requests to parse, after one repeated nothing of the one before, until another is held against the one before."""
_CRLF = b"\r\n"
_END = b"\r\n\r\n"
Taken = tuple[str, str]
"""The method and the target."""


class Repeat:
    """What a connection's next request is held against: the bytes after the request line, and what they were parsed into.

    `used`: whether any request has repeated them.
    """

    __slots__ = ("_fields", "_heeded", "_lines", "_longest", "_section", "headers", "raw_headers", "used")

    def __init__(
        self,
        section: bytes,
        lines: list[bytes],
        fields: list[tuple[istr, str]],
        headers: CIMultiDictProxy[str],
        raw_headers: list[Pair],
        longest: int,
    ) -> None:
        self.headers = headers
        self.raw_headers = raw_headers
        self.used = False
        self._section = section
        self._lines = lines
        self._fields = fields
        self._heeded = frozenset(place for place, pair in enumerate(raw_headers) if pair[0].lower() in _HEEDED)
        self._longest = longest

    def taken(self, data: bytes) -> Taken | None:
        """What `data` asks for when it is one whole request with exactly these fields."""
        section = self._section
        if not data.endswith(section):
            return None
        end = len(data) - len(section)
        match = _LINE.fullmatch(data, 0, end)
        return (match[1].decode(), match[2].decode()) if match is not None and end <= self._longest else None

    def varied(self, data: bytes) -> Taken | None:
        """The same for one with other values, which it is then that the next request is held against."""
        match = _LINE.match(data)
        if match is None or match.end() > self._longest:
            return None
        section = data[match.end() :]
        if section[:2] != _CRLF or section.find(_END) != len(section) - 4:
            return None
        lines, known = section[2:-4].split(_CRLF), self._lines
        if len(lines) != len(known):
            return None
        fields, raw = self._fields.copy(), self.raw_headers.copy()
        for place in compress(count(), map(ne, lines, known)):
            line = lines[place]
            plain = PLAIN_FIELD.fullmatch(line)
            if plain is None or len(line) > self._longest or place in self._heeded:
                return None
            name, value = plain.groups()
            if name != raw[place][0]:
                return None
            fields[place] = (fields[place][0], value.decode())
            raw[place] = (name, value)
        self._section, self._lines, self._fields = section, lines, fields
        self.raw_headers = raw
        self.headers = CIMultiDictProxy(CIMultiDict(fields))
        return match[1].decode(), match[2].decode()


def repeatable(data: bytes, message: Any, payload: Any, longest: int) -> Repeat | None:
    """What the next request may repeat of the one that was parsed from exactly `data`; None where it must be parsed anyway.

    longest: bytes of a line up to which its length need not be judged by the parser.
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
    return Repeat(section, lines, fields, message.headers, list(message.raw_headers), longest)
