"""Turn one pipeline file into a draft: its lists, the config of every middleware, its routes.

What needs other files (upstreams, names, reachability) is checked in compile.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.config.check.documents import operation_routes
from gateway.config.check.lints import Lists, findings
from gateway.config.check.paths import names_of
from gateway.config.check.placed import Placed
from gateway.config.check.settings import Entries, Kinds, Middlewares, Written
from gateway.config.openapi.document import Operation
from gateway.config.tables.load import instance, known_keys, load, report
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.toml.positions import KeyPath, Place
from gateway.config.toml.read import Document
from gateway.config.toml.sources import Outside
from gateway.core.hooks import GUARDS, ConfigProblem, kind_of

LISTS = ("request", "response", "error")


@dataclass(slots=True)
class RouteDraft:
    """A route. `lists`: those its requests go through, without what it leaves out."""

    placed: Placed
    lists: dict[str, Entries]
    overrides: dict[str, Written] = field(default_factory=dict)
    operation: Operation | None = None


@dataclass(slots=True)
class PipelineDraft:
    document: Document
    name: str
    lists: dict[str, Entries]
    middlewares: Middlewares
    settings: dict[str, Any] = field(default_factory=dict)
    routes: list[RouteDraft] = field(default_factory=list)

    def config(self) -> PipelineConfig:
        lists: dict[str, Any] = {key: tuple(name for name, _ in self.lists[key]) for key in LISTS}
        routes = tuple(route.placed.route for route in self.routes)
        return PipelineConfig(
            self.name, self.document.file, settings=self.settings, routes=routes, **lists
        )

    def place(self, path: KeyPath, override: KeyPath | None) -> Place:
        """Return the place of `path`: below the name of a listed middleware, or as in the file.

        An instance's name may be one key ("rate_limit.ip") or two.
        """
        name, *below = path or ("",)
        if below and f"{name}.{below[0]}" in self.middlewares.listed:
            name = f"{name}.{below.pop(0)}"
        if isinstance(name, str) and name in self.middlewares.listed:
            return self.middlewares.place(name, tuple(below), override)
        return self.document.place(path)


def draft(document: Document, kinds: Kinds) -> PipelineDraft:
    """Read one pipeline file as far as possible and report every fault in it."""
    own = known_keys(instance(PipelineConfig))
    loaded = load(
        PipelineConfig, {key: value for key, value in document.data.items() if key in own}
    )
    for fault in loaded.faults:
        report(document, fault.path, fault)
    name = loaded.valid.get("name") if loaded.value is None else loaded.value.name
    made = PipelineDraft(
        document, name or document.file.stem, _lists(document), Middlewares(document, kinds)
    )
    raw = document.data.get("route")
    tables: dict[KeyPath, dict[str, Any]] = {
        ("route", index): table
        for index, table in enumerate(raw if isinstance(raw, list) else ())
        if isinstance(table, dict)
    }
    for path, table in tables.items():
        made.routes.append(_route(document, path, table, made.lists))
    documents = loaded.valid.get("openapi", ()) if loaded.value is None else loaded.value.openapi
    asked = [name for name, _ in made.lists["request"]]
    for path, table, operation in operation_routes(document, documents, asked):
        tables[path] = table
        made.routes.append(_route(document, path, table, made.lists))
        made.routes[-1].operation = operation
    _enter(made)
    made.middlewares.read_tables(own)
    for route in made.routes:
        _override(made, route, tables[route.placed.path])
    _load(made)
    _bind(made)
    _lint(made)
    return made


def _lists(document: Document) -> dict[str, Entries]:
    default = PipelineConfig()
    lists: dict[str, Entries] = {}
    for key in LISTS:
        written = _entries(document.data.get(key), (key,))
        lists[key] = (
            [(name, (key, 0)) for name in getattr(default, key)] if written is None else written
        )
    return lists


def _entries(names: Any, path: KeyPath) -> Entries | None:
    """Return a list's names and their places, or None without a list. Other items are skipped."""
    if isinstance(names, Outside):
        return [(str(name), path) for name in names.items()]
    if not isinstance(names, list):
        return None
    return [
        (str(name), (*path, index))
        for index, name in enumerate(names)
        if isinstance(name, str) and name
    ]


def _route(
    document: Document, path: KeyPath, table: Mapping[str, Any], pipeline: Mapping[str, Entries]
) -> RouteDraft:
    """Load a route's own keys; the other keys of its table are overrides."""
    own = known_keys(instance(RouteConfig))
    given = {key: value for key, value in table.items() if key in own}
    loaded = load(RouteConfig, given, ("route",))
    for fault in loaded.faults:
        report(document, (*path, *fault.path), fault)
    route = RouteConfig(**loaded.valid) if loaded.value is None else loaded.value
    bad = frozenset(str(fault.path[0]) for fault in loaded.faults)
    lists = {}
    for key in LISTS:
        written = _entries(table.get(key), (*path, key))
        lists[key] = pipeline[key] if written is None else written
    return RouteDraft(Placed(document, path, route, bad), lists)


def _enter(made: PipelineDraft) -> None:
    for key in LISTS:
        made.middlewares.enter(made.lists[key])
        for route in made.routes:
            if route.lists[key] is not made.lists[key]:
                made.middlewares.enter(route.lists[key])


def _override(made: PipelineDraft, route: RouteDraft, table: Mapping[str, Any]) -> None:
    """Find what the route overrides and what it leaves out."""
    own = known_keys(instance(RouteConfig))
    names = {name for entries in route.lists.values() for name, _ in entries}
    route.overrides = made.middlewares.overrides(route.placed.path, table, own, names)
    left_out = {name for name, written in route.overrides.items() if written.value is False}
    route.lists = {
        key: [entry for entry in entries if entry[0] not in left_out]
        for key, entries in route.lists.items()
    }


def _load(made: PipelineDraft) -> None:
    """Load the pipeline's tables, then the routes', which do not report the pipeline's faults
    again."""
    middlewares = made.middlewares
    bare = {name: None for entries in made.lists.values() for name, _ in entries}
    for route in made.routes:
        bare |= {
            name: None
            for entries in route.lists.values()
            for name, _ in entries
            if name not in route.overrides
        }
    for name in bare:
        if name in middlewares.listed:
            config = middlewares.load(name)
            if config is not None:
                made.settings[name] = config
    for route in made.routes:
        written = {
            name: table for name, table in route.overrides.items() if table.value is not False
        }
        loaded = {name: middlewares.load_over(name, table) for name, table in written.items()}
        settings = {name: config for name, config in loaded.items() if config is not None}
        raw = {name: table.value for name, table in route.overrides.items()}
        route.placed = replace(
            route.placed, route=replace(route.placed.route, overrides=raw, settings=settings)
        )


def _bind(made: PipelineDraft) -> None:
    """Hand operations to the middleware that holds requests to them."""
    missing = False
    for route in made.routes:
        if route.operation is None:
            continue
        placed = route.placed.route
        name = next(
            (name for name, _ in route.lists["request"] if kind_of(name) == "validation"), ""
        )
        config = placed.settings.get(name, made.settings.get(name))
        if config is not None:
            config = replace(config, operation=route.operation)
        elif not name and not missing and "validation" not in placed.overrides:
            missing = True
            message = "openapi: requests are held to documents by 'validation'"
            made.document.error(
                route.placed.path[:2], f"{message}, which is not in request", "add it to request"
            )
        placed = replace(
            placed,
            operation=route.operation,
            overrides={name: {}, **placed.overrides} if name else placed.overrides,
            settings={**placed.settings, name: config} if config is not None else placed.settings,
        )
        route.placed = replace(route.placed, route=placed)


def _lint(made: PipelineDraft) -> None:
    """Lint the pipeline's lists, then those of its routes; the same finding is made once."""
    said = set()
    for path, message, hint in findings(_lists_of(made.lists, made.settings)):
        said.add(message)
        made.document.warning(path, message, hint)
    for route in made.routes:
        if not route.placed.route.upstream:
            continue  # the gateway's own answers bring the lists they need; nothing is cached
        lists = {
            key: [(name, _place(route, name, path)) for name, path in route.lists[key]]
            for key in LISTS
        }
        settings = {**made.settings, **route.placed.route.settings}
        without_auth = any(
            kind_of(name) in GUARDS and written.value is False
            for name, written in route.overrides.items()
        )
        names = _names(route.placed.route)
        for path, message, hint in findings(_lists_of(lists, settings, without_auth, names)):
            if message not in said:
                made.document.warning(path, message, hint)


def _names(route: RouteConfig) -> Collection[str] | None:
    """Return the names in the path of a route with settings of its own for caching; else None."""
    if any(kind_of(name) == "caching" for name in route.settings):
        with suppress(ConfigProblem):  # It is reported elsewhere.
            return names_of(route)
    return None


def _lists_of(
    lists: Mapping[str, Entries],
    settings: Mapping[str, Any],
    without_auth: bool = False,
    names: Collection[str] | None = None,
) -> Lists:
    hooks = (lists["request"], lists["response"], lists["error"])
    return Lists(*hooks, settings, without_auth, names)


def _place(route: RouteDraft, name: str, listed: KeyPath) -> KeyPath:
    """Return where a finding about a route belongs: its override, its own list's entry, or the
    route."""
    if name in route.overrides:
        return route.overrides[name].path
    own = route.placed.path
    return listed if listed[: len(own)] == own else own
