"""Requests that a stored response stands for: the values of the fields in its Vary.

What the origin sees is not what the client sent: identity comes from the gateway alone, other
middlewares replace fields, and some are new in every request. A key made of what the client wrote
there would let one client plant answers for another.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.core.exchange import Exchange
from gateway.core.headers import REWRITTEN, Pair, is_from_proxies, is_own, lower, spelt

_NEW_EACH_TIME = frozenset(("traceparent", "tracestate", "via", "x-request-id"))
"""Written anew for each request."""

_WEIGHED = frozenset(("accept-charset", "accept-encoding", "accept-language"))
"""Lists of tokens with weights, whose case and white space carry no meaning.

RFC 9110 section 12.5.
"""
_SPACED = frozenset(("accept", "prefer"))
"""Lists whose white space carries no meaning outside of strings."""
_WEIGHT = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)
_ALIASES = {"x-gzip": "gzip", "x-compress": "compress"}
"""RFC 9110 section 8.4.1."""


def can_match(names: tuple[str, ...] | None) -> bool:
    """Return True if later requests can match a response that varies by `names`.

    RFC 9111 section 4.1.
    """
    return names is not None and not any(_is_new_each_time(name) for name in names)


@lru_cache(maxsize=1024)
def _is_own(name: str) -> bool:
    """Return True for a field whose value in the client's request never reaches the origin."""
    return is_own(spelt(name.encode()))


def _is_new_each_time(name: str) -> bool:
    key = spelt(name.encode())
    return name in _NEW_EACH_TIME or key in REWRITTEN or is_from_proxies(key)


def secondary_key(exchange: Exchange, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the request's values of `names`, normalised, in the order of `names`.

    "" for a field that is not there, which matches no other request's empty one (RFC 9111 section
    4.1): that is `_EMPTY`.
    """
    identity, added = exchange.identity, exchange.forward_headers
    dropped = exchange.drop_headers or ()
    replaced: dict[str, list[str]] = {}
    for pairs in (added or (), identity.headers if identity is not None else ()):
        for field, value in pairs:
            replaced.setdefault(field.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    values = []
    for name in names:
        own = replaced.get(name)
        if own is None:
            is_sent = not _is_own(name) and name.encode() not in dropped
            own = exchange.headers.getall(name, []) if is_sent else []
            if name == "x-tls-subject" and exchange.tls_subject:
                own = [exchange.tls_subject]
        joined = ", ".join(own)
        said = _normalised(name, joined) if name in _NORMALISED else joined
        values.append(said or (_EMPTY if own else ""))
    return tuple(values)


_EMPTY = " "
"""No value begins with a space."""


_NORMALISED = _WEIGHED | _SPACED

Changes = tuple[list[Pair] | None, frozenset[bytes] | None]
"""What hooks have added to the client's fields, and dropped of them."""


def changes(exchange: Exchange) -> Changes:
    """Return what has been changed so far."""
    return exchange.forward_headers, exchange.drop_headers


def is_changed(names: tuple[str, ...], before: Changes, after: Changes) -> bool:
    """Return True if the value of one of `names` was changed in between: whoever asks the cache
    next is compared as things were before, and would get what others are sent."""
    if before[0] is after[0] and before[1] is after[1]:
        return False
    return any(_said(name.encode(), before) != _said(name.encode(), after) for name in names)


def _said(name: bytes, what: Changes) -> tuple[list[bytes], bool]:
    added, dropped = what
    return [value for key, value in added or () if lower(key) == name], name in (dropped or ())


@lru_cache(maxsize=1024)
def _remembered(name: str, value: str) -> str:
    if name in _SPACED:
        return value if '"' in value else _SPACES.sub(r"\1", value)
    if not value.isascii():  # Unicode has other letters whose lower case is ASCII.
        return value
    members = [_member(member) for member in value.lower().split(",")]
    members = list(dict.fromkeys(member for member in members if member))
    # Preference among codings is said by weights alone; among languages of one weight servers go by
    # the order too (RFC 9110 section 12.5.4).
    key = _weight if name == "accept-language" else None
    return ",".join(sorted(members, key=key))


def _member(member: str) -> str:
    """A token without white space, and its weight where that is not 1."""
    token, *parameters = (part.strip(" \t") for part in member.split(";"))
    token = _ALIASES.get(token, token)
    weight = _WEIGHT.fullmatch(parameters[0]) if len(parameters) == 1 else None
    if weight is None:
        return ";".join((token, *parameters))
    q = float(weight[1])
    return token if q == 1 else f"{token};q={q:g}"


def _weight(member: str) -> float:
    """Less for what is preferred."""
    weight = _WEIGHT.fullmatch(member.rpartition(";")[2])
    return -1.0 if weight is None else -float(weight[1])


_SPACES = re.compile(r"[ \t]*([,;=])[ \t]*")


def _normalised(name: str, value: str) -> str:
    return _remembered(name, value) if len(value) <= 128 else _remembered.__wrapped__(name, value)
