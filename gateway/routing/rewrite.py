"""The target a route sends on when it is not the one that came: `strip_prefix` and `rewrite`, compiled once per route."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem
from gateway.routing.paths import PCHAR, encoded, literal, normalise, template

Rewrite = Callable[[Exchange], str]
"""The target for the upstream, with the client's query. Starts with one slash, or is what came because nothing was to be done."""

_Piece = Callable[[Exchange, str], str]
"""A part of a rewritten target, from the exchange and its path (raw, less `strip_prefix`)."""

_DEFAULT = RoutingConfig()
_PLACE = re.compile(r"\{([^{}]*)\}")
_QUERY_SAFE = "/%:@!$'()*,;~"
"""Kept in a query's value; "&", "=" and "+" are not, since most servers give them a meaning there."""


def rewritten(route: RouteConfig, routing: RoutingConfig = _DEFAULT) -> Rewrite | None:
    """What makes `route`'s targets, or None when they go on as they came. Raises ConfigProblem.

    With both, the prefix is taken off first and `{path}` is what is left.
    """
    strip = _stripper(route, routing) if route.strip_prefix else None
    if route.rewrite:
        return _rewriter(route, strip)
    if strip is None:
        return None
    shorten = strip

    def stripped(exchange: Exchange) -> str:
        target, path = exchange.target, exchange.path
        return shorten(path) + target[len(path) :]

    return stripped


def _stripper(route: RouteConfig, routing: RoutingConfig) -> Callable[[str], str]:
    """Takes `strip_prefix` off a raw path where it stands as whole segments; other paths stay as they are.

    What is left starts with exactly one slash: "//host/x" would read as another authority (RFC 3986 section 4.2).
    """
    prefix = literal("strip_prefix", route.strip_prefix).rstrip("/")
    size, slashes = len(prefix), prefix.count("/") + 1
    sensitive = routing.case_sensitive if route.case_sensitive is None else route.case_sensitive
    folded = prefix if sensitive else prefix.lower()

    def strip(path: str) -> str:
        if path.startswith(prefix) and (len(path) == size or path[size] == "/"):
            rest = path[size:]
        else:
            # Spelt differently, but normal forms have the same slashes, so the raw rest is behind as many of them.
            head = "/".join(normalise(path).split("/", slashes)[:slashes])
            if (head if sensitive else head.lower()) != folded:
                return path
            rest = "/".join(path.split("/", slashes)[slashes:])
        return "/" + rest.lstrip("/")

    return strip


def _rewriter(route: RouteConfig, strip: Callable[[str], str] | None) -> Rewrite:
    path, _, query = route.rewrite.partition("?")
    names = set(template(route.path)[1]) if route.path else set()
    if "path" in names and "{path}" in route.rewrite:
        raise ConfigProblem("{path} is both the whole path and a variable here", at=("rewrite",), hint="rename it")
    if not path.startswith(("/", "{path}")) or "#" in route.rewrite:
        raise ConfigProblem(f"rewrite must start with a slash or {{path}}: {route.rewrite!r}", at=("rewrite",))
    pieces = _pieces(path, names, in_query=False)
    extra = _pieces(query, names, in_query=True) if query else []

    def rewrite(exchange: Exchange) -> str:
        path = exchange.path
        rest = exchange.target[len(path) :]
        if strip is not None:
            path = strip(path)
        target = "".join([piece if isinstance(piece, str) else piece(exchange, path) for piece in pieces])
        if target.startswith("//"):
            target = "/" + target.lstrip("/")
        if extra:
            own = "".join([piece if isinstance(piece, str) else piece(exchange, path) for piece in extra])
            return f"{target}?{own}&{rest[1:]}" if len(rest) > 1 else f"{target}?{own}"
        return target + rest

    return rewrite


def _pieces(text: str, names: set[str], *, in_query: bool) -> list[str | _Piece]:
    """Literal text and the makers of what varies, in order."""
    pieces: list[str | _Piece] = []
    end = 0
    for place in _PLACE.finditer(text):
        pieces.append(_written(text[end : place.start()], in_query=in_query))
        pieces.append(_maker(place[1], names, in_query=in_query))
        end = place.end()
    pieces.append(_written(text[end:], in_query=in_query))
    return [piece for piece in pieces if piece != ""]


def _written(text: str, *, in_query: bool) -> str:
    """Literal text of a rewrite, with what a target cannot hold percent-encoded."""
    if "{" in text or "}" in text:
        raise ConfigProblem(f"rewrite has a brace without its other half: {text!r}", at=("rewrite",))
    if in_query:
        return quote(text, safe=PCHAR + "/?%")
    literal("rewrite", text if text.startswith("/") else "/" + text)
    return quote(text, safe=PCHAR + "/%")


def _maker(name: str, names: set[str], *, in_query: bool) -> _Piece:
    if name == "path":
        return (lambda _, path: quote(path, safe=_QUERY_SAFE)) if in_query else (lambda _, path: path)
    if name not in names:
        known = ", ".join(f"{{{known}}}" for known in sorted({"path", *names}))
        raise ConfigProblem(f"rewrite does not know {{{name}}}", at=("rewrite",), hint=f"this route has {known}")
    if in_query:
        return lambda exchange, _: quote(exchange.params[name], safe="")
    return lambda exchange, _: encoded(exchange.params[name])
