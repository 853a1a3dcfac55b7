"""Compose a snapshot of a configuration: build middlewares, flatten pipelines, give routes targets.

Nothing of the snapshot in force is changed: what is kept across reloads comes from a Draft or goes
into one, and pools take new settings only when the reload commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway import middlewares
from gateway.builtins.answers import builtin
from gateway.builtins.errors import catalogue
from gateway.builtins.limits import limits
from gateway.builtins.respond import respond
from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.tables.tokens import BUILTINS as TOKEN_BUILTINS
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.core.hooks import GUARDS, ConfigProblem, Context, Hooks, kind_of
from gateway.core.problems import Problems
from gateway.core.wait import in_task
from gateway.lifetime.registry import Draft
from gateway.limits.ledger import Ledger
from gateway.routing.redirect import redirect
from gateway.routing.rewrite import Rewrite, rewritten
from gateway.routing.versions import announced
from gateway.runtime.build import Builder, settings_of, with_own_upstreams
from gateway.runtime.early import RENDERER, early_pipeline, unrouted_pipeline
from gateway.runtime.pipeline import LEFT_OUT, Pipeline, flatten
from gateway.runtime.prefixes import indexed, restored_prefix
from gateway.runtime.route_limit import own_limit
from gateway.runtime.services import (
    Services,
    health_of,
    issuer_of,
    ledger_of,
    meter_of,
    shared_store,
    tracer_of,
)
from gateway.runtime.slices import Steps, at_once
from gateway.runtime.snapshot import Route, Snapshot, source_of
from gateway.runtime.tls import check_admin, listening, towards
from gateway.runtime.why.recorder import remembering
from gateway.store.stores import SharedStore
from gateway.upstream.fallback import forwarding
from gateway.upstream.pool.pool import Pool

if TYPE_CHECKING:
    from gateway.builtins.openapi.document import ApiDocument
    from gateway.builtins.token_build import Issuing
    from gateway.tracing.tracer import Tracer
    from gateway.usage.meter import Meter


def compose(loaded: LoadedConfig, draft: Draft, services: Services, number: int = 1) -> Snapshot:
    """Return a snapshot of `loaded`. Raises ConfigErrors with every problem that middlewares
    report."""
    return at_once(composing(loaded, draft, services, number))


def composing(
    loaded: LoadedConfig, draft: Draft, services: Services, number: int = 1
) -> Steps[Snapshot]:
    """As `compose`, in steps, each of which builds at most one middleware or one route."""
    return Composer(loaded, draft, services, number).compose()


class Composer:
    """One composition, which is done once (reload.surveying takes parts of it)."""

    def __init__(self, loaded: LoadedConfig, draft: Draft, services: Services, number: int) -> None:
        self.loaded = with_own_upstreams(loaded)
        self.draft = draft
        self.services = services
        self.number = number
        self.store: SharedStore | None = None
        self.ledger: Ledger | None = None
        self.issuing: Issuing | None = None
        self.meter: Meter | None = None
        self.tracer: Tracer | None = None
        self.pools: dict[str, Pool] = {}
        self.documents: list[ApiDocument] = []
        self.routes: list[Route] = []
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def prepare(self) -> Steps[None]:
        """Make what middlewares are built with: the store, the issuer, pools."""
        loaded, draft, services = self.loaded, self.draft, self.services
        self.store = shared_store(loaded, self._take)
        self.ledger = ledger_of(self.store, loaded, draft, services, self._take)
        self.issuing = issuer_of(self.store, loaded, draft, services, self._take)
        self.meter = meter_of(self.store, loaded, draft, services)
        issuer = self.issuing.issuer if self.issuing is not None else None
        secrets = middlewares.secrets(settings_of(loaded))
        self.tracer = tracer_of(loaded, draft, settings_of(loaded), secrets)
        shared = (self.store, self.ledger, issuer, secrets, self._take, self._ask)
        self.builder = Builder(loaded, draft, services, *shared)
        self.remembering = remembering(loaded, draft, services, secrets)
        for name in loaded.upstreams:
            self.pools[name] = self._pool(name)
            yield None

    def compose(self) -> Steps[Snapshot]:
        loaded, draft = self.loaded, self.draft
        yield from self.prepare()
        ledger = self.ledger if self.store is not None else None
        self.health = health_of(loaded, self.pools, ledger, self.services.clock.wall)
        for pipeline in loaded.pipelines:
            yield from self._routes(pipeline, self.routes)
        if self.documents:
            from gateway.builtins.openapi.document import publish

            rendering: Any = self.builder.renderer().error
            publish(self.documents, loaded.pipelines, rendering.__self__.problems)
        build, render = self.builder.build, self.builder.renderer
        early: dict[str, Pipeline] = {}
        for pipeline in loaded.pipelines:
            early[pipeline.name] = early_pipeline(pipeline, build, render)
            yield None
        unrouted = unrouted_pipeline(loaded.pipelines, early, build, render)
        finish = (*unrouted.finish_failed, *((self.tracer.finish,) if self.tracer else ()))
        remember, slow = self.remembering
        unrouted = replace(unrouted, finish_failed=finish, remember=remember, slow=slow)
        tls, upstream_tls = self.secured()
        if self.problems:
            raise ConfigErrors([*loaded.warnings, *self.warnings, *self.problems])
        if self.warnings:
            loaded = replace(loaded, warnings=(*loaded.warnings, *self.warnings))
        router, regions = yield partial(indexed, self.routes, loaded.gateway.routing)
        parts = (tuple(self.routes), unrouted, self.pools, tls, upstream_tls, regions, early)
        last, foreign = self.builder.renderer().error, self.builder.foreign
        kept = (self.health, draft, last, foreign, self.tracer)
        more = (self.builder.lives, self.builder.modules)
        return Snapshot(self.number, loaded, router, *parts, *kept, *more)

    def secured(self) -> tuple[Any, dict[str, Any]]:
        """Return TLS as the listener speaks it, and by upstream; None and nothing without."""
        loaded, keep = self.loaded, self.draft.keep
        tls = listening(loaded, keep, self.services.clock.wall(), self._take)
        check_admin(loaded, self._take)
        made = {name: towards(loaded, name, keep, self._take) for name in self.pools}
        return tls, {name: one for name, one in made.items() if one is not None}

    def issued(self, pipeline: PipelineConfig, config: RouteConfig) -> Any:
        """Return the target of a route whose builtin needs `[tokens]`."""
        request = config.request if config.request is not None else pipeline.request
        place = self.loaded.locate(
            pipeline.name, ("route", pipeline.routes.index(config), "builtin")
        )
        known = any(
            kind_of(name) == "auth" and config.overrides.get(name) is not False for name in request
        )
        if self.loaded.gateway.tokens is None:
            hint = "add [tokens] to gateway.toml"
            self.problems.append(
                Problem(*place, f"route.builtin: {config.builtin!r} needs an issuer", hint)
            )
        elif config.builtin in ("profile", "change_password") and not known:
            hint = 'add "auth" to the route\'s request list, with [[auth.jwt]] own = true'
            self.problems.append(
                Problem(
                    *place, f"route.builtin: {config.builtin!r} needs to know who is calling", hint
                )
            )
        return self.issuing.answer(config.builtin) if self.issuing is not None else None

    def _take(self, problem: Problem) -> None:
        (self.problems if problem.severity == "error" else self.warnings).append(problem)

    def _pool(self, name: str) -> Pool:
        config, services = self.loaded.upstreams[name], self.services

        def make() -> Pool:
            clock, telemetry = services.clock, services.telemetry
            return Pool(name, config, clock=clock, telemetry=telemetry, tell=services.tell)

        pool: Pool = self.draft.keep(("upstream", name), None, make)
        return pool

    def _routes(self, pipeline: PipelineConfig, routes: list[Route]) -> Steps[None]:
        """Add a pipeline's routes to `routes`."""
        built = yield from self.built(pipeline, pipeline.settings)
        whole = self._flatten(pipeline, None, built)
        for config in pipeline.routes:
            routes.append((yield from self._route(pipeline, config, built, whole)))
            yield None

    def built(
        self,
        pipeline: PipelineConfig,
        settings: Mapping[str, Any],
        route: RouteConfig | None = None,
    ) -> Steps[dict[str, Hooks]]:
        """Build middlewares of a pipeline, or of a route's own settings; return their hooks by
        name."""
        built: dict[str, Hooks] = {}
        for name, value in settings.items():
            built[name] = self.builder.build(pipeline, name, value, route)
            yield None
        return built

    def _route(
        self,
        pipeline: PipelineConfig,
        config: RouteConfig,
        built: Mapping[str, Hooks],
        whole: Pipeline,
    ) -> Steps[Route]:
        in_force = config.request if config.request is not None else pipeline.request
        compiled = whole
        hooks = built
        first = self._before(pipeline, config)
        rewrite = rewritten(config, self.loaded.gateway.routing) if config.upstream else None
        if rewrite is not None and config.strip_prefix and config.restore_prefix:
            restoring, rewrite = restored_prefix(config, rewrite)
            first = (restoring, *first)
        if config.has_own_lists or config.overrides or first:
            left_out = {name for name, value in config.overrides.items() if value is False}
            own = yield from self.built(pipeline, config.settings, config)
            hooks = {
                name: value for name, value in {**built, **own}.items() if name not in left_out
            }
            compiled = self._flatten(pipeline, config, hooks, first)
        target, awaited = self._target(pipeline, config, rewrite, hooks)
        status = tuple(
            hooks[name].request.status  # type: ignore[union-attr]
            for name in in_force
            if name in hooks and hasattr(hooks[name].request, "status")
        )
        if config.builtin in LEFT_OUT:
            compiled = self._flatten(pipeline, config, LEFT_OUT[config.builtin](hooks), first)
        if config.upstream:
            target = target.__call__  # The method itself: calling the object costs more.
        elif awaited:
            target = in_task(target)
        guarded = any(
            kind_of(name) in GUARDS and config.overrides.get(name) is not False for name in in_force
        )
        return Route(
            config.name,
            config,
            compiled,
            target,
            awaited,
            status,
            guarded,
            self._ignores_case(config),
            source_of(config, self.loaded.upstreams),
        )

    def _target(
        self,
        pipeline: PipelineConfig,
        config: RouteConfig,
        rewrite: Rewrite | None,
        hooks: Mapping[str, Hooks],
    ) -> tuple[Any, bool]:
        """Return what answers the route's requests, and whether it has to be awaited."""
        if config.upstream:
            return self._forwarding(config, rewrite), True
        if config.redirect is not None:
            return redirect(config, self.loaded.gateway.routing), False
        if config.respond is not None:
            return respond(config.respond), False
        if config.builtin == "limits":
            return limits(lambda: self._beside(pipeline)), True
        if config.builtin == "usage":
            from gateway.builtins.usage import usage

            return usage(self.meter, self.loaded.pipelines, self.services.clock.wall), True
        if config.builtin in TOKEN_BUILTINS:
            return self.issued(pipeline, config), True
        if config.builtin in ("openapi", "docs"):
            from gateway.builtins.openapi.document import ApiDocument

            made = ApiDocument(config.api)
            self.documents.append(made)
            return made.answer if config.builtin == "openapi" else made.page, False
        if config.builtin == "portal":
            from gateway.runtime.builtins.portal import portal

            own = (self.loaded, self.draft, self.services, self.store, self.meter)
            beside = partial(self._beside, pipeline)
            return portal(pipeline, config, hooks, own, beside, self._take), True
        if config.builtin == "errors":
            shown = self._problems(pipeline, config, hooks)
            return catalogue(shown, self.builder.failures), False
        return builtin(config.builtin, self.health), False

    def _problems(
        self, pipeline: PipelineConfig, route: RouteConfig, hooks: Mapping[str, Hooks]
    ) -> Problems:
        """Return what renders a route's failures."""
        names = pipeline.error if route.error is None else route.error
        found = hooks.get(next((name for name in names if kind_of(name) == RENDERER), ""))
        error: Any = (found.error if found is not None else None) or self.builder.renderer().error
        problems: Problems = error.__self__.problems
        return problems

    def _beside(self, pipeline: PipelineConfig) -> Iterator[Route]:
        """Yield the routes to upstreams of a pipeline, whose callers are known alike."""
        for route in self.routes:
            if route.pipeline.name == pipeline.name and route.config.upstream:
                yield route

    def _forwarding(self, config: RouteConfig, rewrite: Rewrite | None) -> Any:
        services = self.services
        return forwarding(
            self.pools,
            self.loaded.upstreams,
            services.transport,
            config,
            services.telemetry,
            rewrite,
            self.loaded.registered,
        )

    def _ask(self, name: str) -> Any:
        """Return what sends a middleware's own questions to the upstream of that name."""
        return self._forwarding(RouteConfig(name, upstream=name), None).__call__

    def _ignores_case(self, config: RouteConfig) -> bool:
        routing = self.loaded.gateway.routing
        return not (
            routing.case_sensitive if config.case_sensitive is None else config.case_sensitive
        )

    def _before(self, pipeline: PipelineConfig, route: RouteConfig) -> tuple[Hooks, ...]:
        """Return the hooks before a route's own lists: its limit, and the fields that it passes
        on."""
        limit = own_limit(pipeline.name, route, self.draft.keep)
        by = route.version_by or self.loaded.gateway.routing.version_by
        version = announced(route, by, self.services.clock)
        left_out, passed = self._left_out(pipeline, route), self.passed(pipeline, route)
        return (*version, *limit, *left_out, *passed)

    def _left_out(self, pipeline: PipelineConfig, route: RouteConfig) -> tuple[Hooks, ...]:
        """Return what stands in for middlewares of the pipeline that the route leaves out."""
        if not route.upstream:
            return ()
        asked = pipeline.request if route.request is None else route.request
        names = [
            name
            for name in pipeline.settings
            if name not in asked or route.overrides.get(name) is False
        ]
        found: list[Hooks | None] = []
        for name in names:
            make = getattr(middlewares.find(name).module, "left_out", None)
            if make is not None:
                found.append(
                    make(pipeline.settings[name], Context(name, pipeline.name, route.name))
                )
        return tuple(hooks for hooks in found if hooks is not None)

    def passed(self, pipeline: PipelineConfig, route: RouteConfig) -> tuple[Hooks, ...]:
        """Return the hook that passes on the fields a route names."""
        if not route.pass_headers:
            return ()
        from gateway.runtime.passed_headers import passed_headers

        try:
            return (passed_headers(route.pass_headers),)
        except ConfigProblem as problem:
            path = ("route", pipeline.routes.index(route), *problem.at)
            place, message = self.loaded.locate(pipeline.name, path), problem.message
            self._take(Problem(*place, f"route.pass_headers: {message}", problem.hint))
            return ()

    def _flatten(
        self,
        pipeline: PipelineConfig,
        route: RouteConfig | None,
        built: Mapping[str, Hooks],
        first: tuple[Hooks, ...] = (),
    ) -> Pipeline:
        def hooks(own: tuple[str, ...] | None, names: tuple[str, ...]) -> list[Hooks]:
            return [built[name] for name in (names if own is None else own) if name in built]

        error_names = pipeline.error if route is None or route.error is None else route.error
        errors = hooks(None, error_names)
        if not error_names or kind_of(error_names[0]) != RENDERER:
            errors.insert(0, self.builder.renderer())
        counting = [Hooks(finish=one.finish) for one in (self.meter, self.tracer) if one]
        answers = hooks(route.response if route is not None else None, pipeline.response)
        return flatten(
            pipeline.name,
            [*first, *hooks(route.request if route is not None else None, pipeline.request)],
            [*first, *answers, *counting],
            [*errors, *counting],
            *self.remembering,
        )
