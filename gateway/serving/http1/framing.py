"""The rules for a request's head before a route is looked for: RFC 9112 and RFC 9110, each with its
section.

aiohttp's parser (llhttp, strict) has refused by now what is no HTTP at all: bare LF and CR,
obs-fold, white space before a colon, control bytes, signs in numbers, chunk sizes that are none.
What it lets pass although two readers could differ is decided here, and only here. Nothing here
does I/O or knows routes. docs/http.md has the rules as a table, and what other proxies do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv6Address

from gateway.core.failures import Failed, Failure
from gateway.core.headers import Memo, Pair

LONGEST_BODY = 2**63 - 1
"""Bytes. What a signed 64-bit reader can count (RFC 9112 section 6.3: a recipient must anticipate
overflow)."""

SHOWN = 100
"""Bytes of a value that operators are shown."""

NAMED_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI")
)

_LENGTH = re.compile(rb"[0-9]{1,19}")
_REG_NAME = re.compile(r"(?:[a-z0-9._~!$&'()*+;=-]|%[0-9a-f]{2})+", re.IGNORECASE)
"""RFC 3986 section 3.2.2, without the comma: lists of hosts are what a merged second Host field
looks like."""
_PORT = re.compile(r"[0-9]{0,5}")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_UNSAFE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_HOPS = re.compile(r"[0-9]{1,10}")
_READ = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
_JUDGED = Memo(lambda name: name.lower() if name.lower() in _READ else b"")
"""The lower case of a name that frames or addresses a message, b"" for any other."""


def check_fields(version: tuple[int, int], raw_headers: Sequence[Pair]) -> str | None:
    """Checks what frames and addresses a message; returns the Host field's host (lower case, no
    port), None without one.

    It depends on the version and the fields alone, so a connection that repeats them asks once.
    Raises Failed.
    """
    host: bytes | None = None
    length: bytes | None = None
    coding: bytes | None = None
    expected = False
    for name, value in raw_headers:
        key = _JUDGED[name]
        if not key:
            continue
        if key == b"host":
            # RFC 9112 section 3.2: more than one line is 400, even when they agree.
            if host is not None:
                raise _malformed("There is more than one Host field.", host, value)
            host = value
        elif key == b"content-length":
            # RFC 9112 section 6.3 rule 5 lets equal ones pass; RFC 9110 section 8.6 lets us refuse.
            if length is not None:
                raise _malformed("There is more than one Content-Length field.", length, value)
            length = value
        elif key == b"transfer-encoding":
            if coding is not None:
                raise _malformed("There is more than one Transfer-Encoding field.", coding, value)
            coding = value
        elif key == b"expect":
            expected = _check_expectation(expected, value)
    if _UNSAFE.search(b" ".join([value for _, value in raw_headers])):  # RFC 9110 section 5.5
        names = [name for name, value in raw_headers if _UNSAFE.search(value)]
        raise _malformed("A field value holds a control character.", *names[:1])
    if length is not None:
        _check_length(length)
    if coding is not None:
        _check_coding(version, coding, length)
    if host is None:
        if version >= (1, 1):  # RFC 9112 section 3.2; HTTP/1.0 knows no Host.
            raise Failed(Failure.MALFORMED, "The Host field is missing.")
        return None
    return _HOSTS[host]


def _check_length(value: bytes) -> None:
    """RFC 9110 section 8.6: digits, nothing else; a list of equal ones is refused too."""
    if _LENGTH.fullmatch(value) is None or int(value) > LONGEST_BODY:
        raise _malformed("Content-Length is not a length.", value)


def _check_coding(version: tuple[int, int], value: bytes, length: bytes | None) -> None:
    """RFC 9112 section 6.1: only `chunked`, only in HTTP/1.1, never beside Content-Length."""
    if version < (1, 1):
        raise _malformed("HTTP/1.0 has no Transfer-Encoding.", value)
    if length is not None:  # Section 6.3 rule 3: may be an attempt at smuggling.
        raise _malformed("There are both Transfer-Encoding and Content-Length.", value, length)
    if value.lower() != b"chunked":  # Empty, `chunked,` and `identity` included.
        raise _malformed("The only transfer coding understood is chunked.", value)


def _check_expectation(before: bool, value: bytes) -> bool:
    """RFC 9110 section 10.1.1."""
    if before or value.strip().lower() != b"100-continue":
        detail = "Expect may only say 100-continue."
        raise Failed(Failure.EXPECTATION_FAILED, detail, why=_shown(detail, value))
    return True


def _malformed(detail: str, *values: bytes) -> Failed:
    return Failed(Failure.MALFORMED, detail, why=_shown(detail, *values))


def _shown(detail: str, *values: bytes) -> str:
    """Return a rule and what does not keep to it, in words for operators."""
    given = " and ".join(repr(value[:SHOWN].decode("latin-1")) for value in values)
    return f"{detail[:-1]}: {given}"


def authority(value: str, complaint: str) -> str:
    """The host of `host[:port]`, lower case (RFC 9110 section 7.2); userinfo is no part of it
    (section 4.2.4). Raises Failed."""
    if value.startswith("["):
        address, bracket, port = value[1:].partition("]")
        try:
            host = f"[{IPv6Address(address)}]"  # In its one spelling, which `hosts` are kept in.
        except AddressValueError:
            host = bracket = ""
        sound = bracket == "]" and "%" not in address and (not port or port.startswith(":"))
        port = port[1:]
    else:
        host, _, port = value.partition(":")
        sound = _REG_NAME.fullmatch(host) is not None
    if not sound or _PORT.fullmatch(port) is None or (port and int(port) > 65535):
        raise _malformed(complaint, value.encode("latin-1", "replace"))
    return host.lower()


_HOSTS = Memo(
    lambda value: authority(value.decode("latin-1"), "The Host field is not a host."), longest=256
)
"""The host in a Host field's value, remembered for sound values."""


def absolute(target: str) -> tuple[str, str]:
    """Authority and origin-form of a target in absolute-form (RFC 9112 section 3.2.2). Raises
    Failed for any other form."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise _malformed("The request target must be a path.", target.encode("utf-8", "replace"))
    rest = match[2]
    return match[1], rest if rest.startswith("/") else "/" + rest


def check_version(version: tuple[int, int]) -> None:
    """RFC 9112 section 2.3: HTTP/1.0 and HTTP/1.1 are spoken here. Raises Failed."""
    if version not in ((1, 1), (1, 0)):
        why = "HTTP/{}.{} is neither HTTP/1.0 nor HTTP/1.1".format(*version)
        detail = "The gateway speaks HTTP/1.0 and HTTP/1.1."
        raise Failed(Failure.VERSION_NOT_SUPPORTED, detail, why=why)


def hops(values: Sequence[str]) -> int | None:
    """Max-Forwards, for OPTIONS and TRACE (RFC 9110 section 7.6.2); None without one. Raises
    Failed."""
    if not values:
        return None
    if len(values) > 1 or _HOPS.fullmatch(values[0]) is None:
        given = ", ".join(values).encode("utf-8", "replace")
        raise _malformed("Max-Forwards is not a number.", given)
    return int(values[0])


def behind(data: bytes, lengths: Iterable[int]) -> bytes | None:
    """Return what comes in `data` behind requests with bodies of these lengths, none in chunks;
    None if a head has no end."""
    at = 0
    for length in lengths:
        while data.startswith(b"\r\n", at):  # RFC 9112 section 2.2: empty lines before it.
            at += 2
        end = data.find(b"\r\n\r\n", at)
        if end < 0:
            return None
        at = end + 4 + length
    return data[at:]
