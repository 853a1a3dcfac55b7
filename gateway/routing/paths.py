"""Paths as routes see them: one normal form for what clients send and for what TOML says.

A path that was matched must mean the same to the upstream, which is sent the raw one. So spellings that RFC 3986 calls equivalent
become one, and spellings that servers are known to read differently are refused rather than guessed at. Which route a path
belongs to is decided in router.py.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
PCHAR = UNRESERVED + "!$&'()*+,;=:@"
"""What a segment may hold unescaped (RFC 3986 section 3.3)."""

_PLAIN = {code: chr(code) for code in PCHAR.encode()}
_ASCII = "".join(map(chr, range(128)))
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
_SEPARATOR = r"(?:/|%2F|%5C)"
_DOT_SEGMENT = re.compile(rf"{_SEPARATOR}\.\.?(?:;[^/]*)?(?:{_SEPARATOR}|$)")
"""Also what only some servers take for one: behind an encoded slash or backslash, and with parameters ("/..;/", a Java habit)."""

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")


def normalise(path: str) -> str:
    """The path as routes are matched against it; always ASCII.

    Percent-encoded characters that need no encoding in a segment are decoded and the hex digits of others upper-cased (RFC 3986
    section 6.2.2; sub-delims, ":" and "@" too, because servers decode them before they look). An encoded slash stays encoded and
    never splits a segment; double slashes stay. Raises Failed(MALFORMED) for an escape that is none, %00, a backslash, and
    dot segments in any spelling: RFC 3986 section 5.2.4 would remove them, some servers do and some do not.
    """
    if "%" not in path and "/." not in path and "\\" not in path and path.isascii():
        return path
    if not path.isascii():
        path = quote(path.encode("utf-8", "surrogateescape"), safe=_ASCII)
    if "%" in path:
        path = _ESCAPE.sub(_unescaped, path)
    if "\\" in path:
        raise Failed(Failure.MALFORMED, "The path holds a backslash", why=f"a backslash in {path!r}")
    if _DOT_SEGMENT.search(path):
        raise Failed(Failure.MALFORMED, "The path holds dot segments", why=f"dot segments in {path!r}")
    return path


def _unescaped(escape: re.Match[str]) -> str:
    digits = escape[1]
    if digits is None or digits == "00":
        raise Failed(Failure.MALFORMED, "The path holds an invalid percent-encoding", why=f"{escape.string!r}")
    return _PLAIN.get(int(digits, 16)) or escape[0].upper()


def as_sent(path: str) -> str:
    """The path as a server sees it that decodes nothing before it looks: only its escapes are upper case."""
    if not path.isascii():
        path = quote(path.encode("utf-8", "surrogateescape"), safe=_ASCII)
    return _ESCAPE.sub(lambda escape: escape[0].upper(), path)


def decoded(segment: str) -> str:
    """A captured segment as text. Raises Failed(MALFORMED) when it is not UTF-8."""
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise Failed(Failure.MALFORMED, "The path is not UTF-8", why=f"{segment!r} is not UTF-8") from None


def encoded(value: str) -> str:
    """Text as one segment of a path: the reverse of `decoded`."""
    return value if value.isalnum() and value.isascii() else quote(value, safe=PCHAR)


def literal(key: str, text: str) -> str:
    """A path from TOML, in normal form; `key` is where it stood. Raises ConfigProblem."""
    if not text.startswith("/"):
        raise ConfigProblem(f"{key} must start with a slash, not {text!r}", at=(key,))
    if "?" in text or "#" in text:
        raise ConfigProblem(f"{key} is a path; it takes neither a query nor a fragment: {text!r}", at=(key,))
    if "{" in text or "}" in text:
        rule = "a variable is one whole segment, {name}" if key == "path" else "only path has variables"
        raise ConfigProblem(f"{key} cannot hold these braces: {text!r}", at=(key,), hint=rule)
    return _checked(key, text)


def template(text: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """The segments of a `path` from TOML in normal form, "" first; "{}" for each variable, whose places are given by name."""
    segments = text.split("/")
    variables: dict[str, int] = {}
    for place, segment in enumerate(segments):
        variable = _VARIABLE.fullmatch(segment)
        if variable is None:
            continue
        if variable[1] in variables:
            raise ConfigProblem(f"path names {segment} twice: {text!r}", at=("path",))
        variables[variable[1]] = place
        segments[place] = "variable"
    segments = literal("path", "/".join(segments)).split("/")
    for place in variables.values():
        segments[place] = "{}"
    return tuple(segments), variables


def _checked(key: str, text: str) -> str:
    try:
        return normalise(quote(text, safe=PCHAR + "/%"))
    except Failed as failed:
        raise ConfigProblem(f"{key} is not a path that can be matched: {text!r}", at=(key,), hint=failed.detail) from None
