"""Compile a configuration: text in, one frozen `LoadedConfig` out, or all errors of all files.

First every file by itself, then what needs several: references, names, reachability. The caller
says which middlewares exist, so that nothing here imports one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config.check import across
from gateway.config.check.assemble import PipelineDraft, draft
from gateway.config.check.protocols import check_protocol
from gateway.config.check.routes import check_reachable, check_route, name_routes
from gateway.config.check.settings import Kinds, SchemaFor
from gateway.config.hints import unknown_key
from gateway.config.tables.addresses import ListenAddress, RedirectConfig
from gateway.config.tables.load import load_at
from gateway.config.tables.pipeline import PipelineConfig
from gateway.config.tables.server import (
    GatewayConfig,
    ListenConfig,
    RoutingConfig,
)
from gateway.config.tables.upstream import UpstreamConfig
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.problems import ConfigErrors, Problem, nearest, shown_path
from gateway.config.toml.read import PIPELINE_KEYS, Document, Tree, read_tree

_LOOPBACK = frozenset(("127.0.0.1", "::1", "localhost"))
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration without errors.

    files: all that were read, secrets included; gateway.toml is the first.
    hash: over all that was read.
    registered: names of upstreams that no file has, of services registered at run time.
    """

    gateway: GatewayConfig
    upstreams: dict[str, UpstreamConfig]
    pipelines: tuple[PipelineConfig, ...]
    files: tuple[Path, ...]
    hash: str
    warnings: tuple[Problem, ...] = ()
    _places: _Places | None = field(default=None, repr=False, compare=False)
    registered: frozenset[str] = frozenset()

    def locate(self, pipeline: str, path: KeyPath, route: str = "") -> tuple[Path, int, int]:
        """Return file, line and column of a value, for errors found after loading.

        pipeline: its name, or "" for gateway.toml and upstreams.
        path: below a middleware, its name as listed and then the keys of its table, as in ("auth",
            "jwt", 0, "issuer"); of an upstream ("upstream", NAME, ...); else as in the file, as in
            ("route", 2, "rewrite").
        route: the name of a route whose overrides are looked at first.
        A key that is not written has the place of its table.
        """
        if self._places is None:
            return self.files[0], 1, 1
        return self._places.locate(pipeline, path, route)


@dataclass(frozen=True, slots=True)
class _Places:
    """The documents behind a LoadedConfig."""

    gateway: Document
    upstreams: Mapping[str, Document]
    drafts: Mapping[str, PipelineDraft]

    def locate(self, pipeline: str, path: KeyPath, route: str) -> tuple[Path, int, int]:
        if pipeline not in self.drafts:
            document = (
                self.upstreams.get(str(path[1]), self.gateway)
                if path[:1] == ("upstream",) and path[1:]
                else self.gateway
            )
            return (document.file, *document.place(path))
        made = self.drafts[pipeline]
        if path[:1] == ("route",) and path[1:]:  # A document's operation stands elsewhere.
            path = (*made.routes[int(path[1])].placed.path, *path[2:])
        override = None
        for drafted in made.routes:
            if path and drafted.placed.route.name == route and path[0] in drafted.overrides:
                override = drafted.overrides[str(path[0])].path
        return (made.document.file, *made.place(path, override))


def compile_config(
    path: Path, schema_for: SchemaFor, known_names: Sequence[str], environ: Mapping[str, str]
) -> LoadedConfig:
    """Read and check `gateway.toml` at `path` and all it includes. Raises ConfigErrors.

    schema_for: see `settings.SchemaFor`.
    known_names: the names that may be suggested for an unknown one.
    """
    tree = read_tree(path, environ)
    if tree.gateway is None:
        raise ConfigErrors(tree.problems.all())
    gateway = _gateway(tree.gateway)
    upstreams, homes = _upstreams(tree)
    _fallbacks(upstreams, homes, tree.upstreams_known)
    kinds = Kinds(schema_for, known_names)
    drafts = [draft(document, kinds) for document in tree.pipelines]
    _routes(drafts, homes.keys() if tree.upstreams_known else None, gateway.routing)
    across.lint(drafts, gateway.routing)
    like = gateway.services.like if gateway.services is not None else ""
    if tree.upstreams_known:
        across.check_like(tree.gateway, like, homes)
    if not tree.problems.of("error"):
        across.lint_upstreams(drafts, upstreams, homes, like)
    named = _pipeline_names(drafts)
    if not drafts and not tree.problems.of("error"):
        tree.gateway.warning(
            ("include",),
            "there are no pipelines: every request is answered 404",
            "include pipelines/*.toml",
        )
    for exposed in sorted(tree.sources.exposed):
        message = "every user of this machine can read this file, and it holds a secret"
        tree.problems.add(Problem(exposed, 1, 1, message, f"chmod 600 {exposed.name}", "warning"))
    loaded = LoadedConfig(
        gateway,
        upstreams,
        tuple(made.config() for made in drafts),
        tuple(tree.sources.files),
        tree.sources.fingerprint(tree.gateway.file.parent),
        tree.problems.all(),
        _Places(tree.gateway, homes, named),
    )
    if tree.problems.of("error"):
        raise ConfigErrors(tree.problems.all(), loaded if _is_judged(tree.gateway) else None)
    return loaded


def _is_judged(document: Document) -> bool:
    """Return True if the tables are right by which middlewares are built. Without, say, the store
    that is meant, they would be refused for its lack."""
    faulty = {path[0] for path in (*document.faulty, *document.undefined) if path}
    return faulty.isdisjoint(BUILT_WITH) and () not in document.faulty


BUILT_WITH = ("store", "tokens")
"""The tables of gateway.toml that middlewares depend on."""


def gateway_of(path: Path, environ: Mapping[str, str]) -> GatewayConfig:
    """Return gateway.toml alone, where its tables with errors are the defaults. Raises
    ConfigErrors without one."""
    tree = read_tree(path, environ)
    if tree.gateway is None:
        raise ConfigErrors(tree.problems.all())
    return _gateway(tree.gateway)


def _gateway(document: Document) -> GatewayConfig:
    loaded = load_at(GatewayConfig, document, ())
    if loaded.value is None:
        return GatewayConfig(**loaded.valid)
    made: GatewayConfig = loaded.value
    listen, admin = made.listen, made.admin
    redirect = listen.redirect
    if redirect is not None:
        _redirect(document, listen, redirect)
    if listen.proxy_protocol and not made.server.trusted_proxies:
        hint = 'name who may, e.g. server.trusted_proxies = ["10.0.0.0/8"]'
        message = "listen.proxy_protocol: anybody who connects can say to be anybody"
        document.warning(("listen", "proxy_protocol"), message, hint)
    if admin is not None:
        if ListenAddress(admin.host, admin.port).clashes(listen.bound):
            hint = "give the admin listener a port of its own"
            document.error(
                ("admin", "port"), f"admin.port: {admin.port} is where listen listens", hint
            )
        if admin.readers and not admin.token:
            message = "admin.readers: without a token of its own nobody can change anything"
            document.warning(
                ("admin", "readers"),
                message,
                'set admin.token, e.g. token = "${GATEWAY_ADMIN_TOKEN}"',
            )
        if admin.host not in _LOOPBACK and not admin.token and not admin.readers:
            hint = 'set admin.token, e.g. token = "${GATEWAY_ADMIN_TOKEN}"'
            document.warning(
                ("admin", "host"),
                f"admin.host: {admin.host!r} lets others in, and there is no token",
                hint,
            )
    return made


def _redirect(document: Document, listen: ListenConfig, redirect: RedirectConfig) -> None:
    path: KeyPath = ("listen", "redirect")
    ports = any(one.host for one in listen.bound)
    if not listen.redirected:
        hint = 'host = "0.0.0.0"'
        document.error((*path, "host"), "listen.redirect.host: listen has Unix sockets only", hint)
    if not ports and not redirect.https_port:
        document.error(
            (*path, "https_port"),
            "listen.redirect.https_port: listen has Unix sockets only",
            "the port clients find https at, such as 443",
        )
    if any(one.clashes(listen.bound) for one in listen.redirected):
        document.error(
            (*path, "port"),
            f"listen.redirect.port: {redirect.port} is where listen listens",
            "80, usually",
        )
    if listen.tls is None and not redirect.https_port:
        hint = "add listen.tls, or say in https_port where https is"
        document.warning(
            path, "listen.redirect: sends clients to https, which is not spoken here", hint
        )


def _upstreams(tree: Tree) -> tuple[dict[str, UpstreamConfig], dict[str, Document]]:
    """Return every upstream that loaded, and the document of every upstream there is."""
    upstreams: dict[str, UpstreamConfig] = {}
    homes: dict[str, Document] = {}
    for document in tree.upstreams:
        for key in document.data:
            if key != "upstream":
                document.error((key,), f"{key}: is not a known key", _hint_for(key))
        tables = document.data.get("upstream", {})
        if not isinstance(tables, dict):
            document.error(("upstream",), "upstream: must be tables", "[upstream.NAME]")
            continue
        for name in tables:
            path = ("upstream", name)
            if name in homes:
                where = f"{shown_path(homes[name].file)}:{homes[name].place(path)[0]}"
                document.error(
                    path, f"upstream {name!r} is there twice", f"the other one is at {where}"
                )
                continue
            homes[name] = document
            config = _upstream(document, path)
            if config is not None:
                upstreams[name] = config
    return upstreams, homes


def _hint_for(key: str) -> str:
    """Return a hint for an unknown key of a file without pipelines."""
    if key in ("key", "user"):
        return f"a file of {key}s must lie where `include` does not match it"
    hint = unknown_key("upstreams.toml", key, ("upstream", *PIPELINE_KEYS))
    lists = ", ".join(sorted(PIPELINE_KEYS))
    return (
        hint
        if hint and not hint.startswith("known")
        else f"a pipeline has one of {lists}; other files hold [upstream.NAME] tables"
    )


def _upstream(document: Document, path: tuple[str, str]) -> UpstreamConfig | None:
    loaded = load_at(UpstreamConfig, document, path).value
    _endpoints(document, path)
    if loaded is None:
        return None
    config: UpstreamConfig = loaded
    health, retry = config.health, config.retry
    if health is not None and health.timeout > health.interval:
        message = (
            f"a check may take {health.timeout:g} s but the next is due after {health.interval:g} s"
        )
        document.warning(
            (*path, "health", "timeout"), message, "make timeout shorter than interval"
        )
    if (
        health is not None
        and health.type == "tls"
        and any(not one.url.startswith("https:") for one in config.endpoints)
    ):
        document.error(
            (*path, "health", "type"),
            'health.type: "tls" is for endpoints with TLS',
            'use "tcp", or https:// URLs',
        )
    check_protocol(document, path, config)
    if retry is not None and retry.base_delay > retry.max_delay:
        message = f"waits start at {retry.base_delay:g} s but may be {retry.max_delay:g} s at most"
        document.warning(
            (*path, "retry", "base_delay"), message, "make base_delay shorter than max_delay"
        )
    # __post_init__ puts `url` in front of the endpoints, and would do so again.
    endpoints = config.endpoints[1:] if config.url else config.endpoints
    return replace(config, name=path[1], endpoints=endpoints)


def _fallbacks(
    upstreams: Mapping[str, UpstreamConfig], homes: Mapping[str, Document], known: bool
) -> None:
    """Check that every fallback exists and that none leads back to where it came from."""
    for name, config in upstreams.items():
        place = ("upstream", name, "fallback")
        seen, other = [name], config.fallback
        while other:
            if other not in homes and known and len(seen) == 1:
                homes[name].error(
                    place, f"fallback: there is no upstream {other!r}", nearest(other, tuple(homes))
                )
            if other in seen:
                homes[name].error(
                    place, f"fallback: leads in a circle: {' -> '.join((*seen, other))}"
                )
                break
            seen.append(other)
            other = upstreams[other].fallback if other in upstreams else ""


def _endpoints(document: Document, path: tuple[str, str]) -> None:
    """Check that there are endpoints, and none twice.

    This looks at the raw table, whose indices give the places.
    """
    table = document.data["upstream"][path[1]]
    if not isinstance(table, dict):
        return
    endpoints = table.get("endpoints", [])
    if "url" not in table and endpoints == [] and "discover" not in table:
        document.error(
            (*path, "endpoints"),
            f"upstream {path[1]!r} has no endpoints",
            'endpoints = [{ url = "http://..." }]',
        )
    seen: dict[Any, int] = {}
    urls: list[tuple[KeyPath, Any]] = [((*path, "url"), table.get("url"))]
    for index, endpoint in enumerate(endpoints if isinstance(endpoints, list) else ()):
        urls.append(
            (
                (*path, "endpoints", index, "url"),
                endpoint.get("url") if isinstance(endpoint, dict) else None,
            )
        )
    for place, url in urls:
        address = _address(url)
        if address in seen:
            document.error(
                place, f"{url!r} is an endpoint of {path[1]!r} already", f"see line {seen[address]}"
            )
        elif address is not None:
            seen[address] = document.place(place)[0]


def _address(url: Any) -> tuple[Any, ...] | None:
    """Return what all URLs of one endpoint have in common; None for a value that is no URL."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        return parts and (
            parts.scheme,
            parts.hostname,
            parts.port or _PORTS.get(parts.scheme),
            parts.path.rstrip("/"),
        )
    except ValueError:
        return None


def _routes(
    drafts: Sequence[PipelineDraft], upstreams: Collection[str] | None, routing: RoutingConfig
) -> None:
    """Check and name the routes of all pipelines."""
    routes = [route for made in drafts for route in made.routes]
    for route in routes:
        route.placed = replace(route.placed, route=check_route(route.placed, upstreams, routing))
    for route, config in zip(routes, name_routes([route.placed for route in routes]), strict=True):
        route.placed = replace(route.placed, route=config)
    check_reachable([route.placed for route in routes], routing)


def _pipeline_names(drafts: Sequence[PipelineDraft]) -> dict[str, PipelineDraft]:
    named: dict[str, PipelineDraft] = {}
    for made in drafts:
        if made.name in named:
            other = named[made.name].document
            hint = f"the other one is {shown_path(other.file)}"
            made.document.error(("name",), f"{made.name!r} is the name of another pipeline", hint)
        named.setdefault(made.name, made)
    return named
