"""The target a route sends on: `strip_prefix` and `rewrite`, compiled once per route.

`strip_prefix` and `rewrite`, compiled once per route.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

from gateway.config.check import paths
from gateway.config.check.paths import encoded, normalise
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.core.exchange import Exchange

Rewrite = Callable[[Exchange], str]
"""The target for the upstream, with the client's query.

Starts with one slash, or is what came because nothing was to be done.
"""

_Piece = Callable[[Exchange, str], str]
"""A part of a rewritten target, from the exchange and its path (raw, less `strip_prefix`)."""

_DEFAULT = RoutingConfig()
_QUERY_SAFE = "/%:@!$'()*,;~"
"""Kept in a query's value.

"&", "=" and "+" are not, since most servers give them a meaning there.
"""


def rewritten(
    route: RouteConfig, routing: RoutingConfig = _DEFAULT, *, with_query: bool = True
) -> Rewrite | None:
    """Return what makes `route`'s targets, None to send them as they came.

    With both, the prefix is taken off first and `{path}` is what is left.
    with_query: whether the client's query follows what `rewrite` says.
    """
    strip = _stripper(route, routing) if route.strip_prefix else None
    if route.rewrite:
        return _rewriter(route, strip, with_query)
    if strip is None:
        return None
    shorten = strip

    def stripped(exchange: Exchange) -> str:
        target, path = exchange.target, exchange.path
        return shorten(path) + target[len(path) :]

    return stripped


def _stripper(route: RouteConfig, routing: RoutingConfig) -> Callable[[str], str]:
    """Return what takes `strip_prefix` off a raw path, where it stands as whole segments.

    What is left starts with exactly one slash: "//host/x" would read as another authority (RFC 3986
    section 4.2).
    """
    start, service = paths.service_prefix(route.strip_prefix)
    if service:
        shorten = _stripper(replace(route, strip_prefix=start), routing)
        # "/cameras/7" without the service's own segment.
        return lambda path: "/" + shorten(path)[1:].partition("/")[2].lstrip("/")
    prefix = paths.literal("strip_prefix", start).rstrip("/")
    size, slashes = len(prefix), prefix.count("/") + 1
    sensitive = routing.case_sensitive if route.case_sensitive is None else route.case_sensitive
    folded = prefix if sensitive else prefix.lower()

    def strip(path: str) -> str:
        if path.startswith(prefix) and (len(path) == size or path[size] == "/"):
            rest = path[size:]
        else:
            # Spelt differently, but normal forms have the same slashes, so the raw rest is behind
            # as many of them.
            head = "/".join(normalise(path).split("/", slashes)[:slashes])
            if (head if sensitive else head.lower()) != folded:
                return path
            rest = "/".join(path.split("/", slashes)[slashes:])
        return "/" + rest.lstrip("/")

    return strip


def _rewriter(route: RouteConfig, strip: Callable[[str], str] | None, with_query: bool) -> Rewrite:
    names = paths.names_of(route)
    path, query = paths.rewrite(route.rewrite, names)
    pieces, extra = _pieces(path, in_query=False), _pieces(query, in_query=True)

    def rewrite(exchange: Exchange) -> str:
        path = exchange.path
        rest = exchange.target[len(path) :] if with_query else ""
        if strip is not None:
            path = strip(path)
        target = "".join(
            [piece if isinstance(piece, str) else piece(exchange, path) for piece in pieces]
        )
        if target.startswith("//"):
            target = "/" + target.lstrip("/")
        if extra:
            own = "".join(
                [piece if isinstance(piece, str) else piece(exchange, path) for piece in extra]
            )
            return f"{target}?{own}&{rest[1:]}" if len(rest) > 1 else f"{target}?{own}"
        return target + rest

    return rewrite


def _pieces(parts: list[str], *, in_query: bool) -> list[str | _Piece]:
    """The literals of `parts`, and in place of the names between them what makes their values."""
    pieces: list[str | _Piece] = list(parts)
    pieces[1::2] = [_maker(name, in_query=in_query) for name in parts[1::2]]
    return [piece for piece in pieces if piece != ""]


def _maker(name: str, *, in_query: bool) -> _Piece:
    if name == "path":
        return (
            (lambda _, path: quote(path, safe=_QUERY_SAFE)) if in_query else (lambda _, path: path)
        )
    if in_query:
        return lambda exchange, _: quote(exchange.params[name], safe="")
    return lambda exchange, _: encoded(exchange.params[name])
