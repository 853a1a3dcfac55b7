"""Check what a route leads to: an upstream or several, or an answer of the gateway's own."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.config.check import paths
from gateway.config.check.placed import Placed
from gateway.config.tables.targets import SERVICE, Shares
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.problems import nearest
from gateway.core.hooks import ConfigProblem

TARGETS = ("upstream", "builtin", "redirect", "respond")

_QUERY = "{?query}"
_ORIGIN = re.compile(r"(https?://[^/?#{}]*(?:\{host\}(?::\d+)?)?)(?=[/?]|\{path\}|\{\?query\}|$)")


@dataclass(frozen=True, slots=True)
class Destination:
    """The parts of a redirect's `to`.

    origin:     scheme and authority, literal or with {host}; "" for a path of the same origin.
    rewrite:    path and query, as a route's `rewrite` has them.
    with_query: whether the client's query follows.
    """

    origin: str
    rewrite: str
    with_query: bool


def check_target(
    placed: Placed, upstreams: Collection[str] | None, names: Collection[str] | None
) -> None:
    """Report a route that has no target or several, or one that does not exist.

    upstreams: the names there are; None when they are not known. names: those of the template.
    """
    route = placed.route
    found = [key for key in TARGETS if getattr(route, key)]
    if len(found) > 1:
        placed.error(found[1], f"stands beside {found[0]}; a route has one of them")
    elif not found and not placed.bad & set(TARGETS):
        placed.error(
            (),
            "has no upstream, builtin, redirect or respond",
            'upstream = "NAME", of an [upstream.NAME]',
        )
    for name in route.upstreams:
        at = ("upstream", name) if isinstance(route.upstream, Shares) else ("upstream",)
        _check_upstream(placed, at, name, upstreams)
    if route.mirror is not None:
        _check_upstream(placed, ("mirror", "upstream"), route.mirror.upstream, upstreams)
        if not route.upstream and found:
            placed.warning("mirror", "has no effect on the gateway's own answers", "remove it")
    _check_service(placed, names)
    if route.sticky and not isinstance(route.upstream, Shares):
        placed.warning("sticky", "has an effect on shares of several upstreams only", "remove it")
    if route.redirect is not None:
        to, hosts = route.redirect.to, route.hosts
        placed.judge(lambda: destination(to, names, has_hosts=bool(hosts)))
    if found and not route.upstream:
        ineffective = ("timeout",) if route.redirect else ("strip_prefix", "rewrite", "timeout")
        for key in ineffective:
            if getattr(route, key):
                placed.warning(key, "has no effect on the gateway's own answers", "remove it")
        if route.redirect and route.rewrite:
            placed.warning("rewrite", "has no effect beside redirect", "say it in redirect.to")


def _check_service(placed: Placed, names: Collection[str] | None) -> None:
    route = placed.route
    if route.upstream != SERVICE:
        if route.services:
            placed.warning(
                "services", 'has an effect with upstream = "{service}" only', "remove it"
            )
        if any(paths.service_prefix(match.prefix)[1] for match in route.matches()):
            placed.error("prefix", 'ends with {service}, which is for upstream = "{service}"')
    elif names is not None and "service" not in names:
        hint = 'e.g. prefix = "/api/v1/{service}"'
        placed.error("upstream", "no {service} in the path would say which", hint)


def _check_upstream(
    placed: Placed, at: KeyPath, name: str, upstreams: Collection[str] | None
) -> None:
    if upstreams is not None and name not in upstreams:
        hint = nearest(name, upstreams) or f"add [upstream.{name}] to an included file"
        placed.error(at, f"no upstream is called {name!r}", hint)


def destination(text: str, names: Collection[str] | None, *, has_hosts: bool) -> Destination:
    """Parse a redirect's `to`. Raises ConfigProblem.

    What a client sends never chooses the authority: that is literal, or a host of the route's
    `hosts`, and ends where a path or query begins.
    """
    at = ("redirect", "to")
    with_query = text.endswith(_QUERY)
    rest = text.removesuffix(_QUERY)
    origin = ""
    if not text.startswith(("/", "{path}")):
        found = _ORIGIN.match(rest)
        origin = found[1] if found is not None else ""
        if not _is_origin(origin.replace("{host}", "host")):
            hint = 'e.g. "https://new.example.com{path}{?query}"'
            raise ConfigProblem(f"{text!r} is no http(s) URL and no path", at=at, hint=hint)
        rest = rest[len(origin) :]
    elif text.startswith("//"):
        raise ConfigProblem("'//' at the start names a host", at=at, hint='"https://HOST/..."')
    if "{host}" in origin and not has_hosts:
        message = "{host} without hosts on the route: clients would choose where they are sent"
        raise ConfigProblem(message, at=at, hint='hosts = ["example.com", "*.example.com"]')
    rewrite = rest if rest.startswith(("/", "{path}")) else f"/{rest}"
    try:
        paths.rewrite(rewrite, names)
    except ConfigProblem as problem:
        raise ConfigProblem(problem.message, at=at, hint=problem.hint) from None
    return Destination(origin, rewrite, with_query)


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.username is None and parts.port != 0
    except ValueError:
        return False
