"""A request whose fields are those of the request before it on its connection, or nearly so: what
repeats is not parsed again.

Clients repeat themselves: an SDK or a browser sends the same fields with every request of a
connection, but perhaps for a request id or a trace. What a field means depends on nothing but its
line for the requests taken here: plain methods with a plain target on HTTP/1.1, and what is read
after the head either nothing or exactly as many bytes as its one Content-Length says. The parser
has judged these very lines. A line may have another value, of the plainest kind, unless the parser
heeds its name; Content-Length may be another number. Anything else, and the parser judges all of it
again: other names, another order, white space or bytes out of the ordinary, a body that is not all
there or is followed by anything, a head in pieces.
"""

from __future__ import annotations

import re
from itertools import compress, count
from operator import ne
from typing import Any, Final

from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping, istr

from gateway.core.headers import PLAIN_FIELD, PLAIN_VALUE, Pair, lower
from gateway.serving.codec import Head

_LINE: Final = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*) HTTP/1\.1"
)
"""RFC 3986's characters only: what the parser makes of others is for the parser to say. A message's
length depends on its fields alone for all these methods (RFC 9112 section 6.3)."""
HEEDED = frozenset(
    b"connection proxy-connection keep-alive upgrade te trailer transfer-encoding content-length "
    b"content-encoding expect host "
    b"sec-websocket-key1 http2-settings".split()
)
"""Names that decide how a message is read, where it ends, or what becomes of its connection."""
PATIENCE = 16
"""Requests to parse, after one repeated nothing of the one before, until another is held against
the one before."""
KEPT: Final = 4096
"""Bytes of a request up to which it is kept, for the next one may be the same byte for byte."""
OPENINGS = 64
"""First requests that are remembered."""
_CRLF = b"\r\n"
_END = b"\r\n\r\n"
_HTTP_11: Final = (1, 1)
_new: Final = tuple.__new__  # A NamedTuple's own costs as much again.
_LENGTH = b"content-length"
_DIGITS = re.compile(rb"[0-9]{1,9}")


class Repeat:
    """A parsed request that the next one is compared with: the bytes after the request line, and
    their fields.

    `used`: whether any request has repeated them.
    """

    __slots__ = (
        "_data",
        "_fields",
        "_head",
        "_heeded",
        "_length",
        "_length_place",
        "_lines",
        "_longest",
        "_same",
        "_section",
        "_varying",
        "headers",
        "raw_headers",
        "used",
    )

    def __init__(
        self,
        section: bytes,
        lines: list[bytes],
        fields: list[tuple[istr, str]],
        headers: MultiMapping[str],
        raw_headers: list[Pair],
        length: int,
        longest: int,
    ) -> None:
        """length: bytes of the body. longest: bytes of a line up to which its length need not be
        judged by the parser."""
        self.headers = headers
        self.raw_headers = raw_headers
        self.used = False
        self._data = b""
        self._head: Head | None = None
        self._section = section
        self._lines = lines
        self._fields = fields
        names = [name.lower() for name, _ in raw_headers]
        self._heeded = frozenset(place for place, name in enumerate(names) if name in HEEDED)
        self._length = length
        self._length_place = names.index(_LENGTH) if _LENGTH in names else -1
        self._longest = longest
        self._same = False
        self._varying: tuple[int, bytes, bytes] | None = None
        """The place of the one value that differed last time, and the bytes around it."""

    def taken(self, data: bytes) -> Head | None:
        """The request that `data` is, when it is one whole request with exactly these fields."""
        if data == self._data:
            return self._head
        section, length = self._section, self._length
        end = len(data) - len(section) - length
        if not data.startswith(section, end) if length else not data.endswith(section):
            return None
        match = _LINE.fullmatch(data, 0, end)
        if match is None or end > self._longest:
            return None
        self.used = True
        head = self._made(match, data[-length:] if length else None, False, False)
        if len(data) <= KEPT:
            self._data, self._head = data, head
        return head

    def _made(self, match: re.Match[bytes], body: bytes | None, varied: bool, same: bool) -> Head:
        method, target = match.groups()
        headers, raw = self.headers, self.raw_headers
        fields = method.decode(), target.decode(), headers, raw, _HTTP_11
        return _new(Head, (*fields, False, body, False, False, varied, same))

    def varied(self, data: bytes) -> Head | None:
        """The same for one with other values, which it is then that the next request is held
        against."""
        match = _LINE.match(data)
        if match is None or match.end() > self._longest:
            return None
        start = match.end()
        if not (self._takes_one_value(data, start) or self._takes_values(data, start)):
            return None
        length = self._length
        self._section = data[start : len(data) - length]
        self._data = b""  # Its fields are not those any more.
        self.headers = CIMultiDictProxy(CIMultiDict(self._fields))
        self.used = True
        return self._made(match, data[-length:] if length else None, True, self._same)

    def _takes_one_value(self, data: bytes, start: int) -> bool:
        """Adopt the fields of `data`, which begin at `start`, if they differ in nothing but the
        value that differed last time: a request id, most often."""
        if self._varying is None:
            return False
        place, before, after = self._varying
        at, end = start + len(before), len(data) - len(after)
        if (
            not data.endswith(after)
            or not data.startswith(before, start)
            or end - start > self._longest
            or PLAIN_VALUE.fullmatch(data, at, end) is None
        ):
            return False
        value = data[at:end]
        name = self.raw_headers[place][0]
        self._lines[place] = b"%b: %b" % (name, value)
        self._fields[place] = (self._fields[place][0], value.decode())
        self.raw_headers = self.raw_headers.copy()
        self.raw_headers[place] = (name, value)
        return True

    def _takes_values(self, data: bytes, start: int) -> bool:
        """Adopt the fields of `data` if they have the same names, and plain values."""
        end = data.find(_END, start + 2) + 4  # Not at `start`: there are fields.
        if end < 4 or data[start : start + 2] != _CRLF:
            return False
        lines, known = data[start + 2 : end - 4].split(_CRLF), self._lines
        if len(lines) != len(known):
            return False
        fields, raw, length = self._fields.copy(), self.raw_headers.copy(), self._length
        places = list(compress(count(), map(ne, lines, known)))
        for place in places:
            line = lines[place]
            plain = PLAIN_FIELD.fullmatch(line)
            if plain is None or len(line) > self._longest:
                return False
            name, value = plain.groups()
            if name != raw[place][0]:
                return False
            if place in self._heeded:
                if place != self._length_place or _DIGITS.fullmatch(value) is None:
                    return False
                length = int(value)
            fields[place] = (fields[place][0], value.decode())
            raw[place] = (name, value)
        if len(data) != end + length:
            return False
        self._lines, self._fields, self.raw_headers, self._length = lines, fields, raw, length
        self._same = all(lower(raw[place][0]) == b"x-request-id" for place in places)
        self._varying = None
        if len(places) == 1 and places[0] not in self._heeded and not length:
            (place,) = places
            before = _CRLF.join((b"", *lines[:place], raw[place][0] + b": "))
            self._varying = (place, before, _CRLF.join((b"", *lines[place + 1 :], b"", b"")))
        return True


class Opening:
    """A first request. Connections of one sender that begin with it share its memo."""

    __slots__ = ("_memo", "_sender", "head")

    def __init__(self, head: Head) -> None:
        self.head = head
        self._sender: tuple[object, ...] = ()
        self._memo: dict[Any, Any] = {}

    def memo(self, *sender: object) -> dict[Any, Any]:
        """Return the memo of its fields (see Exchange.memo); that of the last sender is kept.

        sender: all that a memo depends on besides the fields.
        """
        if sender != self._sender:
            self._sender, self._memo = sender, {}
        return self._memo


class Openings:
    """First requests of connections, by their bytes: the same bytes are not parsed again.

    What the parser makes of a whole request without a body that it is shown first depends on
    nothing but its bytes and the limits, which are the same for all codecs that share this.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Opening] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, data: bytes) -> Opening | None:
        """Return the first request that `data` is, if other connections have begun with it."""
        return self._known.get(data)

    def learn(self, data: bytes, head: Head) -> None:
        """Remember the request that was parsed from exactly `data`; forget the oldest."""
        if head.upgrade or head.more or head.body is not None or len(data) > KEPT:
            return
        if _LINE.match(data) is None or data.find(_END) != len(data) - 4:
            return
        if len(self._known) >= OPENINGS:
            del self._known[next(iter(self._known))]
        self._known[data] = Opening(head)


def repeatable(data: bytes, head: Head, longest: int) -> Repeat | None:
    """Return a Repeat of the request that was parsed from exactly `data`; None if the next must be
    parsed anyway."""
    if head.close or head.upgrade or head.more:
        return None
    match = _LINE.match(data)
    if match is None:
        return None
    length = len(head.body) if head.body is not None else 0
    section = data[match.end() : len(data) - length]
    if section[:2] != _CRLF or section.find(_END, 2) != len(section) - 4:
        return None
    stated = [value for name, value in head.raw_headers if name.lower() == _LENGTH]
    if (
        len(stated) > 1
        or (length and not stated)
        or (stated and (_DIGITS.fullmatch(stated[0]) is None or int(stated[0]) != length))
    ):
        return None
    lines = section[:-4][2:].split(_CRLF)
    fields = [(istr(name), value) for name, value in head.headers.items()]
    if len(lines) != len(fields):
        return None
    return Repeat(section, lines, fields, head.headers, list(head.raw_headers), length, longest)
