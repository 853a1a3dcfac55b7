"""Parts of a response: what a Range asks for, what a Content-Range says, what parts add up to.

A part is stored as the response that it is one of, with the bytes that are known; where a response
is whole, later parts only freshen it. Only one range of bytes at a time is understood (RFC 9110
section 14); what asks for several, or in other units, is the origin's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.core.exchange import Reply
from gateway.middlewares.caching.entries import Entry, indexed, line_block
from gateway.middlewares.caching.rules import policy
from gateway.middlewares.caching.rules.directives import date_of, entity_tag

_RANGE = re.compile(rb"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)
_CONTENT_RANGE = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)

_APART = 60
"""Seconds between Last-Modified and Date from which on the former is strong (RFC 9110 section
8.8.2.2)."""


class Range(NamedTuple):
    """The bytes from `first` to `last`, both counted in; to the end without a `last`; the last
    `last` ones without a `first`."""

    first: int | None
    last: int | None


class Span(NamedTuple):
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int


def range_of(value: bytes) -> Range | None:
    """What a Range field asks for; None for several parts, other units and what is no range."""
    match = _RANGE.fullmatch(value)
    if match is None:
        return None
    first, last = (int(digits) if digits else None for digits in match.groups())
    if (first is None and last is None) or (
        first is not None and last is not None and last < first
    ):
        return None
    return Range(first, last)


def span_of(asked: Range, total: int) -> Span | None:
    """The bytes a range stands for in a representation of `total`; None if it has none of them."""
    first, last = asked
    if first is None:
        assert last is not None
        return Span(max(total - last, 0), total) if last and total else None
    if first >= total:
        return None
    return Span(first, total if last is None else min(last + 1, total))


def content_range(value: bytes | None) -> tuple[Span, int] | None:
    """Which bytes a 206 has, and of how many; None where that is not said."""
    match = None if value is None else _CONTENT_RANGE.fullmatch(value)
    if match is None:
        return None
    first, last, total = map(int, match.groups())
    return (Span(first, last + 1), total) if first <= last < total else None


def is_heeded(
    if_range: bytes | None, etag: bytes | None, last_modified: bytes | None, date: int
) -> bool:
    """Return True if a part may be sent of what has these validators (RFC 9110 section 13.1.5).

    Otherwise the client gets all of it.
    """
    if if_range is None:
        return True
    tag = entity_tag(if_range)
    if tag is not None:
        return is_strong(tag) and tag == etag
    since, changed = date_of(if_range), date_of(last_modified)
    return since is not None and since == changed and date - changed >= _APART


def is_strong(etag: bytes | None) -> bool:
    """Return True for an entity tag by which parts may be put together (RFC 9111 section 3.4)."""
    return etag is not None and not etag.startswith(b"W/")


def joined(old: bytes, old_start: int, new: bytes, new_start: int) -> tuple[int, bytes] | None:
    """Two parts of one representation as one, and where it begins; None with a gap between them."""
    old_stop, new_stop = old_start + len(old), new_start + len(new)
    if new_start > old_stop or old_start > new_stop:
        return None
    before = old[: max(new_start - old_start, 0)]
    after = old[max(new_stop - old_start, 0) :]
    return min(old_start, new_start), before + new + after


def covers(entry: Entry, method: str, fields: Mapping[bytes, bytes]) -> bool:
    """Return True if the stored bytes are all that a request with these fields asks for."""
    if not entry.total:
        return True
    asked = range_of(fields.get(b"range", b"")) if method == "GET" else None
    if asked is None or not is_heeded(
        fields.get(b"if-range"), entry.etag, entry.last_modified, entry.date
    ):
        return False
    span = span_of(asked, entry.total)
    # That it has none of them can be said as well.
    return span is None or (
        entry.start <= span.start and span.stop <= entry.start + len(entry.body)
    )


def cut(reply: Reply, entry: Entry, fields: Mapping[bytes, bytes]) -> None:
    """Make a reply out of `entry` the part of it that the request asks for: 206, or 416."""
    asked = range_of(fields.get(b"range", b""))
    total = entry.total or len(entry.body)
    if (
        asked is None
        or not total
        or not is_heeded(fields.get(b"if-range"), entry.etag, entry.last_modified, entry.date)
    ):
        return
    span = span_of(asked, total)
    if span is None:
        reply.status, reply.reason, reply.body = 416, b"", b""
        reply.remove(b"content-type", b"content-encoding", b"content-language")
        reply.set(b"Content-Range", b"bytes */%d" % total)
    else:
        reply.status, reply.reason = 206, b""
        reply.body = entry.body[span.start - entry.start : span.stop - entry.start]
        reply.set(b"Content-Range", b"bytes %d-%d/%d" % (span.start, span.stop - 1, total))
    reply.length = len(reply.body)


def combined(new: Entry, old: Entry | None) -> Entry | None:
    """A part that came, with what is stored already (RFC 9111 section 3.4).

    None when what is stored is to stay as it is.
    """
    if old is None or (old.status, old.scope, old.key) != (200, new.scope, new.key):
        return new
    total = old.total or len(old.body)
    if not (is_strong(new.etag) and new.etag == old.etag and new.total == total):
        # Without tags that differ, all of it is worth more than a part.
        return new if old.total or (new.etag and old.etag and new.etag != old.etag) else None
    found = joined(old.body, old.start, new.body, new.start)
    if found is None:
        return new
    start, body = found
    headers = tuple(policy.updated_headers(old.headers, new.headers))
    return new._replace(
        headers=headers,
        fields=indexed(headers),
        lines=line_block(headers),
        body=body,
        tags=tuple(sorted({*old.tags, *new.tags})),
        start=start,
        total=0 if len(body) == total else total,
    )
