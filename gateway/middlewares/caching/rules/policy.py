"""What RFC 9111 allows, as pure decisions: storing, freshness, serving, updating.

Times are seconds and come in from outside. Nothing here touches the store, a socket or a clock.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

from gateway.core.headers import HOP_BY_HOP, Pair, lower
from gateway.middlewares.caching.rules.directives import FOREVER, Directives, date_of, entity_tags

SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"))
"""Methods that change nothing (RFC 9110 section 9.2.1 and the IANA registry).

Any other invalidates (RFC 9111 section 4.4).
"""

HEURISTIC = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))
"""Statuses that may be stored though the origin says nothing (RFC 9110 section 15.1).

A 206 is stored as the 200 that it is a part of.
"""

UNDERSTOOD = HEURISTIC | {
    302,
    303,
    307,
    400,
    401,
    403,
    406,
    409,
    411,
    413,
    415,
    422,
    429,
    500,
    502,
    503,
    504,
}
"""Statuses whose caching rules are kept here, for must-understand (RFC 9111 section 5.2.2.3)."""

DAY = 86400

EVENTS = b"text/event-stream"
"""Never stored: events that have been are not sent again, and no answer holds all."""

OUTDATES = frozenset((*range(200, 206), *range(207, 304), 307, 308, 404, 410))
"""Statuses that show a stored response to be out of date even when they are not stored themselves.
"""
ERRORS = frozenset((500, 502, 503, 504))
"""What stale-if-error may be served instead of (RFC 5861 section 4)."""

_NOT_STORED = HOP_BY_HOP | {b"age", b"content-length", b"x-request-id"}
"""Fields left out of what is stored.

Of one hop or one message (RFC 9111 section 3.1), or said anew with every answer.
"""

_NOT_UPDATED = _NOT_STORED | {b"content-encoding", b"content-type", b"content-range"}
"""Fields a 304 does not change: the stored body depends on them (RFC 9111 section 3.2)."""

_NOT_IN_304 = frozenset(
    (b"content-encoding", b"content-language", b"content-type", b"content-range")
)
"""Representation metadata that a 304 does not repeat (RFC 9110 section 15.4.5)."""


def refusal(
    request: Directives,
    response: Directives,
    status: int,
    *,
    expires: bool = False,
    guessed: float = 0,
    content_type: bytes = b"",
    set_cookie: bool = False,
    authorization: bool = False,
    identified: bool = False,
    shared: bool = True,
    default_ttl: float = 0,
    statuses: Collection[int] = (),
    shares_cookies: bool = False,
) -> str:
    """Return why the response to a GET must not be stored, "" when it may (RFC 9111 section 3).

    It is a token (RFC 9110 section 5.6.2), which clients see.

    expires, set_cookie: the response has such a field. guessed: its heuristic lifetime in seconds.
    authorization: the request has such a field, or a client certificate, which says the same.
    identified: the gateway knows who is calling, which takes a plainer word to share than that.
    shared: False for a part of the cache that only one identity is served from.
    statuses: those that default_ttl is for.
    shares_cookies: a public response is stored for all with its Set-Cookie.
    """
    if status < 200 or status in (206, 304, 416):
        return "status"
    if content_type.partition(b";")[0].strip().lower() == EVENTS:
        return "events"
    if response.must_understand and status not in UNDERSTOOD:
        return "must-understand"
    if request.no_store or (response.no_store and not response.must_understand):
        return "no-store"
    if shared and (why := _not_for_all(response, authorization, identified)):
        return why
    left_out = response.no_cache_fields | (response.private_fields if shared else frozenset())
    if (
        set_cookie
        and b"set-cookie" not in left_out
        and not (response.public and (shares_cookies or not shared))
    ):
        return "set-cookie"
    if expires or _is_explicit(response, shared) or (guessed > 0 and status in HEURISTIC):
        return ""
    # Without a default_ttl, an answer without a word is not kept; no-cache says: keep it and ask
    # each time.
    kept = status in statuses if default_ttl > 0 else status in HEURISTIC and response.no_cache
    return "" if kept else "unsaid"


def _not_for_all(response: Directives, authorization: bool, identified: bool) -> str:
    """Return why a shared cache must not keep it, "" when it may."""
    if response.private:
        return "private"
    if response.public or response.s_maxage is not None:
        return ""
    if identified:
        return "identity"
    return "authorization" if authorization and not response.must_revalidate else ""


def _is_explicit(response: Directives, shared: bool) -> bool:
    """Return True if the response itself says that it may be stored."""
    if response.public or response.max_age is not None:
        return True
    return response.s_maxage is not None if shared else response.private


def freshness_lifetime(
    response: Directives,
    status: int,
    expires: bytes | None,
    date: int,
    *,
    shared: bool = True,
    guessed: float = 0,
    default_ttl: float = 0,
    statuses: Collection[int] = (),
) -> float:
    """Seconds a response is fresh from the moment it was made (RFC 9111 section 4.2.1).

    guessed: what `heuristic_lifetime` says, 0 where guessing is off.
    """
    if shared and response.s_maxage is not None:
        return response.s_maxage
    if response.max_age is not None:
        return response.max_age
    if expires is not None:
        moment = date_of(expires)
        # RFC 9111 section 5.3: "0" and all else that is no date mean that it has expired already.
        return 0 if moment is None else min(max(moment - date, 0), FOREVER)
    if guessed > 0 and (status in HEURISTIC or response.public):
        return guessed
    return default_ttl if status in statuses or response.public else 0


def is_strict(response: Directives, *, shared: bool) -> bool:
    """Return True if it must never be used stale (RFC 9111 section 4.2.4)."""
    if response.must_revalidate:
        return True
    return shared and (response.proxy_revalidate or response.s_maxage is not None)


def is_usable(response: Directives, left: float, window: float) -> bool:
    """Return True if a response without validators is of any use.

    left: seconds it is still fresh. window: seconds it may be used stale.
    """
    return not response.no_cache and (left > 0 or window > 0)


def heuristic_lifetime(date: int, last_modified: int | None) -> float:
    """A tenth of the time since it was changed, a day at most (RFC 9111 section 4.2.2)."""
    return 0 if last_modified is None else min(max(date - last_modified, 0) / 10, DAY)


def initial_age(age: int, date: int, delay: float, wall: float) -> float:
    """The age of a response when it arrived (RFC 9111 section 4.2.3).

    age: what its Age field says. date: its Date. delay: seconds from the request to the response.
         wall: the time now.
    """
    return max(0, int(wall) - date, age + delay)


class Verdict(enum.Enum):
    """What to do with a stored response: serve it fresh or stale, or ask the origin, and why."""

    FRESH = "fresh"
    STALE = "stale"
    BEHIND = "stale, and ask behind the client's back"
    ASK_STALE = "ask: stale"
    ASK_REQUEST = "ask: request"


SERVED = frozenset((Verdict.FRESH, Verdict.STALE, Verdict.BEHIND))
"""What is answered with what is stored."""


def may_serve(
    age: float,
    lifetime: float,
    *,
    no_cache: bool,
    strict: bool,
    request: Directives,
    window: float = 0,
) -> Verdict:
    """RFC 9111 sections 4.2, 4.2.4 and 5.2.1, RFC 5861 section 3.

    no_cache: the response may never be used without asking. strict: it may never be used stale
              (must-revalidate,
    proxy-revalidate or s-maxage in a shared cache). window: seconds it may be used stale while the
              origin is asked.
    """
    if no_cache:
        return Verdict.ASK_STALE
    fresh = lifetime > age
    too_old = request.max_age is not None and age > request.max_age
    if fresh:
        too_short = request.min_fresh is not None and lifetime - age < request.min_fresh
        return Verdict.ASK_REQUEST if request.no_cache or too_old or too_short else Verdict.FRESH
    if strict or request.no_cache or too_old or request.min_fresh is not None:
        return Verdict.ASK_STALE
    late = age - lifetime
    if window > 0 and late <= window:
        return Verdict.BEHIND
    accepted = request.max_stale is not None and late <= request.max_stale
    return Verdict.STALE if accepted else Verdict.ASK_STALE


def may_serve_on_error(
    age: float,
    lifetime: float,
    window: float | None,
    *,
    no_cache: bool,
    strict: bool,
    request: Directives,
    default: float = 0,
) -> bool:
    """Return True if a stored response may replace an error (RFC 5861 section 4).

    window: the response's stale-if-error; the request's own goes first, `default` counts when
            neither has one.
    """
    if no_cache or strict:
        return False
    if request.stale_if_error is not None:
        window = request.stale_if_error
    elif request.no_cache:
        return False
    elif window is None:
        window = default
    return window > 0 and age - lifetime <= window


def stored_headers(
    headers: Iterable[Pair], response: Directives, *, shared: bool = True
) -> list[Pair]:
    """Return the fields to store (RFC 9111 section 3.1).

    All but those of one hop and those that a qualified no-cache or private names.
    """
    left_out = _NOT_STORED | response.no_cache_fields
    if shared:
        left_out |= response.private_fields
    return [pair for pair in headers if lower(pair[0]) not in left_out]


def updated_headers(stored: Iterable[Pair], news: Iterable[Pair]) -> list[Pair]:
    """Return a stored response's fields after a 304 that confirms it.

    The 304's replace its namesakes (RFC 9111 section 3.2).

    But for a weak ETag, which stays: the stored body may be coded, and is then not what a strong
    one names.
    """
    stored = tuple(stored)
    weak = any(lower(name) == b"etag" and value.startswith(b"W/") for name, value in stored)
    kept = _NOT_UPDATED | {b"etag"} if weak else _NOT_UPDATED
    fresh = [pair for pair in news if lower(pair[0]) not in kept]
    replaced = {lower(name) for name, _ in fresh}
    return [*(pair for pair in stored if lower(pair[0]) not in replaced), *fresh]


def headers_of_304(headers: Iterable[Pair], etag: bytes | None) -> list[Pair]:
    """Return the fields of a 200 that its 304 carries (RFC 9110 section 15.4.5).

    Last-Modified only where there is no ETag.
    """
    left_out = _NOT_IN_304 if etag is None else _NOT_IN_304 | {b"last-modified"}
    return [pair for pair in headers if lower(pair[0]) not in left_out]


def confirms(
    etag: bytes | None,
    last_modified: bytes | None,
    new_etag: bytes | None,
    new_last_modified: bytes | None,
) -> bool:
    """Return True if an answer's validators are the stored response's.

    RFC 9111 section 4.3.4.

    A 304 without any is about the one response that was asked for: the gateway never asks with more
    than one entity tag. A weak stored tag may be the strong one of an answer that was coded on its
    way here.
    """
    if new_etag is not None:
        if new_etag.startswith(b"W/") or (etag is not None and etag.startswith(b"W/")):
            return etag is not None and etag.removeprefix(b"W/") == new_etag.removeprefix(b"W/")
        return etag == new_etag
    return new_last_modified is None or last_modified == new_last_modified


def not_modified(
    if_none_match: bytes | None,
    if_modified_since: bytes | None,
    etag: bytes | None,
    last_modified: bytes | None,
    date: int,
) -> bool:
    """Return True if a client's copy is the stored one, so that 304 answers it.

    RFC 9111 section 4.3.2, RFC 9110 section 13.2.2.
    """
    if if_none_match is not None:
        if if_none_match.strip() == b"*":
            return True
        return etag is not None and etag.removeprefix(b"W/") in entity_tags(if_none_match)
    since = date_of(if_modified_since)
    if since is None:
        return False
    changed = date_of(last_modified)
    return (date if changed is None else changed) <= since
