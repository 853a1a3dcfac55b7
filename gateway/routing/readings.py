"""The other paths that a server behind the gateway may take a path for. Pure.

A route's pipeline protects a path only if the origin reads the path as the router did. Origins do
not agree: some split a path before they decode it and some after, proxies in between decode once
more, empty segments are merged, a backslash counts as a slash, dot segments are resolved, and
servlet containers drop what follows a ";" in a segment. The router refuses a path that has a route
of its own in any of these readings, instead of guessing which one is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, unquote_to_bytes

from gateway.config.check.paths import PCHAR
from gateway.core.failures import Failed, Failure

AMBIGUOUS = re.compile("%2F|%5C|%25|;|//")
"""What a path in normal form must hold to have more than one reading."""

DECODINGS = 2
"""How often a path may be decoded on its way: by the origin, and by one more proxy before it."""

MAX_READINGS = 64
"""No honest client sends a path with more of them."""

_KEPT_SLASH = re.compile("%(?:25)*2F")
_PLACEHOLDER = "%00"
"""Stands for an encoded slash that is data. No request has it: `normalise` refuses %00."""

_PARAMETERS = re.compile(rb";[^/]*")
_SLASHES = re.compile(rb"//+")


def readings(path: str, *, keeps_slash: bool = False) -> set[str]:
    """Every other reading of a path in normal form, in normal form.

    keeps_slash: the origin takes an encoded slash as data, however often it is decoded.
    Raises Failed(MALFORMED) for a path with more than MAX_READINGS.
    """
    if AMBIGUOUS.search(path) is None:
        return set()
    if keeps_slash:
        path = _KEPT_SLASH.sub(_PLACEHOLDER, path)
    stage = _closure({path.encode()})
    found = {one.decode() for one in stage}
    for _ in range(DECODINGS):
        stage = _closure({unquote_to_bytes(one) for one in stage})
        found |= {quote(one, safe=PCHAR + "/") for one in stage}
    found.discard(path)
    return {one.replace(_PLACEHOLDER, "%2F") for one in found} if keeps_slash else found


def _closure(paths: set[bytes]) -> set[bytes]:
    """The paths, and what becomes of them by merging, resolving and dropping, in any order."""
    found, fresh = set(paths), list(paths)
    while fresh:
        path = fresh.pop()
        for change in _CHANGES:
            changed = change(path)
            if changed not in found:
                found.add(changed)
                fresh.append(changed)
        if len(found) > MAX_READINGS:
            raise Failed(
                Failure.MALFORMED,
                "The path can be read in too many ways.",
                why=f"more than {MAX_READINGS} readings of a path of {len(path)} bytes",
            )
    return found


def _without_parameters(path: bytes) -> bytes:
    return _PARAMETERS.sub(b"", path)


def _merged(path: bytes) -> bytes:
    return _SLASHES.sub(b"/", path)


def _one_leading_slash(path: bytes) -> bytes:
    return b"/" + path.lstrip(b"/")


def _slashed(path: bytes) -> bytes:
    return path.replace(b"\\", b"/")


def _resolved(path: bytes) -> bytes:
    """Resolve dot segments, without the slash that RFC 3986 section 5.2.4 leaves at the end."""
    if b"/." not in path:
        return path
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


def _resolved_below(path: bytes) -> bytes:
    """The same as RFC 3986 has it."""
    return _resolved(path) + b"/" if path.endswith((b"/.", b"/..")) else path


_CHANGES: tuple[Callable[[bytes], bytes], ...] = (
    _without_parameters,
    _merged,
    _one_leading_slash,
    _slashed,
    _resolved,
    _resolved_below,
)
