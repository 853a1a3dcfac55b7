"""A request whose fields are, byte for byte, those of the request before it on its connection: they need no parsing again.

Clients repeat themselves: an SDK or a browser sends the same fields with every request of a connection, or nearly so. What a
header section means depends on nothing but its bytes for the requests taken here, GET and HEAD with a plain target on HTTP/1.1:
the parser has judged these very bytes, and found that no body follows them. One byte that differs, anything after the head, a
head in pieces, a target out of the ordinary, and the parser judges again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from multidict import CIMultiDictProxy

from gateway.core.headers import Pair

_PLAIN = rb"(/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*) HTTP/1\.1"
"""RFC 3986's characters only: what the parser makes of others is for the parser to say."""
_LINES = {"GET": re.compile(b"GET " + _PLAIN), "HEAD": re.compile(b"HEAD " + _PLAIN)}
_END = b"\r\n\r\n"


class Repeat:
    """What a connection's next request is held against: the bytes after the request line, and what they were parsed into."""

    __slots__ = ("_line", "_longest", "_section", "headers", "method", "raw_headers")

    def __init__(self, section: bytes, message: RawRequestMessage, raw_headers: Sequence[Pair], longest: int) -> None:
        self.method: str = message.method
        self.headers: CIMultiDictProxy[str] = message.headers
        self.raw_headers = raw_headers
        self._line = _LINES[message.method].fullmatch
        self._section = section
        self._longest = longest

    def target(self, data: bytes) -> str | None:
        """The target of the request that `data` is, when that is one whole request that differs in nothing else."""
        section = self._section
        if not data.endswith(section):
            return None
        end = len(data) - len(section)
        match = self._line(data, 0, end)
        return match[1].decode() if match is not None and end <= self._longest else None


def repeatable(data: bytes, message: Any, payload: Any, raw_headers: Sequence[Pair], longest: int) -> Repeat | None:
    """What the next request may repeat of the one that was parsed from exactly `data`; None where it must be parsed anyway.

    longest: bytes of a request line up to which its length need not be judged by the parser.
    """
    if payload is not EMPTY_PAYLOAD or message.__class__ is not RawRequestMessage:
        return None
    if message.should_close or message.upgrade or message.method not in _LINES:
        return None
    match = _LINES[message.method].match(data)
    if match is None:
        return None
    section = data[match.end() :]
    if section[:2] != _END[:2] or section.find(_END) != len(section) - len(_END):
        return None
    return Repeat(section, message, raw_headers, longest)
