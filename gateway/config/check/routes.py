"""Check routes: each by itself (match, target, rewriting), then all together (names, reachability).

routing/router.py decides which of several matching routes gets a request; `_matches` and
`_precedence` follow it for routes that are equally specific.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from gateway.config.check import paths
from gateway.config.check.placed import Placed
from gateway.config.check.targets import check_target
from gateway.config.hosts import host_name
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.problems import nearest, shown_path
from gateway.config.versions import VersionBy
from gateway.core.hooks import ConfigProblem

REGISTERED_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH")
)
"""RFC 9110 section 9 and RFC 5789, without CONNECT: a gateway opens no tunnels."""

_MATCHES = ("path", "prefix", "paths", "prefixes")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*")


def check_route(
    placed: Placed, upstreams: Collection[str] | None, routing: RoutingConfig
) -> RouteConfig:
    """Report all that is wrong with one route; return it with its hosts in lower case.

    upstreams: the names there are; None when they are not known.
    """
    names = _check_match(placed)
    check_target(placed, upstreams, names)
    _check_methods(placed)
    hosts = _check_hosts(placed)
    _check_strip_prefix(placed, routing)
    if placed.route.rewrite:
        placed.judge(lambda: paths.rewrite(placed.route.rewrite, names))
    return replace(placed.route, hosts=hosts)


def check_reachable(routes: Sequence[Placed], routing: RoutingConfig) -> None:
    """Report every route whose matches, host by host and method by method, all go to earlier
    routes."""
    taken: dict[Any, Placed] = {}
    told_apart: dict[Any, tuple[VersionBy | None, Placed]] = {}
    for placed in sorted(routes, key=_precedence):
        if placed.bad & {
            "path",
            "prefix",
            "paths",
            "prefixes",
            "version",
            "version_by",
            "methods",
            "hosts",
            "headers",
            "case_sensitive",
            "trailing_slash",
        }:
            continue
        matches = [one for match in placed.route.matches() for one in _matches(match, routing)]
        owners = [taken.get(match) for match in matches]
        if matches and all(owners):
            first = next(owner for owner in owners if owner is not None)
            line = first.document.place(first.path)[0]
            where = (
                f"line {line}"
                if first.document is placed.document
                else f"{shown_path(first.document.file)}:{line}"
            )
            covers = f"the route {first.route.name!r} ({where})"
            hint = "remove one of them, or tell them apart by methods, hosts or headers"
            placed.error((), f"is never reached: {covers} takes everything it matches", hint)
        by = placed.route.version_by or routing.version_by
        told = by if placed.route.version and by.kind != "path" else None
        for match in matches:
            taken.setdefault(match, placed)
            other, first = told_apart.setdefault(match[:-1], (told, placed))
            if other != told:
                line = first.document.place(first.path)[0]
                message = f"differs from what holds for the route at line {line}, at the same place"
                hint = "give all of them a version and the same version_by"
                placed.error("version_by", message, hint)
                break


def name_routes(routes: Sequence[Placed]) -> list[RouteConfig]:
    """Give every route a name of its own: as written, or its path or prefix, numbered from the
    second on."""
    names: dict[str, Placed] = {}
    for placed in routes:
        if placed.route.name in names:
            first = names[placed.route.name]
            line = first.document.place((*first.path, "name"))[0]
            where = f"{shown_path(first.document.file)}:{line}"
            placed.error(
                "name",
                f"{placed.route.name!r} is the name of another route",
                f"the other one is at {where}",
            )
        elif placed.route.name:
            names[placed.route.name] = placed
    result = []
    for placed in routes:
        match = placed.route.matches()[0]
        name = wanted = placed.route.name or match.path or match.prefix
        count = 1
        while not placed.route.name and name in names:
            count += 1
            name = f"{wanted}#{count}"
        names[name] = placed
        result.append(replace(placed.route, name=name))
    return result


def _check_match(placed: Placed) -> Collection[str] | None:
    """Check path or prefix; return the template's names, None when they cannot be told."""
    route = placed.route
    given = [key for key in _MATCHES if getattr(route, key)]
    if len(given) > 1:
        placed.error(given[1], f"stands beside {given[0]}; a route has one of them")
    elif not given and not placed.bad & set(_MATCHES):
        placed.error((), "has neither path nor prefix", 'prefix = "/" takes everything')
    named: list[Collection[str]] = []
    for index, match in enumerate(route.matches() if given else ()):
        at: KeyPath = (given[0], index) if given[0] in ("paths", "prefixes") else (given[0],)
        _warn_of_patterns(placed, given[0], match.path or match.prefix)
        try:
            named.append(paths.matched(match)[1])
        except ConfigProblem as problem:
            placed.error(at, problem.message, problem.hint)
            return None
    if not named:
        return None if placed.bad & set(_MATCHES) else ()
    return set.intersection(*map(set, named))


def _warn_of_patterns(placed: Placed, key: str, text: str) -> None:
    """Warn of segments that are patterns in other software and plain text here."""
    for segment in text.split("/"):
        if segment.startswith(":") and len(segment) > 1:
            hint = f'path = "{text.replace(segment, "{" + segment[1:] + "}")}"'
        elif "*" in segment:
            hint = f'prefix = "{text[: text.index("*")].rstrip("/") or "/"}"'
        elif segment.startswith("<") and segment.endswith(">"):
            hint = f'path = "{text.replace(segment, "{" + segment[1:-1].rpartition(":")[2] + "}")}"'
        else:
            continue
        placed.warning(key, f"{segment!r} is no pattern, but a segment of just that text", hint)


def _check_methods(placed: Placed) -> None:
    for index, method in enumerate(() if "methods" in placed.bad else placed.route.methods):
        key = ("methods", index)
        if method in placed.route.methods[:index]:
            placed.error(key, f"{method!r} is listed twice")
        elif method == "CONNECT":
            placed.error(key, "CONNECT is for proxies; a gateway has no use for it")
        elif not _METHOD.fullmatch(method):
            like = nearest(method.upper(), REGISTERED_METHODS)
            placed.error(
                key,
                f"{method!r} is not a method; they are in capitals (RFC 9110 section 9.1)",
                like,
            )
        elif method not in REGISTERED_METHODS and (
            like := nearest(method, REGISTERED_METHODS)
        ).startswith("did"):
            placed.document.warning(
                (*placed.path, *key), f"route.methods: {method!r} is no method of HTTP's own", like
            )


def _check_hosts(placed: Placed) -> tuple[str, ...]:
    hosts: list[str] = []
    for index, written in enumerate(() if "hosts" in placed.bad else placed.route.hosts):
        key = ("hosts", index)
        try:
            host = host_name(written)
        except ValueError as error:
            placed.error(key, str(error))
            continue
        hosts.append(host)
        if host in hosts[:-1]:
            placed.error(key, f"{host!r} is listed twice")
        elif host == "*":
            placed.error(key, "'*' is not a host", "leave hosts out to take every host")
        elif not _HOST.fullmatch(host) or ".." in host:
            hint = "a name without scheme and port, '*.example.com' for all below one"
            placed.error(key, f"{host!r} is not a host", hint)
    return tuple(hosts)


def _check_strip_prefix(placed: Placed, routing: RoutingConfig) -> None:
    for match in placed.route.matches():
        _check_stripped(placed, match, routing)


def _check_stripped(placed: Placed, route: RouteConfig, routing: RoutingConfig) -> None:
    strip, match = route.strip_prefix, route.prefix or route.path
    if not strip or not match:
        return
    sensitive = routing.case_sensitive if route.case_sensitive is None else route.case_sensitive
    start, full = (strip, match) if sensitive else (strip.lower(), match.lower())
    start = start.rstrip("/")
    plain, service = paths.service_prefix(strip)
    if service and start == full:
        placed.judge(lambda: paths.literal("strip_prefix", plain))
    elif not start or "{" in strip or "}" in strip:
        placed.error(
            "strip_prefix",
            f"{strip!r} is nothing to strip: it is literal and more than '/'",
            'e.g. "/api/v1"',
        )
    elif not (full + "/").startswith(start + "/"):
        hint = "it must be whole segments at the start of it"
        placed.error("strip_prefix", f"{strip!r} is not a prefix of {match!r}", hint)
    else:
        placed.judge(lambda: paths.literal("strip_prefix", strip))


def _precedence(placed: Placed) -> tuple[Any, ...]:
    """Order routes whose path, host and headers are equally specific; else the files' order
    holds."""
    methods = sorted(placed.route.methods)
    return not methods, "HEAD" not in methods, methods


def _matches(route: RouteConfig, routing: RoutingConfig) -> Iterator[tuple[Any, ...]]:
    """Cut the route's match into indivisible ones: two routes that share one are equally specific
    in it."""
    sensitive = routing.case_sensitive if route.case_sensitive is None else route.case_sensitive
    slash = route.trailing_slash or routing.trailing_slash
    try:
        segments, captures = paths.matched(route)
    except ConfigProblem:
        return
    shape = "/".join(segments)
    if not sensitive:
        shape = shape.lower()
    if slash == "ignore" and route.prefix and not captures:
        shape = shape.rstrip("/")
    headers = frozenset((name.lower(), value) for name, value in route.headers.items())
    by = route.version_by or routing.version_by
    version = route.version if by.kind != "path" else ""
    for host, method in product(route.hosts or ("",), route.methods or ("",)):
        yield bool(route.path), sensitive, slash, shape, headers, host, method, version
