"""Configuration to snapshot: builds every middleware, flattens every pipeline, gives every route
its target.

Runs beside the snapshot in force and touches nothing of it: whatever is kept across reloads comes
from, or goes into, a Draft, and pools take their new settings only when the reload commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from gateway import middlewares
from gateway.builtins.answers import builtin, limits_awaited
from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.tables.tokens import BUILTINS as TOKEN_BUILTINS
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.core.clock import REAL, Clock
from gateway.core.hooks import ConfigProblem, Context, Hooks, kind_of
from gateway.core.telemetry import Telemetry
from gateway.core.wait import in_task
from gateway.lifetime.registry import Draft
from gateway.limits.ledger import Ledger
from gateway.routing.regions import Regions
from gateway.routing.rewrite import rewritten
from gateway.routing.router import Router
from gateway.runtime.early import RENDERER, early_pipeline, unrouted_pipeline
from gateway.runtime.operator_hooks import checked
from gateway.runtime.operator_modules import outdated
from gateway.runtime.pipeline import Pipeline, flatten
from gateway.runtime.prefixes import restored_prefix, with_redirects
from gateway.runtime.slices import Steps, at_once
from gateway.runtime.snapshot import Route, Snapshot, source_of
from gateway.runtime.tls import listening, towards
from gateway.store.stores import BadUrl, SharedStore, is_url, parse
from gateway.upstream.connections.transport import Transport
from gateway.upstream.fallback import forwarding
from gateway.upstream.pool.pool import Pool

if TYPE_CHECKING:
    from gateway.builtins.token_build import Issuing
    from gateway.config.toml.positions import KeyPath

GUARDS = frozenset(("auth", "forward_auth"))
"""Middlewares that ask callers who they are."""


@dataclass(frozen=True, slots=True)
class World:
    """What snapshots are composed into: the parts of the process that outlive them."""

    transport: Transport
    telemetry: Telemetry = field(default_factory=Telemetry)
    clock: Clock = REAL


def compose(loaded: LoadedConfig, draft: Draft, world: World, number: int = 1) -> Snapshot:
    """A snapshot of `loaded`.

    Raises ConfigErrors with every problem the middlewares find in their settings.
    """
    return at_once(composing(loaded, draft, world, number))


def composing(loaded: LoadedConfig, draft: Draft, world: World, number: int = 1) -> Steps[Snapshot]:
    """As `compose`, in steps: at most one middleware is built, or one route put together, between
    two of them.
    """
    return _Composer(loaded, draft, world, number).compose()


class _Composer:
    def __init__(self, loaded: LoadedConfig, draft: Draft, world: World, number: int) -> None:
        self.loaded = loaded
        self.draft = draft
        self.world = world
        self.number = number
        self.store: SharedStore | None = None
        self.ledger: Ledger | None = None
        self.issuing: Issuing | None = None
        self.secrets = _secrets(loaded)
        self.modules: set[str] = set()
        """Of operators' own middlewares, as far as they have been looked at."""
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def compose(self) -> Steps[Snapshot]:
        self.store = self._store()
        self.ledger = self._ledger()
        self.issuing = self._issuing()
        pools: dict[str, Pool] = {}
        for name in self.loaded.upstreams:
            pools[name] = self._pool(name)
            yield None
        routes: list[Route] = []
        for pipeline in self.loaded.pipelines:
            yield from self._routes(pipeline, pools, routes)
        early: dict[str, Pipeline] = {}
        for pipeline in self.loaded.pipelines:
            early[pipeline.name] = early_pipeline(pipeline, self._build, self._renderer)
            yield None
        unrouted = unrouted_pipeline(self.loaded.pipelines, early, self._build, self._renderer)
        keep, now = self.draft.keep, self.world.clock.wall()
        tls = listening(self.loaded, keep, now, self._take)
        upstream_tls = {name: made for name in pools if (made := towards(self.loaded, name, keep, self._take)) is not None}
        if self.problems:
            raise ConfigErrors([*self.loaded.warnings, *self.warnings, *self.problems])
        loaded = replace(self.loaded, warnings=(*self.loaded.warnings, *self.warnings)) if self.warnings else self.loaded
        router, regions = yield partial(_index, routes, self.loaded.gateway.routing)
        parts = (tuple(routes), unrouted, pools, tls, upstream_tls, regions, early, self.draft, self.ledger)
        return Snapshot(self.number, loaded, router, *parts)

    def _store(self) -> SharedStore | None:
        """The shared store; None for memory://."""
        config = self.loaded.gateway.store
        if not is_url(config.url):
            return None
        try:
            return SharedStore(parse(config.url), config.deadline)
        except BadUrl as error:
            self._report(("store", "url"), f"store.url: {error}", "redis://host:6379/0")
        return None

    def _ledger(self) -> Ledger | None:
        """What counts limits in the shared store, not connected before the first request."""
        store, world = self.store, self.world
        if store is None:
            return None
        try:
            from gateway.limits.redis_ledger import RedisLedger
        except ImportError:
            self._report(("store", "url"), "store.url: the package redis is missing", "pip install 'redis[hiredis]'")
            return None
        ledger: RedisLedger = self.draft.keep(("ledger",), store, lambda: RedisLedger(store, world.clock, world.telemetry))
        return ledger

    def _issuing(self) -> Issuing | None:
        """The gateway as an issuer of tokens.

        What it needs is imported only where it is configured.
        """
        config = self.loaded.gateway.tokens
        if config is None:
            return None
        from gateway.builtins.token_build import Surroundings, issuing

        directory = self.loaded.locate("", ("tokens",))[0].parent
        world = self.world
        try:
            return issuing(config, Surroundings(directory, self.draft.keep, world.clock, world.telemetry, self.store))
        except ConfigProblem as problem:
            self._report(("tokens", *problem.at), f"tokens.{problem.message}", problem.hint)
            return None

    def _issued(self, pipeline: PipelineConfig, config: RouteConfig, request: tuple[str, ...]) -> Any:
        """The target of a route whose answer needs `[tokens]`."""
        place = self.loaded.locate(pipeline.name, ("route", pipeline.routes.index(config), "builtin"))
        known = any(kind_of(name) == "auth" and config.overrides.get(name) is not False for name in request)
        if self.loaded.gateway.tokens is None:
            hint = "add [tokens] to gateway.toml"
            self.problems.append(Problem(*place, f"route.builtin: {config.builtin!r} needs an issuer", hint))
        elif config.builtin in ("profile", "change_password") and not known:
            hint = 'add "auth" to the route\'s request list, with [[auth.jwt]] own = true'
            self.problems.append(Problem(*place, f"route.builtin: {config.builtin!r} needs to know who is calling", hint))
        return self.issuing.answer(config.builtin) if self.issuing is not None else None

    def _take(self, problem: Problem) -> None:
        (self.problems if problem.severity == "error" else self.warnings).append(problem)

    def _report(self, path: KeyPath, message: str, hint: str) -> None:
        self.problems.append(Problem(*self.loaded.locate("", path), message, hint))

    def _pool(self, name: str) -> Pool:
        config, world = self.loaded.upstreams[name], self.world

        def make() -> Pool:
            return Pool(name, config, clock=world.clock, telemetry=world.telemetry)

        pool: Pool = self.draft.keep(("upstream", name), None, make)
        return pool

    def _routes(self, pipeline: PipelineConfig, pools: Mapping[str, Pool], routes: list[Route]) -> Steps[None]:
        """Adds a pipeline's routes."""
        built = yield from self._built(pipeline, pipeline.settings)
        whole = self._flatten(pipeline, None, built)
        for config in pipeline.routes:
            routes.append((yield from self._route(pipeline, config, built, whole, pools)))
            yield None

    def _built(
        self, pipeline: PipelineConfig, settings: Mapping[str, Any], route: RouteConfig | None = None
    ) -> Steps[dict[str, Hooks]]:
        """Middlewares by name, with a pipeline's settings or a route's own."""
        built: dict[str, Hooks] = {}
        for name, value in settings.items():
            built[name] = self._build(pipeline, name, value, route)
            yield None
        return built

    def _route(
        self,
        pipeline: PipelineConfig,
        config: RouteConfig,
        built: Mapping[str, Hooks],
        whole: Pipeline,
        pools: Mapping[str, Pool],
    ) -> Steps[Route]:
        own_lists = any(names is not None for names in (config.request, config.response, config.error))
        in_force = config.request if config.request is not None else pipeline.request
        compiled = whole
        hooks = built
        first = self._before(pipeline, config)
        rewrite = rewritten(config, self.loaded.gateway.routing) if config.upstream else None
        if rewrite is not None and config.strip_prefix and config.restore_prefix:
            restoring, rewrite = restored_prefix(config, rewrite)
            first = (restoring, *first)
        if own_lists or config.overrides or first:
            left_out = {name for name, value in config.overrides.items() if value is False}
            own = yield from self._built(pipeline, config.settings, config)
            hooks = {name: value for name, value in {**built, **own}.items() if name not in left_out}
            compiled = self._flatten(pipeline, config, hooks, first)
        if config.upstream:
            world = self.world
            upstreams = self.loaded.upstreams
            target: Any = forwarding(pools, upstreams, world.transport, config, world.telemetry, rewrite)
            awaited = True
        elif config.builtin in TOKEN_BUILTINS:
            target, awaited = self._issued(pipeline, config, in_force), True
        else:
            target, awaited = builtin(config.builtin, pools, self.ledger), False
        status = tuple(
            hooks[name].request.status  # type: ignore[union-attr]
            for name in in_force
            if name in hooks and hasattr(hooks[name].request, "status")
        )
        if config.builtin == "limits":
            # Asking what is left uses nothing up, and is answered when nothing is.
            free = {name: replace(one, request=None) if hasattr(one.request, "status") else one for name, one in hooks.items()}
            compiled = self._flatten(pipeline, config, free, first)
            if any(getattr(one.__self__, "awaited_status", False) for one in status):
                target, awaited = limits_awaited, True
        if config.upstream:
            target = target.__call__  # The method itself: calling the object costs more.
        elif awaited:
            target = in_task(target)
        guarded = any(kind_of(name) in GUARDS and config.overrides.get(name) is not False for name in in_force)
        routing = self.loaded.gateway.routing
        ignores_case = not (routing.case_sensitive if config.case_sensitive is None else config.case_sensitive)
        return Route(
            config.name,
            config,
            compiled,
            target,
            awaited,
            status,
            guarded,
            ignores_case,
            source_of(config, self.loaded.upstreams),
        )

    def _before(self, pipeline: PipelineConfig, route: RouteConfig) -> tuple[Hooks, ...]:
        """What comes before a route's own lists: its limit, and the fields it asks for."""
        return (*self._own_limit(pipeline, route), *self._left_out(pipeline, route), *self._passed(pipeline, route))

    def _left_out(self, pipeline: PipelineConfig, route: RouteConfig) -> tuple[Hooks, ...]:
        """What stands in for middlewares that the pipeline has and the route's requests do not go
        through.
        """
        if not route.upstream:
            return ()
        asked = pipeline.request if route.request is None else route.request
        names = [name for name in pipeline.settings if name not in asked or route.overrides.get(name) is False]
        found: list[Hooks | None] = []
        for name in names:
            make = getattr(middlewares.find(name).module, "left_out", None)
            if make is not None:
                found.append(make(pipeline.settings[name], Context(name, pipeline.name, route.name)))
        return tuple(hooks for hooks in found if hooks is not None)

    def _passed(self, pipeline: PipelineConfig, route: RouteConfig) -> tuple[Hooks, ...]:
        """What passes the fields on that a route asks for."""
        if not route.pass_headers:
            return ()
        from gateway.runtime.passed_headers import passed_headers

        try:
            return (passed_headers(route.pass_headers),)
        except ConfigProblem as problem:
            path = ("route", pipeline.routes.index(route), *problem.at)
            place = self.loaded.locate(pipeline.name, path)
            self.problems.append(Problem(*place, f"route.pass_headers: {problem.message}", problem.hint))
            return ()

    def _own_limit(self, pipeline: PipelineConfig, route: RouteConfig) -> tuple[Hooks, ...]:
        config = route.limit
        if config is None:
            return ()
        from gateway.runtime.route_limit import RouteLimit

        key = ("route_limit", pipeline.name, route.name, *route.methods, "|", *route.hosts)
        kept: RouteLimit = self.draft.keep(key, config, lambda: RouteLimit(route.name, config))
        return (kept.hooks(),)

    def _flatten(
        self, pipeline: PipelineConfig, route: RouteConfig | None, built: Mapping[str, Hooks], first: tuple[Hooks, ...] = ()
    ) -> Pipeline:
        def hooks(own: tuple[str, ...] | None, names: tuple[str, ...]) -> list[Hooks]:
            return [built[name] for name in (names if own is None else own) if name in built]

        error_names = pipeline.error if route is None or route.error is None else route.error
        errors = hooks(None, error_names)
        if not error_names or kind_of(error_names[0]) != RENDERER:
            errors.insert(0, self._renderer(pipeline.name))
        return flatten(
            pipeline.name,
            [*first, *hooks(route.request if route is not None else None, pipeline.request)],
            [*first, *hooks(route.response if route is not None else None, pipeline.response)],
            errors,
        )

    def _build(self, pipeline: PipelineConfig, name: str, settings: Any, route: RouteConfig | None = None) -> Hooks:
        context = Context(
            name=name,
            pipeline=pipeline.name,
            route=route.name if route is not None else "",
            directory=pipeline.file.parent,
            home=self.loaded.files[0].parent,
            clock=self.world.clock,
            telemetry=self.world.telemetry,
            keep=self.draft.keep,
            at_commit=self.draft.at_commit,
            errors_format=self.loaded.gateway.errors.format,
            store=self.store,
            ledger=self.ledger,
            issuer=self.issuing.issuer if self.issuing is not None else None,
            secrets=self.secrets,
        )
        try:
            kind = middlewares.find(name)
            made = kind.build(settings, context)
            if kind.module is not None:
                return made
            self._note_outdated(pipeline, name, kind.build.__module__)
            return checked(name, made)
        except ConfigProblem as problem:
            file, line, column = self.loaded.locate(pipeline.name, (name, *problem.at), context.route)
            self.problems.append(Problem(file, line, column, f"{name}: {problem.message}", problem.hint))
        except Exception as error:
            # An operator's own build may fail in any way; a reload must survive that and say where.
            file, line, column = self.loaded.locate(pipeline.name, (name,), context.route)
            self.problems.append(Problem(file, line, column, f"{name}: build failed: {type(error).__name__}: {error}"))
        return Hooks()

    def _note_outdated(self, pipeline: PipelineConfig, name: str, module: str) -> None:
        if module not in self.modules:
            self.modules.add(module)
            place = self.loaded.locate(pipeline.name, (name,))
            for file in outdated(module):
                message = f"{name}: {file} has changed, and the old code goes on"
                self._take(Problem(*place, message, "restart the gateway to load it", "warning"))

    def _renderer(self, pipeline: str) -> Hooks:
        kind = middlewares.find(RENDERER)
        assert kind.config is not None
        context = Context(name=RENDERER, pipeline=pipeline, errors_format=self.loaded.gateway.errors.format)
        return kind.build(kind.config().load({}), context)


def _secrets(loaded: LoadedConfig) -> frozenset[str]:
    """Return the names that credentials come in, of every pipeline.

    What one pipeline asks for may be sent to another.
    """
    found: set[str] = set()
    for pipeline in loaded.pipelines:
        for settings in (pipeline.settings, *(route.settings for route in pipeline.routes)):
            for name, value in settings.items():
                secrets = getattr(middlewares.find(name).module, "secrets", None)
                if secrets is not None:
                    found |= secrets(value)
    return frozenset(found)


def _index(routes: Sequence[Route], routing: RoutingConfig) -> tuple[Router[Route], Regions[str]]:
    """What finds the route of a request, and the pipeline of one that has none."""
    router = Router(with_redirects(routes, routing), routing, attrgetter("guarded"))
    return router, Regions([(route.config, route.pipeline.name) for route in routes])
