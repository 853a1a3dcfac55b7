"""Replies out of stored responses, and stored responses out of replies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import Pair, lower, text
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.caching.entries import Entry, indexed, line_block
from gateway.middlewares.caching.lookup import Fields, Lookup, caller
from gateway.middlewares.caching.rules import policy
from gateway.middlewares.caching.rules.directives import (
    Directives,
    date_of,
    entity_tag,
    http_date,
    vary_of,
)
from gateway.middlewares.caching.rules.parts import Span, content_range, cut
from gateway.middlewares.caching.rules.targeted import control_of
from gateway.middlewares.caching.vary import can_match, changes, is_changed, secondary_key
from gateway.store.purges import tag_buckets


def reply_of(exchange: Exchange, entry: Entry, fields: Fields) -> Reply:
    """Return what the request gets of a stored response.

    All of it, its head, a part, or 304 when the client has it already.
    """
    if (
        fields
        and 200 <= entry.status < 300
        and _has_it(fields, entry.etag, entry.last_modified, entry.date)
    ):
        return _not_modified(entry.headers, entry.etag)
    body = entry.body
    reply = Reply(
        entry.status,
        (),
        b"" if exchange.method == "HEAD" else body,
        reason=entry.reason,
        length=len(body),
    )
    reply.headers = list(entry.headers)
    reply.index = dict(entry.fields)
    reply.joined = (len(reply.headers), entry.lines)
    if fields and entry.status == 200 and exchange.method == "GET":
        cut(reply, entry, fields)
    return reply


def freshened(entry: Entry, news: Reply) -> Reply:
    """The stored response with the fields of a 304, or of a HEAD's answer, that confirms it."""
    return Reply(
        entry.status,
        policy.updated_headers(entry.headers, news.headers),
        entry.body,
        reason=entry.reason,
    )


def for_client(
    exchange: Exchange, full: Reply, fields: Fields, entry: Entry | None = None
) -> Reply:
    """A complete answer as this request wants it; see `reply_of`.

    entry: the stored response that it has been made of, of which the request may want a part.
    """
    etag = entity_tag(full.get(b"etag"))
    if (
        fields
        and 200 <= full.status < 300
        and _has_it(fields, etag, full.get(b"last-modified"), date_of(full.get(b"date")) or 0)
    ):
        return _not_modified(full.headers, etag)
    if exchange.method == "HEAD":
        full.body = b""
    elif entry is not None and full.status == 200:
        cut(full, entry, fields)
    return full


def _has_it(fields: Fields, etag: bytes | None, last_modified: bytes | None, date: int) -> bool:
    if_none_match, if_modified_since = (
        fields.get(b"if-none-match"),
        fields.get(b"if-modified-since"),
    )
    return policy.not_modified(if_none_match, if_modified_since, etag, last_modified, date)


def _not_modified(headers: Iterable[Pair], etag: bytes | None) -> Reply:
    reply = Reply(304, policy.headers_of_304(headers, etag))
    # Other middlewares may change the whole answer's length, so nothing true can be said of it.
    reply.length = None
    return reply


def become(reply: Reply, other: Reply) -> None:
    """Makes `reply` say what `other` says, in place: response hooks cannot replace it.

    Its own blocks stay in front.
    """
    if other is reply:
        return
    if not isinstance(reply.body, bytes):
        reply.body.abort()
    reply.status = other.status
    reply.reason = other.reason
    reply.headers = other.headers
    reply.joined = other.joined
    reply.index = other.index
    reply.body = other.body
    reply.length = other.length
    reply.blocks += other.blocks


def entry_of(
    exchange: Exchange,
    look: Lookup,
    reply: Reply,
    config: CachingConfig,
    *,
    age: int,
    now: float,
    wall: float,
) -> partial[Entry] | None:
    """Return what makes the entry for a reply once it is called with its `body`.

    None when it must not be stored, or would be of no use. A reply without a Date gets one (RFC
    9110 section 6.6.1). age: the Age field of the origin's answer, in seconds. now and wall: when
    its head came.
    """
    said = _said(look, reply, config, wall)
    look.refused = _refusal(exchange, look, reply, said, config, shared=True)
    shared = not look.refused
    if not shared and config.private and exchange.identity is not None:
        look.refused = _refusal(exchange, look, reply, said, config, shared=False)
    names = vary_of(reply.get(b"vary"))
    if names is None or not can_match(names) or is_changed(names, look.changes, changes(exchange)):
        look.refused = look.refused or "vary"
    if look.refused or names is None:
        return None
    if date_of(reply.get(b"date")) is None:
        reply.set(b"Date", http_date(said.date))
    lifetime = _lifetime(said, config, shared=shared)
    old = policy.initial_age(age, said.date, now - look.asked, wall)
    etag, last_modified = _validators(reply)
    strict = policy.is_strict(said.control, shared=shared)
    window = 0.0 if strict else max(_windows(said.control, config))
    if not (etag or last_modified or policy.is_usable(said.control, lifetime - old, window)):
        look.refused = "stale"
        return None
    return partial(
        _content(reply, said, shared=shared),
        uri=look.uri,
        scope=look.scope if shared else (look.scope, caller(exchange)),
        vary=names,
        key=secondary_key(exchange, names) if names else (),
        born=now - old,
        lifetime=lifetime,
        date=said.date,
        strict=strict,
        etag=etag,
        last_modified=last_modified,
    )


def _windows(control: Directives, config: CachingConfig) -> tuple[float, float]:
    """Seconds for which a stale answer is of use: for an origin that fails, and while it is
    asked."""
    error, behind = control.stale_if_error, control.stale_while_revalidate
    return (
        config.stale_if_error if error is None else error,
        config.stale_while_revalidate if behind is None else behind,
    )


class _Said(NamedTuple):
    """What a reply says about caching.

    expires: where that counts. date: in seconds since 1970, or when it came. guessed: its heuristic
    lifetime, 0 without.
    status:  200 for a 206 that has the bytes `part` of some length.
    """

    control: Directives
    expires: bytes | None
    date: int
    guessed: float
    status: int
    part: tuple[Span, int] | None


def part_in(reply: Reply) -> tuple[Span, int] | None:
    """Which bytes of how many a 206 has; None for one whose length says something else."""
    part = content_range(reply.get(b"content-range")) if reply.status == 206 else None
    if part is None or reply.length not in (None, part[0].stop - part[0].start):
        return None
    return part


def _said(look: Lookup, reply: Reply, config: CachingConfig, wall: float) -> _Said:
    control, expires = control_of(reply.index, config.targets)
    date, guessed = date_of(reply.get(b"date")), 0.0
    if date is None:
        date = int(wall)
    if config.heuristic:
        guessed = policy.heuristic_lifetime(date, date_of(reply.get(b"last-modified")))
    part = part_in(reply) if b"range" in look.fields else None
    return _Said(control, expires, date, guessed, reply.status if part is None else 200, part)


def _lifetime(said: _Said, config: CachingConfig, *, shared: bool) -> float:
    return policy.freshness_lifetime(
        said.control,
        said.status,
        said.expires,
        said.date,
        shared=shared,
        guessed=said.guessed,
        default_ttl=config.default_ttl,
        statuses=config.statuses,
    )


def _content(reply: Reply, said: _Said, *, shared: bool) -> partial[Entry]:
    """Return the part of an entry that is the reply's own."""
    headers = tuple(
        pair
        for pair in policy.stored_headers(reply.headers, said.control, shared=shared)
        if said.part is None or lower(pair[0]) != b"content-range"
    )
    return partial(
        Entry,
        status=said.status,
        reason=reply.reason if said.part is None else b"",
        headers=headers,
        fields=indexed(headers),
        lines=line_block(headers),
        no_cache=said.control.no_cache,
        stale_if_error=said.control.stale_if_error,
        stale_while_revalidate=said.control.stale_while_revalidate,
        start=0 if said.part is None else said.part[0].start,
        total=0 if said.part is None else said.part[1],
    )


def _validators(reply: Reply) -> tuple[bytes | None, bytes | None]:
    """ETag and Last-Modified, as far as they are valid."""
    last_modified = reply.get(b"last-modified")
    return entity_tag(reply.get(b"etag")), None if date_of(last_modified) is None else last_modified


def _refusal(
    exchange: Exchange,
    look: Lookup,
    reply: Reply,
    said: _Said,
    config: CachingConfig,
    *,
    shared: bool,
) -> str:
    return policy.refusal(
        look.directives,
        said.control,
        said.status,
        expires=said.expires is not None,
        guessed=said.guessed,
        content_type=reply.get(b"content-type") or b"",
        set_cookie=reply.get(b"set-cookie") is not None,
        authorization="Authorization" in exchange.headers or exchange.tls_subject != "",
        identified=exchange.identity is not None,
        shared=shared,
        default_ttl=config.default_ttl,
        statuses=config.statuses,
        shares_cookies=config.set_cookie,
    )


def tags_of(reply: Reply, names: Sequence[bytes]) -> tuple[int, ...]:
    """Return the tags that the origin gave in fields of these (lower-case) names, as buckets."""
    index = reply.index
    if index.keys().isdisjoint(names):
        return ()
    return tag_buckets(" ".join(text(index[name]) for name in names if name in index))
