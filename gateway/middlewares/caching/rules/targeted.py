"""Targeted cache control fields such as CDN-Cache-Control (RFC 9213): Dictionaries (RFC 9651).

The first of a cache's target list that is valid and not empty counts, in place of Cache-Control and
Expires. One that breaks the grammar is as if it were not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from gateway.core.headers import lower
from gateway.middlewares.caching.rules.directives import (
    Directives,
    directives_of,
    is_counted,
    parse,
)

_KEY = rb"[a-z*][a-z0-9_.*-]*"
_BARE = (
    rb"-?\d{1,12}\.\d{1,3}|-?\d{1,15}"
    rb'|"(?:[ !#-\[\]-~]|\\["\\])*"'
    rb"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
    rb"|:[A-Za-z0-9+/=]*:|\?[01]|@-?\d{1,15}"
    rb'|%"(?:[ !#$&-~]|%[0-9a-f]{2})*"'
)
_PARAMETERS = rb"(?:; *" + _KEY + rb"(?:=(?:" + _BARE + rb"))?)*"
_ITEM = rb"(?:" + _BARE + rb")" + _PARAMETERS
_INNER = rb"\( *(?:" + _ITEM + rb"(?: +" + _ITEM + rb")*)? *\)"
_MEMBER = re.compile(
    rb"(" + _KEY + rb")(?:=(?:(" + _BARE + rb")|(" + _INNER + rb")))?" + _PARAMETERS
)
_COMMA = re.compile(rb"[ \t]*,[ \t]*")


@lru_cache(maxsize=64)
def lower_names(targets: tuple[str, ...]) -> tuple[bytes, ...]:
    """The target list's names as replies are indexed."""
    return tuple(lower(name.encode()) for name in targets)


def control_of(
    index: Mapping[bytes, bytes], targets: tuple[str, ...]
) -> tuple[Directives, bytes | None]:
    """What a response says about caching, and its Expires where that counts.

    index: its fields by lower-case name. targets: the target list, first ones first.
    """
    for name in lower_names(targets):
        value = index.get(name)
        if value is not None and (found := targeted(value)) is not None:
            return found, None
    return parse(index.get(b"cache-control")), index.get(b"expires")


@lru_cache(maxsize=512)
def _read(value: bytes) -> Directives | None:
    value = value.strip(b" ")
    members: dict[bytes, bytes | None] = {}
    at, end = 0, len(value)
    while at < end:
        member = _MEMBER.match(value, at)
        if member is None:
            return None
        name, bare, inner = member.groups()
        members.pop(name, None)  # RFC 9651 section 4.2.2: the last of a name counts.
        if bare != b"?0":
            members[name] = b"" if inner is not None else _argument(name, bare)
        at = member.end()
        if at < end:
            comma = _COMMA.match(value, at)
            if comma is None or comma.end() == end:
                return None
            at = comma.end()
    return directives_of(members.items()) if value else None


def targeted(value: bytes) -> Directives | None:
    """The directives of a targeted field, None when it is to be ignored (RFC 9213 section 2.1)."""
    return _read(value) if len(value) <= 256 else _read.__wrapped__(value)


def _argument(name: bytes, bare: bytes | None) -> bytes | None:
    """A value as Cache-Control has it; b"" for one of the wrong type, where a number belongs."""
    if bare is None or bare == b"?1":
        return None
    if is_counted(name):
        return bare if bare.isdigit() else b""
    return re.sub(rb"\\(.)", rb"\1", bare[1:-1]) if bare.startswith(b'"') else bare
