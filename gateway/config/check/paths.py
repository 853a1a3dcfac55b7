"""Paths as routes see them: one normal form for requests and for TOML.

The upstream is sent the raw path and must understand it as the router did. So spellings that are
equivalent by RFC 3986 become one, and spellings that servers are known to read differently are
refused.

What TOML may write for a path (literals, templates, rewrites) is judged and parsed here and nowhere
else. The functions that do raise ConfigProblem, whose `at` is the route's key. Which route a path
belongs to is decided in routing/.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote, unquote_to_bytes

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.targets import SERVICE
from gateway.config.toml.problems import nearest
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
"""Dot segments, also as only some servers see them: after %2F or %5C, or as "/..;/" (Java)."""

INVALID_ESCAPE = "The path holds an invalid percent-encoding"
DOT_SEGMENTS = "The path holds dot segments"

Template = tuple[tuple[str, ...], dict[str, int]]
"""The segments in normal form, "" first and "{}" for variables; and each variable's place by name.
"""

_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NEVER_REQUESTED = {
    INVALID_ESCAPE: ("holds a '%' that starts no valid escape", "%25 is a '%'"),
    DOT_SEGMENTS: (
        "has a '.' or '..' segment; requests that have one are refused",
        "write it without",
    ),
}
"""The message and hint for a path that no accepted request has, by the detail of its refusal."""


def normalise(path: str) -> str:
    """Return the path in the form that routes are matched against; always ASCII.

    Escapes of characters that need none in a segment are decoded, and the hex digits of others
    upper-cased (RFC 3986 section 6.2.2; sub-delims, ":" and "@" too, because servers decode them
    before they look). An encoded slash stays encoded and never splits a segment; double slashes
    stay.
    Raises Failed(MALFORMED) for an invalid escape, %00, a backslash, and dot segments in any
    spelling: RFC 3986 section 5.2.4 removes them, some servers do and some do not.
    """
    if "%" not in path and "/." not in path and "\\" not in path and path.isascii():
        return path
    if not path.isascii():
        path = quote(path.encode("utf-8", "surrogateescape"), safe=_ASCII)
    if "%" in path:
        path = _ESCAPE.sub(_unescaped, path)
    if "\\" in path:
        raise Failed(
            Failure.MALFORMED, "The path holds a backslash", why=f"a backslash in {path!r}"
        )
    if _DOT_SEGMENT.search(path):
        raise Failed(Failure.MALFORMED, DOT_SEGMENTS, why=f"dot segments in {path!r}")
    return path


def _unescaped(escape: re.Match[str]) -> str:
    digits = escape[1]
    if digits is None or digits == "00":
        raise Failed(Failure.MALFORMED, INVALID_ESCAPE, why=f"{escape.string!r}")
    return _PLAIN.get(int(digits, 16)) or escape[0].upper()


def as_sent(path: str) -> str:
    """Return the path as a server sees it that decodes nothing: only the escapes are upper case."""
    if not path.isascii():
        path = quote(path.encode("utf-8", "surrogateescape"), safe=_ASCII)
    return _ESCAPE.sub(lambda escape: escape[0].upper(), path)


def decoded(segment: str) -> str:
    """Decode a captured segment. Raises Failed(MALFORMED) when it is not UTF-8."""
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise Failed(
            Failure.MALFORMED, "The path is not UTF-8", why=f"{segment!r} is not UTF-8"
        ) from None


def encoded(value: str) -> str:
    """Encode text as one segment of a path: the reverse of `decoded`."""
    return value if value.isalnum() and value.isascii() else quote(value, safe=PCHAR)


def literal(key: str, text: str) -> str:
    """Return the path that the route's `key` writes, in normal form."""
    _check_start(key, text)
    if PLACEHOLDER.search(text):
        raise ConfigProblem(
            "is literal; templates are for path", at=(key,), hint=f'path = "{text}"'
        )
    if "{" in text or "}" in text:
        hint = "%7B is {, %7D is }"
        raise ConfigProblem(
            "holds a brace; a path sends those percent-encoded", at=(key,), hint=hint
        )
    return _normal(key, text, text)


def template(text: str) -> Template:
    """Parse a route's `path`, which may hold variables."""
    _check_start("path", text)
    segments = text.split("/")
    variables: dict[str, int] = {}
    for place, segment in enumerate(segments):
        variable = _VARIABLE.fullmatch(segment)
        if variable is None:
            if "{" in segment or "}" in segment:
                message = f"{segment!r} is no template: a name in braces has a segment to itself"
                raise ConfigProblem(message, at=("path",), hint='e.g. "/cameras/{id}"')
            continue
        if variable[1] in variables:
            hint = 'e.g. "/users/{user}/keys/{key}"'
            raise ConfigProblem("a template's names must differ", at=("path",), hint=hint)
        variables[variable[1]] = place
        segments[place] = "variable"
    segments = _normal("path", "/".join(segments), text).split("/")
    for place in variables.values():
        segments[place] = "{}"
    return tuple(segments), variables


def matched(route: RouteConfig) -> Template:
    """Parse what a route matches: its `path` or its `prefix`."""
    if route.path:
        return template(route.path)
    start, service = service_prefix(route.prefix)
    segments = tuple(literal("prefix", start).split("/"))
    return segments, {"service": len(segments) - 1} if service else {}


def service_prefix(text: str) -> tuple[str, bool]:
    """Return a prefix without {service} at its end, and whether that was there.

    What is left ends with a slash: it takes what is below it, and the first segment of that names
    the service.
    """
    found = text.endswith(f"/{SERVICE}")
    return text.removesuffix(SERVICE) if found else text, found


def names_of(route: RouteConfig) -> Collection[str]:
    """Return the names that all of a route's templates have."""
    found = [set(matched(match)[1]) for match in route.matches()]
    return set.intersection(*found)


def rewrite(text: str, names: Collection[str] | None) -> tuple[list[str], list[str]]:
    """Parse a route's `rewrite` into its path and its query ([] for none).

    Each is cut into literals with the names of placeholders between them; literals are
    percent-encoded where a target needs it.
    names: those of the route's template; None when they are not known, and any is accepted.
    """
    path, _, query = text.partition("?")
    parts = [PLACEHOLDER.split(path), PLACEHOLDER.split(query) if query else []]
    if not text.startswith(("/", "{path}")):
        message = f"must start with '/' or {{path}}, not {text!r}"
        raise ConfigProblem(message, at=("rewrite",), hint=f'rewrite = "/{text}"')
    if "#" in text:
        raise ConfigProblem(
            "holds a fragment, which is never sent", at=("rewrite",), hint="%23 is a '#'"
        )
    if any("{" in piece or "}" in piece for part in parts for piece in part[::2]):
        message = f"{text!r} has a brace without its other half"
        raise ConfigProblem(message, at=("rewrite",), hint="%7B is {, %7D is }")
    for piece in parts[0][::2]:
        _normal("rewrite", piece if piece.startswith("/") else f"/{piece}", piece)
    if names is not None:
        _check_placeholders([*parts[0][1::2], *parts[1][1::2]], names)
    safe = [PCHAR + "/%", PCHAR + "/?%"]
    for part, kept in zip(parts, safe, strict=True):
        part[::2] = [quote(piece, safe=kept) for piece in part[::2]]
    return parts[0], parts[1]


def _check_placeholders(used: list[str], names: Collection[str]) -> None:
    if "path" in names and "path" in used:
        message = "{path} is both the whole path and one of its segments"
        raise ConfigProblem(message, at=("rewrite",), hint="give the segment another name")
    for name in used:
        if name not in ("path", *names):
            hint = nearest(name, ("path", *names))
            raise ConfigProblem(f"there is nothing called {{{name}}}", at=("rewrite",), hint=hint)


def _check_start(key: str, text: str) -> None:
    if not text.startswith("/"):
        raise ConfigProblem(
            f"must start with '/', not {text!r}", at=(key,), hint=f'{key} = "/{text}"'
        )
    if "?" in text or "#" in text:
        message = f"{text!r} holds a query or a fragment, which are no part of a path"
        raise ConfigProblem(message, at=(key,), hint="percent-encode ? and #")


def _normal(key: str, text: str, shown: str) -> str:
    """Return the normal form of `text`, which error messages show as `shown`."""
    try:
        return normalise(quote(text, safe=PCHAR + "/%"))
    except Failed as failed:
        message, hint = _NEVER_REQUESTED[failed.detail]
        raise ConfigProblem(f"{shown!r} {message}", at=(key,), hint=hint) from None
