"""Replies as fields of HTTP/2 (RFC 9113 section 8.3.2). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import HOP_BY_HOP, NOT_TRAILERS, Pair, check_field, lower, takes_trailers
from gateway.protocols.http2.session import NeverIndexed
from gateway.serving.http1.write import date_line

_NO_CONTENT: Final = (204, 304)
_new: Final = tuple.__new__  # A NamedTuple's own costs as much again.


class _Fields(dict[Pair, tuple[Pair, ...]]):
    """Fields as they are sent: in lower case, none of a connection (section 8.2.2), at most MOST of
    up to LONGEST bytes remembered. `fields[pair]` raises UnsafeField for what a hook set and no
    field may hold."""

    MOST: Final = 1024
    LONGEST: Final = 256

    def __missing__(self, field: Pair) -> tuple[Pair, ...]:
        name, value = field
        check_field(name, value)
        key = lower(name)
        made = () if key in HOP_BY_HOP and key != b"trailer" else ((key, value.strip(b" \t")),)
        if len(name) + len(value) <= self.LONGEST:
            if len(self) >= self.MOST:
                self.clear()
            self[field] = made
        return made


class _Blocks(dict[bytes, tuple[Pair, ...]]):
    """Complete lines of HTTP/1.1 as fields, remembered likewise."""

    LONGEST: Final = 1024

    def __missing__(self, block: bytes) -> tuple[Pair, ...]:
        made: list[Pair] = []
        for line in block.split(b"\r\n"):
            if line:
                name, _, value = line.partition(b":")
                made += _FIELDS[name, value.strip(b" \t")]
        return self.keep(block, made)

    def keep(self, block: bytes, fields: list[Pair]) -> tuple[Pair, ...]:
        """Remember that these lines are these fields."""
        made = tuple(fields)
        if len(block) <= self.LONGEST:
            if len(self) >= _Fields.MOST:
                self.clear()
            self[block] = made
        return made


_FIELDS = _Fields()
_BLOCKS: Final = _Blocks()
_VIA: Final = {
    version: (b"via", f"{version} gateway".encode()) for version in ("1.0", "1.1", "2.0")
}
_STATUSES: Final = {status: (b":status", b"%d" % status) for status in range(100, 600)}


def head_fields(exchange: Exchange, reply: Reply, length: int | None) -> list[Pair]:
    """The fields of a final answer. length: what Content-Length says; None leaves it out. Raises
    UnsafeField."""
    index = reply.index
    if b"x-request-id" in index:
        reply.remove(b"x-request-id")
    if b"trailer" in index and not takes_trailers(exchange.headers):
        reply.remove(b"trailer")
    made = [_STATUSES.get(reply.status) or (b":status", b"%d" % reply.status)]
    headers, joined = reply.headers, reply.joined
    if joined is not None:
        count, lines = joined
        known = _BLOCKS.get(lines)
        if known is None:
            known = _BLOCKS.keep(lines, [one for pair in headers[:count] for one in _FIELDS[pair]])
        made += known
        headers = headers[count:]
    for pair in headers:
        made += _FIELDS[pair]
    for block in reply.blocks:
        made += _BLOCKS[block]
    for block in exchange.reply_blocks or ():
        made += _BLOCKS[block]
    if b"date" not in index:
        made += _BLOCKS[date_line()]
    if length is not None:
        made.append((b"content-length", b"%d" % length))
    made += (
        _VIA.get(reply.version) or (b"via", f"{reply.version} gateway".encode()),
        # No other has it: HPACK's table, and the search in it, are better off without.
        _new(NeverIndexed, (b"x-request-id", exchange.request_id.encode())),
    )
    return made


def stated_length(exchange: Exchange, reply: Reply) -> tuple[int | None, bool]:
    """Return what Content-Length is to say of a reply whose body is complete, and whether the body
    goes out.

    RFC 9110 section 8.6: to HEAD, and with 304, the length a GET would have had, where that is
    known; never with 204 and 1xx.
    """
    status = reply.status
    if exchange.method == "HEAD" or status in _NO_CONTENT:
        size = reply.length
        if size is None or status == 204 or (status == 304 and size == 0):
            return None, False
        return size, False
    return len(reply.body), bool(reply.body)  # type: ignore[arg-type]


def interim_fields(status: int, pairs: Iterable[Pair]) -> list[Pair]:
    """An interim answer (RFC 9110 section 15.2)."""
    made: list[Pair] = [(b":status", b"%d" % status)]
    for pair in pairs:
        made += _FIELDS[pair]
    return made


def trailer_fields(exchange: Exchange, trailers: Iterable[Pair]) -> list[Pair]:
    """The trailers that this client takes: none unless it says that it takes any, and none that
    belong before the body."""
    if not trailers or not takes_trailers(exchange.headers):
        return []
    return [
        field for pair in trailers if lower(pair[0]) not in NOT_TRAILERS for field in _FIELDS[pair]
    ]
