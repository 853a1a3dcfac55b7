"""Cache-Status (RFC 9211): why a request went to the origin, and what came of it."""

from __future__ import annotations

from functools import lru_cache

_WHYS = ("bypass", "method", "uri-miss", "vary-miss", "partial", "stale", "request")
FORWARDED = {why: f"Cache-Status: gateway; fwd={why}\r\n".encode() for why in _WHYS}
STORED = {why: f"Cache-Status: gateway; fwd={why}; stored\r\n".encode() for why in _WHYS}
REVALIDATED = {
    why: f"Cache-Status: gateway; fwd={why}; fwd-status=304\r\n".encode() for why in _WHYS
}
WORD = {
    "bypass": "bypass",
    "request": "bypass",
    "stale": "expired",
    "uri-miss": "miss",
    "vary-miss": "miss",
    "partial": "miss",
}
"""`exchange.cache` for a request that goes to the origin.

Its answer may make it "revalidated" or "stale".
"""


def stored(age: int, lifetime: float, how: bytes = b"hit", detail: bytes = b"") -> bytes:
    """The lines for a stored response, and `how` it was found (RFC 9211 section 2)."""
    left = int(lifetime) - age
    return b"Age: %d\r\nCache-Status: gateway; %b; ttl=%d%b\r\n" % (age, how, left, detail)


@lru_cache(maxsize=256)
def forwarded(why: str, refused: str) -> bytes:
    """The line for an answer that is not stored, with the reason (RFC 9211 section 2.8)."""
    if not refused:
        return FORWARDED[why]
    return f"Cache-Status: gateway; fwd={why}; detail={refused}\r\n".encode()
