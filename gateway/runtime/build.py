"""Build one middleware at a time, and report what is wrong with it at its place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from gateway import middlewares
from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from gateway.config.toml.problems import Problem
from gateway.core.exchange import Exchange, Reply
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.lifetime.registry import Draft
from gateway.limits.ledger import Ledger
from gateway.runtime.early import RENDERER
from gateway.runtime.operators.hooks import checked
from gateway.runtime.operators.modules import outdated
from gateway.runtime.services import Services
from gateway.store.stores import SharedStore


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
    _modules: set[str] = field(default_factory=set)
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
            made = kind.build(settings, context)
            if kind.module is not None:
                return replace(made, name=name)
            self.foreign = True
            self._note_outdated(pipeline, name, kind.build.__module__)
            return replace(checked(name, made), name=name)
        except ConfigProblem as problem:
            place = self.loaded.locate(pipeline.name, (name, *problem.at), context.route)
            self.report(Problem(*place, f"{name}: {problem.message}", problem.hint))
        except Exception as error:
            # An operator's own build may fail in any way; a reload must survive that.
            place = self.loaded.locate(pipeline.name, (name,), context.route)
            message = f"{name}: build failed: {type(error).__name__}: {error}"
            self.report(Problem(*place, message))
        return Hooks()

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
        if module not in self._modules:
            self._modules.add(module)
            place = self.loaded.locate(pipeline.name, (name,))
            for file in outdated(module):
                message = f"{name}: {file} has changed, and the old code goes on"
                hint = "restart the gateway to load it"
                self.report(Problem(*place, message, hint, "warning"))
