"""An answer's header fields: what goes on to the client, and the framing that stays here."""

from __future__ import annotations

from gateway.core.headers import HOP_BY_HOP, Memo, Pair, lower, tokens

MAX_HEAD = 64 * 1024
"""Bytes that the status line and the fields of an answer may take."""
MAX_FIELDS = 256
MAX_LENGTH = 2**63 - 1
"""The largest Content-Length; beyond it other parsers count differently (RFC 9110 section 8.6)."""

_NOT_COPIED = HOP_BY_HOP - {b"trailer"} | {b"content-length"}
_COPIED = Memo(lambda name: b"" if name.lower() in _NOT_COPIED else name.lower())
"""The lower case of a name that goes on to the client, b"" for one that is only understood."""


class InvalidAnswer(Exception):
    """An answer breaks the protocol; str() says how."""


Understood = tuple[list[Pair], dict[bytes, bytes], tuple[int, bytes], int | None, bytes, bytes]
"""Fields that go on to the client, their index and their joined lines; then the values of
Content-Length, Transfer-Encoding and Connection (lower case)."""


def understand(fields: list[Pair]) -> Understood:
    """Sort an answer's fields in one pass: drop hop-by-hop ones and framing, keep the rest as they
    came.

    Raises InvalidAnswer.
    """
    length: int | None = None
    coding = connection = b""
    headers: list[Pair] = []
    index: dict[bytes, bytes] = {}
    parts: list[bytes] = []
    for pair in fields:
        raw, value = pair
        name = _COPIED[raw]
        if not name:
            name = raw.lower()
            if name == b"content-length":
                length = int(value)
                if length > MAX_LENGTH:
                    raise InvalidAnswer(f"a Content-Length of {length}")
            elif name == b"transfer-encoding":
                # Not tabs: behind one the parser no longer knows its "chunked", so that must not be
                # read here either.
                value = value.strip(b" ").lower()
                coding = coding + b"," + value if coding else value
            elif name == b"connection" or (
                name == b"proxy-connection" and b"close" in value.lower()
            ):
                connection = connection + b"," + value.lower() if connection else value.lower()
            continue
        headers.append(pair)
        parts += (raw, b": ", value, b"\r\n")
        index[name] = value if name not in index else index[name] + b", " + value
    if connection and connection not in (b"close", b"keep-alive"):
        # RFC 9110 section 7.6.1: what Connection names is hop-by-hop too.
        named = tokens(connection)
        headers = [pair for pair in headers if lower(pair[0]) not in named]
        index = {name: value for name, value in index.items() if name not in named}
        parts = [b"%b: %b\r\n" % pair for pair in headers]
    lines = b"".join(parts)
    if len(lines) > MAX_HEAD:
        raise InvalidAnswer(f"a head of over {MAX_HEAD} bytes")
    return headers, index, (len(headers), lines), length, coding, connection
