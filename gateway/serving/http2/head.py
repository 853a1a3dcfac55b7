"""From the fields of an HTTP/2 request to what the way knows of one, or its refusal. Pure.

libnghttp2 has refused by now, by resetting the stream, what RFC 9113 section 8 calls malformed:
pseudo-fields that are missing, unknown, doubled or out of place, names in upper case, fields of a
connection, CR, LF and NUL in values, a body that is not as long as its Content-Length. What it
lets pass although an HTTP/1.1 reader behind the gateway could take it for something else is decided
here, together with http1/framing.py, whose rules hold for the fields of both versions.

The way knows a request in the shape of HTTP/1.1: `:authority` is Host, cookie crumbs are one field
(section 8.2.3), and `TE: trailers`, which needs no Connection here, is named in one.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from itertools import compress, count
from operator import ne
from secrets import token_bytes
from typing import Any, Final, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.failures import Failed, Failure
from gateway.core.headers import PLAIN_VALUE, Pair
from gateway.serving.admission import FRAMING
from gateway.serving.http1.disguise import TOKEN
from gateway.serving.http1.framing import check_fields
from gateway.serving.http1.limits import Limits
from gateway.serving.http1.repeats import HEEDED

VERSION: Final = (2, 0)
_METHOD = re.compile(TOKEN)
_TARGET = re.compile(rb"[\x21-\x7e]+")
_USUAL: Final = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}
_SCHEMES = (b"http", b"https")
_TRAILERS = (b"connection", b"TE")
_new: Final = tuple.__new__  # A NamedTuple's own costs as much again.


class Http2Head(NamedTuple):
    """A request's head. memo: see Exchange.memo; requests with the same fields share it.

    switching: it is an extended CONNECT for a WebSocket (RFC 8441), here as a handshake of
    HTTP/1.1.
    """

    method: str
    target: str
    headers: CIMultiDictProxy[str]
    raw_headers: Sequence[Pair]
    memo: dict[Any, Any]
    switching: bool


class HeadReader:
    """One connection's: requests that repeat the fields of the one before, but for the path, are
    read at once. Of those that repeat their names, values alone are judged."""

    __slots__ = (
        "_authority",
        "_before",
        "_behind",
        "_fields",
        "_head",
        "_headers",
        "_limits",
        "_max_list",
        "_memo",
        "_number",
        "_path",
        "_raw",
        "_size",
        "_straight",
        "_target",
    )

    def __init__(self, limits: Limits, max_list: int) -> None:
        """max_list: bytes of all fields together."""
        self._limits = limits
        self._max_list = max_list
        self._authority = b""
        self._fields: tuple[Pair, ...] | None = None
        self._raw: Sequence[Pair] = ()
        self._size = 0
        self._straight = False  # `_raw` is Host and `_fields`, as they stand there.
        self._headers: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
        self._memo: dict[Any, Any] = {}
        self._number = 0
        # The request before: its fields around the path, whose place this is, and what it came to.
        self._path = 0
        self._before: tuple[Pair, ...] | None = None
        self._behind: tuple[Pair, ...] = ()
        self._target = b""
        self._head: Http2Head | None = None

    def read(self, fields: tuple[Pair, ...], number: int) -> Http2Head:
        """Return the head that `fields` are. number: of the snapshot in force, whose memos are its
        own. Raises Failed."""
        at = self._path
        if (
            fields[:at] != self._before
            or fields[at + 1 :] != self._behind
            or number != self._number
        ):
            return self._read(fields, number)
        head, target = self._head, fields[at][1]
        assert head is not None
        if target != self._target:
            method, _, *rest = head
            self._check_target(method, target)
            head = self._head = _new(Http2Head, (method, target.decode(), *rest))
            self._target = target
        return head

    def _read(self, fields: tuple[Pair, ...], number: int) -> Http2Head:
        """The same for one that repeats less."""
        self._before = None
        # libnghttp2 has seen to it that these come first, once each.
        count = path = 0
        method = target = scheme = authority = protocol = b""
        for name, value in fields:
            if name == b":method":
                method = value
            elif name == b":path":
                target, path = value, count
            elif name == b":authority":
                authority = value
            elif name == b":scheme":
                scheme = value
            elif name == b":protocol":
                protocol = value
            else:
                break
            count += 1
        named = _USUAL.get(method)
        if named is None:
            if _METHOD.fullmatch(method) is None:
                raise Failed(Failure.MALFORMED, "The method is not a token.")
            named = method.decode()
        if method != b"CONNECT" or protocol:
            self._check_target(named, target)
            if scheme not in _SCHEMES:
                raise Failed(Failure.MALFORMED, "The scheme must be http or https.")
        regular = fields[count:]
        if authority != self._authority or number != self._number:
            self._fields = None
        if regular != self._fields:
            if self._fields is None or not self._takes_values(self._fields, regular):
                self._fields = None
                self._take(authority, regular)
            self._authority, self._fields, self._number = authority, regular, number
        if protocol:
            return self._handshake(protocol, target)
        head = Http2Head(named, target.decode(), self._headers, self._raw, self._memo, False)
        if method != b"CONNECT":
            self._head, self._target, self._path = head, target, path
            self._before, self._behind = fields[:path], fields[path + 1 :]
        return head

    def _handshake(self, protocol: bytes, target: bytes) -> Http2Head:
        """An extended CONNECT as the handshake that an endpoint knows. Raises Failed."""
        if protocol != b"websocket":
            raise Failed(Failure.MALFORMED, "The only protocol that is tunnelled is websocket.")
        raw = [pair for pair in self._raw if pair[0] != b"sec-websocket-key"]
        raw += (
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-key", b64encode(token_bytes(16))),
        )
        # A request before it may have had the same fields, but not those of a handshake.
        memo = {FRAMING: self._memo[FRAMING]}
        return Http2Head("GET", target.decode(), _decoded(raw), raw, memo, True)

    def _check_target(self, method: str, target: bytes) -> None:
        """Only a path, or `*` for OPTIONS: an absolute form has no place here (section 8.3.1)."""
        if (
            target[:1] == b"/"
            and len(target) <= self._limits.max_line
            and _TARGET.fullmatch(target) is not None
        ):
            return
        if len(target) > self._limits.max_line:
            raise Failed(
                Failure.URI_TOO_LONG,
                f"The request target may have at most {self._limits.max_line} bytes.",
            )
        if _TARGET.fullmatch(target) is None:
            byte = next((byte for byte in target if not 0x21 <= byte <= 0x7E), None)
            detail = (
                "The request has no path."
                if byte is None
                else f"The request target holds the byte 0x{byte:02X}, which has to be "
                f"percent-encoded: %{byte:02X}."
            )
            raise Failed(Failure.MALFORMED, detail)
        if target != b"*" or method != "OPTIONS":
            raise Failed(Failure.MALFORMED, "The request target must be a path.")

    def _takes_values(self, known: Sequence[Pair], regular: Sequence[Pair]) -> bool:
        """Adopt fields that differ from those known in nothing but values, of the plainest kind and
        of fields that neither frame nor address a message: http1/repeats.py has the reasons."""
        if not self._straight or len(known) != len(regular):
            return False
        headers, raw, size = CIMultiDict(self._headers), [*self._raw], self._size
        hosts, same = len(raw) - len(regular), True
        for place in compress(count(), map(ne, regular, known)):
            pair = name, value = regular[place]
            text = name.decode()
            if (
                name != known[place][0]
                or name in HEEDED
                or len(name) + len(value) > self._limits.max_field
                or PLAIN_VALUE.fullmatch(value) is None
                or len(headers.getall(text)) > 1
            ):
                return False
            size += len(value) - len(known[place][1])
            headers[text], raw[hosts + place] = value.decode(), pair
            same = same and name == b"x-request-id"
        if size > self._max_list:
            return False
        self._headers, self._raw, self._size = CIMultiDictProxy(headers), raw, size
        if not same:
            self._memo = {FRAMING: self._memo[FRAMING]}
        return True

    def _take(self, authority: bytes, regular: Sequence[Pair]) -> None:
        """Read fields that differ from those before. Raises Failed."""
        limits = self._limits
        if len(regular) > limits.max_fields:
            raise Failed(Failure.HEADERS_TOO_LARGE, "There are too many header fields.")
        raw: list[Pair] = [(b"host", authority)] if authority else []
        crumbs: list[bytes] = []
        size = 0
        for pair in regular:
            name, value = pair
            long = len(name) + len(value)
            size += long
            if long > limits.max_field:
                raise Failed(Failure.HEADERS_TOO_LARGE, "A header field is too long.")
            if name == b"cookie":
                crumbs.append(value)
            elif name == b"host" and authority:
                # Section 8.3.1: another host than that of :authority makes a request malformed.
                if value.lower() != authority.lower():
                    raise Failed(Failure.MALFORMED, "Host and :authority differ.")
            elif name == b"te":
                raw += (pair, _TRAILERS)
            else:
                raw.append(pair)
        if size > self._max_list:
            raise Failed(Failure.HEADERS_TOO_LARGE, "The request's head is too large.")
        if crumbs:
            raw.append((b"cookie", b"; ".join(crumbs)))
        host = check_fields((1, 1), raw)
        self._size = size
        self._straight = raw[bool(authority) :] == [*regular]
        self._raw = raw
        self._headers = _decoded(raw)
        self._memo = {FRAMING: (VERSION, host or "")}


def _decoded(raw: Sequence[Pair]) -> CIMultiDictProxy[str]:
    """Fields as text, like those of aiohttp's parser."""
    return CIMultiDictProxy(
        CIMultiDict(
            [(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in raw]
        )
    )
