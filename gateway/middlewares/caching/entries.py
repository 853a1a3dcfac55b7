"""A stored response, as requests are answered from it. Where such are kept is memory.py."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.core.headers import Pair, lower

Names = tuple[str, ...]
Values = tuple[str, ...]

ENTRY_OVERHEAD = 1400
HEADER_OVERHEAD = 180
"""Bytes that an entry, and each of its header fields, take beyond what they hold.

Measured with tracemalloc.
"""
TAG_OVERHEAD = 40
"""Bytes of a tag: a number, and its place in a tuple."""


class Entry(NamedTuple):
    """A stored response; immutable, so that what is prepared from it stays true.

    uri:      scheme, authority and target. scope: who it is for, e.g. the route's name, or that and
              an identity.
    vary:     lower-case names of the request fields it depends on, and `key` their values then.
    headers:  raw pairs without Age, Cache-Status and fields of one hop; `fields` is the same
              as Reply's index of them, and `lines` are they as they go over the wire.
    born:     the monotonic second at which its age was 0. lifetime: seconds it is fresh from then.
    no_cache: never to be used without asking the origin. strict: never to be used stale.
    stale_if_error: seconds it may stand in for an error once stale, None where the origin does not
        say. stale_while_revalidate: seconds it may then be used while the origin is asked.
    date:     its Date, in seconds since 1970. etag and last_modified are its validators, as
              written.
    tags:     by which it may be purged, as `purges.tag_buckets` gives them.
    total:    of a part, how long all of it is; its body begins at byte `start`. 0 for what is
              whole.
    """

    uri: str
    scope: Hashable
    vary: Names
    key: Values
    status: int
    reason: bytes
    headers: Sequence[Pair]
    fields: Mapping[bytes, bytes]
    lines: bytes
    body: bytes
    born: float
    lifetime: float
    date: int
    no_cache: bool = False
    strict: bool = False
    stale_if_error: int | None = None
    stale_while_revalidate: int | None = None
    etag: bytes | None = None
    last_modified: bytes | None = None
    tags: tuple[int, ...] = ()
    start: int = 0
    total: int = 0

    @property
    def size(self) -> int:
        """Bytes it counts for: its body, fields and key, and what Python adds."""
        fields = 2 * len(self.lines)  # As lines and as pairs.
        key = len(self.uri) + weight(self.key) + weight(self.scope)
        own = len(self.body) + fields + len(self.headers) * HEADER_OVERHEAD + ENTRY_OVERHEAD
        return own + key + len(self.tags) * TAG_OVERHEAD


def weight(part: object) -> int:
    """Bytes of a part of a key that strangers may have written: what tuples and the like hold.

    A name alone is a route's, and there once.
    """
    if not isinstance(part, (tuple, frozenset)):
        return 0
    return sum(len(one) if isinstance(one, (str, bytes)) else weight(one) for one in part)


def line_block(headers: Iterable[Pair]) -> bytes:
    """The fields as they go over the wire."""
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)


def indexed(headers: Iterable[Pair]) -> dict[bytes, bytes]:
    """The fields by lower-case name, lines of one joined, as Reply keeps them."""
    index: dict[bytes, bytes] = {}
    for name, value in headers:
        key = lower(name)
        index[key] = index[key] + b", " + value if key in index else value
    return index
