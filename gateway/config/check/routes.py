"""What a route says about itself: match, target, rewriting; then all routes together: names, and who is never reached.

Which of several matching routes has a request is decided in routing/router.py; `_matches` and `_precedence` say the same about
routes it holds for equally specific.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.problems import nearest, shown_path
from gateway.config.toml.read import Document

REGISTERED_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"))
"""RFC 9110 section 9 and RFC 5789, without CONNECT: a gateway opens no tunnels to where a client likes."""

_TEMPLATE_SEGMENT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_SEPARATOR = re.compile(r"/|\\|%2F|%5C", re.IGNORECASE)
_DOTS = re.compile(r"(?:\.|%2E){1,2}(?:(?:;|%3B).*)?", re.IGNORECASE)
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Placed:
    """A route and where it stands; `bad` are the keys that did not load, about which nothing more is said."""

    document: Document
    path: KeyPath
    route: RouteConfig
    bad: frozenset[str] = frozenset()

    def error(self, key: str | KeyPath, message: str, hint: str = "") -> None:
        keys = (key,) if isinstance(key, str) else key
        self.document.error((*self.path, *keys), f"route.{keys[0]}: {message}" if keys else f"route: {message}", hint)


def check_route(placed: Placed, upstreams: Collection[str] | None, routing: RoutingConfig) -> RouteConfig:
    """Reports all that is wrong with one route; returns it with its hosts in lower case. `upstreams` None: not known."""
    names = _check_match(placed)
    _check_target(placed, upstreams)
    _check_methods(placed)
    hosts = _check_hosts(placed)
    _check_strip_prefix(placed, routing)
    _check_rewrite(placed, names)
    return replace(placed.route, hosts=hosts)


def check_reachable(routes: Sequence[Placed], routing: RoutingConfig) -> None:
    """Reports every route all of whose matches, host by host and method by method, others take that come before it."""
    taken: dict[Any, Placed] = {}
    for placed in sorted(routes, key=_precedence):
        if placed.bad & {"path", "prefix", "methods", "hosts", "headers", "case_sensitive", "trailing_slash"}:
            continue
        matches = list(_matches(placed.route, routing))
        owners = [taken.get(match) for match in matches]
        if matches and all(owners):
            first = next(owner for owner in owners if owner is not None)
            line = first.document.place(first.path)[0]
            where = f"line {line}" if first.document is placed.document else f"{shown_path(first.document.file)}:{line}"
            covers = f"the route {first.route.name!r} ({where})"
            hint = "remove one of them, or tell them apart by methods, hosts or headers"
            placed.error((), f"is never reached: {covers} takes everything it matches", hint)
        for match in matches:
            taken.setdefault(match, placed)


def name_routes(routes: Sequence[Placed]) -> list[RouteConfig]:
    """Every route with a name of its own: as given, or its path or prefix, numbered from the second on."""
    names: dict[str, Placed] = {}
    for placed in routes:
        if placed.route.name in names:
            first = names[placed.route.name]
            where = f"{shown_path(first.document.file)}:{first.document.place((*first.path, 'name'))[0]}"
            placed.error("name", f"{placed.route.name!r} is the name of another route", f"the other one is at {where}")
        elif placed.route.name:
            names[placed.route.name] = placed
    result = []
    for placed in routes:
        name = wanted = placed.route.name or placed.route.path or placed.route.prefix
        count = 1
        while not placed.route.name and name in names:
            count += 1
            name = f"{wanted}#{count}"
        names[name] = placed
        result.append(replace(placed.route, name=name))
    return result


def template_names(path: str) -> list[str]:
    """The names in a path template, in order."""
    return [match[1] for segment in path.split("/") if (match := _TEMPLATE_SEGMENT.fullmatch(segment))]


def _check_match(placed: Placed) -> list[str]:
    """Path or prefix; returns the template's names."""
    route = placed.route
    if route.path and route.prefix:
        placed.error("prefix", "stands beside path; a route has one of them")
    elif not route.path and not route.prefix and not placed.bad & {"path", "prefix"}:
        placed.error((), "has neither path nor prefix", 'prefix = "/" takes everything')
    for key, value in (("path", route.path), ("prefix", route.prefix)):
        if value:
            _check_path(placed, key, value)
    if _PLACEHOLDER.search(route.prefix):
        placed.error("prefix", "is literal; templates are for path", f'path = "{route.prefix}"')
    elif "{" in route.prefix or "}" in route.prefix:
        placed.error("prefix", "holds a brace; a path sends those percent-encoded", "%7B is {, %7D is }")
    names = template_names(route.path)
    for segment in route.path.split("/"):
        if ("{" in segment or "}" in segment) and not _TEMPLATE_SEGMENT.fullmatch(segment):
            placed.error("path", f"{segment!r} is no template: a name in braces has a segment to itself", 'e.g. "/cameras/{id}"')
    if len(set(names)) < len(names):
        placed.error("path", "a template's names must differ", 'e.g. "/users/{user}/keys/{key}"')
    return names


def _check_path(placed: Placed, key: str, value: str) -> None:
    if not value.startswith("/"):
        placed.error(key, f"must start with '/', not {value!r}", f'{key} = "/{value}"')
    elif "?" in value or "#" in value:
        placed.error(key, f"{value!r} holds a query or a fragment, which are no part of a path", "percent-encode ? and #")
    else:
        _check_segments(placed, key, value)


def _check_segments(placed: Placed, key: str, value: str) -> None:
    """What no request that is let in has in its path: see routing/paths.py."""
    if _BAD_ESCAPE.search(value):
        placed.error(key, f"{value!r} holds a '%' that starts no valid escape", "%25 is a '%'")
    elif any(_DOTS.fullmatch(segment) for segment in _SEPARATOR.split(value)):
        placed.error(key, f"{value!r} has a '.' or '..' segment; requests that have one are refused", "write it without")


def _check_target(placed: Placed, upstreams: Collection[str] | None) -> None:
    route = placed.route
    if route.upstream and route.builtin:
        placed.error("builtin", "stands beside upstream; a route has one of them")
    elif not route.upstream and not route.builtin and not placed.bad & {"upstream", "builtin"}:
        placed.error((), "has neither upstream nor builtin", 'upstream = "NAME", of an [upstream.NAME]')
    if route.upstream and upstreams is not None and route.upstream not in upstreams:
        hint = nearest(route.upstream, upstreams) or f"add [upstream.{route.upstream}] to an included file"
        placed.error("upstream", f"no upstream is called {route.upstream!r}", hint)
    if route.builtin:
        for key in ("strip_prefix", "rewrite", "timeout"):
            if getattr(route, key):
                where = (*placed.path, key)
                placed.document.warning(where, f"route.{key}: has no effect on the gateway's own answers", "remove it")


def _check_methods(placed: Placed) -> None:
    for index, method in enumerate(() if "methods" in placed.bad else placed.route.methods):
        key = ("methods", index)
        if method in placed.route.methods[:index]:
            placed.error(key, f"{method!r} is listed twice")
        elif method == "CONNECT":
            placed.error(key, "CONNECT is for proxies; a gateway has no use for it")
        elif not _METHOD.fullmatch(method):
            like = nearest(method.upper(), REGISTERED_METHODS)
            placed.error(key, f"{method!r} is not a method; they are in capitals (RFC 9110 section 9.1)", like)
        elif method not in REGISTERED_METHODS and (like := nearest(method, REGISTERED_METHODS)).startswith("did"):
            placed.document.warning((*placed.path, *key), f"route.methods: {method!r} is no method of HTTP's own", like)


def _check_hosts(placed: Placed) -> tuple[str, ...]:
    hosts = tuple(host.lower() for host in placed.route.hosts)
    for index, host in enumerate(() if "hosts" in placed.bad else hosts):
        key = ("hosts", index)
        if host in hosts[:index]:
            placed.error(key, f"{host!r} is listed twice")
        elif host == "*":
            placed.error(key, "'*' is not a host", "leave hosts out to take every host")
        elif not _HOST.fullmatch(host) or ".." in host:
            hint = "a name without scheme and port, '*.example.com' for all below one; names beyond ASCII as xn--..."
            placed.error(key, f"{host!r} is not a host", hint)
    return hosts


def _check_strip_prefix(placed: Placed, routing: RoutingConfig) -> None:
    route, strip = placed.route, placed.route.strip_prefix
    match = route.prefix or route.path
    if not strip or not match:
        return
    sensitive = routing.case_sensitive if route.case_sensitive is None else route.case_sensitive
    start, full = (strip, match) if sensitive else (strip.lower(), match.lower())
    start = start.rstrip("/")
    if not start or "{" in strip or "}" in strip:
        placed.error("strip_prefix", f"{strip!r} is nothing to strip: it is literal and more than '/'", 'e.g. "/api/v1"')
    elif not (full + "/").startswith(start + "/"):
        hint = "it must be whole segments at the start of it"
        placed.error("strip_prefix", f"{strip!r} is not a prefix of {match!r}", hint)


def _check_rewrite(placed: Placed, names: Collection[str]) -> None:
    rewrite = placed.route.rewrite
    if not rewrite:
        return
    path, _, query = rewrite.partition("?")
    pieces = [re.split(_PLACEHOLDER, part)[::2] for part in (path, query)]
    allowed = ("path", *names)
    if not rewrite.startswith(("/", "{path}")):
        placed.error("rewrite", f"must start with '/' or {{path}}, not {rewrite!r}", f'rewrite = "/{rewrite}"')
    elif "#" in rewrite:
        placed.error("rewrite", "holds a fragment, which is never sent", "%23 is a '#'")
    elif any("{" in piece or "}" in piece for part in pieces for piece in part):
        placed.error("rewrite", f"{rewrite!r} has a brace without its other half", "%7B is {, %7D is }")
    for piece in pieces[0]:
        _check_segments(placed, "rewrite", piece)
    if "path" in names and "{path}" in rewrite:
        placed.error("rewrite", "{path} is both the whole path and one of its segments", "give the segment another name")
    for name in (name for part in (path, query) for name in _PLACEHOLDER.findall(part)):
        if name not in allowed and "path" not in placed.bad:
            placed.error("rewrite", f"there is nothing called {{{name}}}", nearest(name, allowed))


def _precedence(placed: Placed) -> tuple[Any, ...]:
    """The order among routes whose path, host and headers are equally specific; else as they stand in the files."""
    methods = sorted(placed.route.methods)
    return not methods, "HEAD" not in methods, methods


def _matches(route: RouteConfig, routing: RoutingConfig) -> Iterator[tuple[Any, ...]]:
    """The route's match cut into indivisible ones; two routes share one only where both match with equal specificity."""
    sensitive = routing.case_sensitive if route.case_sensitive is None else route.case_sensitive
    slash = route.trailing_slash or routing.trailing_slash
    shape = "/".join("{}" if _TEMPLATE_SEGMENT.fullmatch(part) else part for part in (route.path or route.prefix).split("/"))
    if not shape:
        return
    if not sensitive:
        shape = shape.lower()
    if slash == "ignore" and route.prefix:
        shape = shape.rstrip("/")
    headers = frozenset((name.lower(), value) for name, value in route.headers.items())
    for host, method in product(route.hosts or ("",), route.methods or ("",)):
        yield bool(route.path), sensitive, slash, shape, headers, host, method
