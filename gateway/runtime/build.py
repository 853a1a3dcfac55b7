"""Build one middleware at a time, and report what is wrong with it at its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

from gateway import middlewares
from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.toml.problems import Problem
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import OwnFailure, own_failure
from gateway.core.hooks import Build, ConfigProblem, Context, Hooks, OwnMetric, own_metric
from gateway.core.telemetry import DURATION_BUCKETS, Telemetry
from gateway.lifetime.registry import Draft
from gateway.limits.ledger import Ledger
from gateway.runtime.early import RENDERER
from gateway.runtime.operators.hooks import checked
from gateway.runtime.operators.modules import outdated
from gateway.runtime.operators.starting import Life
from gateway.runtime.services import Services
from gateway.store.stores import SharedStore

if TYPE_CHECKING:
    from gateway.runtime.operators.http import HttpClients

_numbers = count()


def settings_of(loaded: LoadedConfig) -> Iterator[tuple[str, Any]]:
    """Yield every configured middleware with its settings."""
    for pipeline in loaded.pipelines:
        yield from pipeline.settings.items()
        for route in pipeline.routes:
            yield from route.settings.items()


def own_upstream(pipeline: str, route: str, name: str) -> str:
    """The name of the upstream that a middleware itself asks."""
    return "/".join(filter(None, (pipeline, route, name)))


def with_own_upstreams(loaded: LoadedConfig) -> LoadedConfig:
    """Add the upstreams that middlewares themselves ask."""
    found = dict(loaded.upstreams)
    for pipeline in loaded.pipelines:
        for route, settings in (
            ("", pipeline.settings),
            *((one.name, one.settings) for one in pipeline.routes),
        ):
            for name, value in settings.items():
                config = middlewares.upstream(name, value)
                if config is not None:
                    called = own_upstream(pipeline.name, route, name)
                    found[called] = replace(config, name=called)
    return replace(loaded, upstreams=found) if len(found) > len(loaded.upstreams) else loaded


@dataclass(eq=False)
class Builder:
    """Makes hooks of settings. `issuer` is what `[[auth.jwt]] own = true` trusts, if there is
    one."""

    loaded: LoadedConfig
    draft: Draft
    services: Services
    store: SharedStore | None
    ledger: Ledger | None
    issuer: Any
    secrets: frozenset[str]
    report: Callable[[Problem], None]
    ask: Callable[[str], Callable[[Exchange], Awaitable[Reply]]]
    """Return what sends an Exchange to the upstream of that name."""
    foreign: bool = False
    """Whether it has built an operator's own middleware."""
    lives: list[Life] = field(default_factory=list)
    """Middlewares that are to be started."""
    failures: list[OwnFailure] = field(default_factory=list)
    """Kinds of failures of operators' middlewares."""
    _metrics: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    """Modules of operators' own middleware that have been looked at."""

    def build(
        self, pipeline: PipelineConfig, name: str, settings: Any, route: RouteConfig | None = None
    ) -> Hooks:
        """The hooks of a middleware with a pipeline's settings, or a route's own."""
        context = Context(
            name=name,
            pipeline=pipeline.name,
            route=route.name if route is not None else "",
            directory=pipeline.file.parent,
            home=self.loaded.files[0].parent,
            clock=self.services.clock,
            telemetry=self.services.telemetry,
            keep=self.draft.keep,
            at_commit=self.draft.at_commit,
            errors=self.loaded.gateway.errors,
            store=self.store,
            ledger=self.ledger,
            local=self.services.local,
            issuer=self.issuer,
            secrets=self.secrets,
            ask=lambda: self.ask(own_upstream(pipeline.name, context.route, name)),
        )
        try:
            kind = middlewares.find(name)
            if kind.module is not None:
                return replace(kind.build(settings, context), name=name)
            self.foreign = True
            self._note_outdated(pipeline, name, kind.build.__module__)
            return self._operators(pipeline, kind.build, settings, context)
        except ConfigProblem as problem:
            place = self.loaded.locate(pipeline.name, (name, *problem.at), context.route)
            self.report(Problem(*place, f"{name}: {problem.message}", problem.hint))
        except Exception as error:
            # An operator's own build may fail in any way; a reload must survive that.
            place = self.loaded.locate(pipeline.name, (name,), context.route)
            message = f"{name}: build failed: {type(error).__name__}: {error}"
            self.report(Problem(*place, message))
        return Hooks()

    def _operators(
        self, pipeline: PipelineConfig, build: Build, settings: Any, context: Context
    ) -> Hooks:
        """The hooks of an operator's own middleware, with what such may use besides."""
        keep, services = self.draft.keep, self.services

        def clients() -> HttpClients:
            from gateway.runtime.operators.http import HttpClients

            return HttpClients(services.telemetry, services.clock)

        name = context.name
        http = keep(("http of middlewares",), None, clients).of(name)
        made = build(
            settings, replace(context, http=http, metric=self._metric, failure=self._failure)
        )
        hooks = replace(checked(name, made), name=name)
        if hooks.start is not None or hooks.close is not None:
            place = self.loaded.locate(pipeline.name, (name,), context.route)
            life = Life(name, place, hooks)
            self.lives.append(life)
            keep(("life of a middleware", str(next(_numbers))), None, lambda: life)
        return hooks

    def _metric(
        self,
        name: str,
        help: str,
        *,
        kind: str = "counter",
        labels: Sequence[str] = (),
        buckets: tuple[float, ...] = DURATION_BUCKETS,
    ) -> OwnMetric:
        telemetry = self.services.telemetry
        settings = (kind, help, tuple(labels), buckets)
        if self._metrics.setdefault(name, settings) != settings:
            raise ConfigProblem(f"the metric {name} is declared twice, and differently")
        try:
            shown: Shown = self.draft.keep(
                ("metric", name),
                settings,
                lambda: Shown(own_metric(kind, name, help, labels, buckets), telemetry),
            )
        except ValueError as error:
            raise ConfigProblem(str(error)) from None
        self.draft.at_commit(shown.show)
        return shown.metric

    def _failure(self, code: str, status: int, title: str) -> OwnFailure:
        try:
            made = own_failure(code, status, title)
        except ValueError as error:
            raise ConfigProblem(str(error)) from None
        if made not in self.failures:
            self.failures.append(made)
        return made

    def renderer(self, pipeline: str = "") -> Hooks:
        """Return the hooks of an `error_handler` without settings, the same for every pipeline."""
        return self._renderer

    @cached_property
    def _renderer(self) -> Hooks:
        kind = middlewares.find(RENDERER)
        assert kind.config is not None
        context = Context(name=RENDERER, errors=self.loaded.gateway.errors)
        return kind.build(kind.config().load({}), context)

    def _note_outdated(self, pipeline: PipelineConfig, name: str, module: str) -> None:
        if module not in self.modules:
            self.modules.add(module)
            place = self.loaded.locate(pipeline.name, (name,))
            for file in outdated(module):
                message = f"{name}: {file} has changed, and the old code goes on"
                hint = "restart the gateway to load it"
                self.report(Problem(*place, message, hint, "warning"))


class Shown:
    """A metric of a middleware's own, shown while a configuration that uses it is alive."""

    def __init__(self, metric: OwnMetric, telemetry: Telemetry) -> None:
        self.metric = metric
        self._telemetry = telemetry

    def show(self) -> None:
        self._telemetry.show(self.metric.family)

    def close(self) -> None:
        self._telemetry.hide(self.metric.family)
