"""Lint the lists of a pipeline: what is allowed but cannot mean what it says.

The order of compression and caching in `response` is free on purpose. With compression first, the
cache stores one coded body per coding (Vary) and a hit costs nothing; with caching first, it stores
one body and every hit is compressed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.config.check.paths import PLACEHOLDER
from gateway.config.check.settings import Entries
from gateway.config.toml.positions import KeyPath
from gateway.core.hooks import GUARDS, kind_of


@dataclass(frozen=True, slots=True)
class Lists:
    """The three lists of a pipeline or route, and the config of each name that loaded."""

    request: Entries
    response: Entries
    error: Entries
    settings: Mapping[str, Any]
    without_auth: bool = False
    """The route says `auth = false`."""
    names: Collection[str] | None = None
    """Those in the path of a route with settings of its own for caching."""


Finding = tuple[KeyPath, str, str]


def findings(lists: Lists) -> list[Finding]:
    """Return the findings about the lists, each at the entry it is about."""
    checks = (
        _order,
        _issuers,
        _unknown_clients,
        _costs,
        _caching,
        _queries,
        _transforms,
        _cors,
        _observers,
    )
    return [finding for check in checks for finding in check(lists)]


def _order(lists: Lists) -> Iterator[Finding]:
    """Find what depends on the caller, or is not for strangers, but comes before auth."""
    guards = [index for index, (name, _) in enumerate(lists.request) if kind_of(name) in GUARDS]
    if not guards:
        return
    first, last = lists.request[guards[0]][0], lists.request[guards[-1]][0]
    for name, path in lists.request[: guards[-1]]:
        if kind_of(name) == "caching":
            message = "what it has stored goes to callers nobody has checked"
            yield path, f"{name!r} comes before {last!r}: {message}", f"move it behind {last!r}"
    before, hint = f"comes before {first!r}", f"move it behind {first!r}"
    for name, path in lists.request[: guards[0]]:
        if kind_of(name) == "validation":
            message = "it reads and judges the bodies of callers nobody has checked"
            yield path, f"{name!r} {before}: {message}", hint
        elif kind_of(name) == "rate_limit" and _limits_by_client(lists.settings.get(name)):
            by_ip = f'{hint}, and to limit strangers put one with key = "ip" in its place'
            message = f"{name!r} limits by client but {before}: no client is known there yet"
            yield path, message, by_ip


def _issuers(lists: Lists) -> Iterator[Finding]:
    """Find issuers without prefixes: two callers of the same name would be taken for one."""
    for name, path in lists.request:
        if kind_of(name) != "auth":
            continue
        config = lists.settings.get(name)
        methods = getattr(config, "methods", ())
        issuers = [*getattr(config, "jwt", ())] if "jwt" in methods else []
        if (
            "introspection" in methods
            and (server := getattr(config, "introspection", None)) is not None
        ):
            issuers.append(server)
        if sum(one.claims.prefix is None for one in issuers) > 1:
            hint = (
                'give one of them claims.prefix = "partners:"; "": the same name is the same caller'
            )
            message = "issuers, and a client of one may be called as a client of another"
            yield path, f"{name!r} has {len(issuers)} {message}", hint


def _unknown_clients(lists: Lists) -> Iterator[Finding]:
    if lists.without_auth or any(kind_of(name) in GUARDS for name, _ in lists.request):
        return
    for name, path in lists.request:
        if kind_of(name) == "rate_limit" and _limits_by_client(lists.settings.get(name)):
            message = (
                "limits by client, but without 'auth' no client is known: callers count by address"
            )
            yield path, f"{name!r} {message}", "put 'auth' in front of it, or say key = \"ip\""


def _costs(lists: Lists) -> Iterator[Finding]:
    responses = {name for name, _ in lists.response}
    for name, path in lists.request:
        config = lists.settings.get(name)
        rules = (config, *getattr(config, "rules", ()))
        if name not in responses and any(getattr(rule, "cost_header", "") for rule in rules):
            yield (
                path,
                f"{name!r} has a cost_header but is not in response: no cost is ever read",
                "add it to response",
            )


def _caching(lists: Lists) -> Iterator[Finding]:
    request, response = _first(lists.request, "caching"), _first(lists.response, "caching")
    if request and not response:
        yield (
            request[1],
            "caching is in request but not in response: it never stores what it looks up",
            "add it to response",
        )
    if response and not request:
        yield (
            response[1],
            "caching is in response but not in request: it never looks up what it stores",
            "add it to request",
        )
    for entry in filter(None, (request, response)):
        paths = getattr(lists.settings.get(entry[0]), "invalidate", ())
        for name in (name for path in paths for name in PLACEHOLDER.findall(path)):
            if lists.names is not None and name not in lists.names:
                message = f"invalidate of {entry[0]!r} has {{{name}}}, which is not in the path"
                yield entry[1], f"{message}: a write takes nothing out by it", ""
                return


def _queries(lists: Lists) -> Iterator[Finding]:
    """Find changes to the query that the cache's key knows nothing of."""
    kinds = [kind_of(name) for name, _ in lists.request]
    if "caching" not in kinds:
        return
    for name, path in lists.request[kinds.index("caching") + 1 :]:
        query = getattr(getattr(lists.settings.get(name), "request", None), "query", None)
        if kind_of(name) == "transform" and (
            getattr(query, "set", None) or getattr(query, "remove", None)
        ):
            message = (
                "changes the query behind 'caching': what is stored has the key of the one before"
            )
            yield path, f"{name!r} {message}", "move it in front of 'caching'"


def _transforms(lists: Lists) -> Iterator[Finding]:
    """Find changes to answers that come too early, too late, or to answers that come coded."""
    kinds = [kind_of(name) for name, _ in lists.response]
    asked = {name for name, _ in lists.request}
    for place, (name, path) in enumerate(lists.response):
        changes = getattr(lists.settings.get(name), "response", None)
        body = getattr(changes, "body", None)
        if kind_of(name) != "transform" or not any(
            getattr(body, key, None) for key in ("set", "remove", "rename")
        ):
            continue
        if name not in asked:
            message = "changes bodies but is not in request: upstreams may answer compressed"
            yield path, f"{name!r} {message}, which it cannot read", "add it to request"
        if "compression" in kinds[:place]:
            message = "changes bodies but stands behind 'compression': it cannot read them there"
            yield path, f"{name!r} {message}", "move it in front of 'compression'"
        if "caching" in kinds[place:]:
            message = "stands before 'caching': what is stored has one caller's values in it"
            yield path, f"{name!r} {message}", "move it behind 'caching'"


def _cors(lists: Lists) -> Iterator[Finding]:
    listed = _first(lists.response, "cors") or _first(lists.request, "cors")
    if listed and not _first(lists.error, "cors"):
        yield (
            listed[1],
            "cors is not in error: browsers hide errors from the pages that asked",
            "add it to error",
        )


def _observers(lists: Lists) -> Iterator[Finding]:
    for kind, lost in (("logging", "are not logged"), ("metrics", "are not counted")):
        listed = _first(lists.response, kind)
        if listed and not _first(lists.error, kind):
            yield (
                listed[1],
                f"{kind} is in response but not in error: requests that fail {lost}",
                "add it to error",
            )


def _first(entries: Entries, kind: str) -> tuple[str, KeyPath] | None:
    return next((entry for entry in entries if kind_of(entry[0]) == kind), None)


def _limits_by_client(config: Any) -> bool:
    key = config.get("key") if isinstance(config, Mapping) else getattr(config, "key", None)
    return key == "client" or (isinstance(key, list | tuple) and "client" in key)
