"""What is in force: one immutable configuration, compiled, and the requests on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from time import time
from typing import TYPE_CHECKING, Any

from gateway.builtins.health import Health
from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.problems import render
from gateway.lifetime.registry import Draft, Registry
from gateway.routing.regions import Regions
from gateway.routing.router import Router
from gateway.runtime.operators.starting import Life
from gateway.runtime.pipeline import Pipeline
from gateway.upstream.pool.pool import Pool

if TYPE_CHECKING:
    from gateway.protocols.tls import ServerTls
    from gateway.tracing.tracer import Tracer
    from gateway.upstream.connections.tls import UpstreamTls

Target = Callable[[Exchange], Any]
"""Gives a Reply, or something to await for one (`Route.awaited`)."""


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled route: requests go through `pipeline` to `target`.

    That is an upstream or one of the gateway's own answers.
    """

    name: str
    config: RouteConfig
    pipeline: Pipeline
    target: Target
    awaited: bool = True
    status: tuple[Callable[[Exchange], list[dict[str, Any]]], ...] = ()
    """What the route's limits say about a caller, for the `limits` answer."""
    guarded: bool = False
    """Whether a request hook asks callers who they are."""
    ignores_case: bool = False
    """Whether paths that differ in case only are the same."""
    source: str = ""
    """The route's name, and a fingerprint of where its answers come from.

    Answers of another source are not served for it.
    """


def source_of(config: RouteConfig, upstreams: Mapping[str, UpstreamConfig]) -> str:
    """What `Route.source` is for a route."""
    if config.builtin:
        return config.name
    facts = (
        config.upstream,
        config.strip_prefix,
        config.rewrite,
        config.redirect,
        config.respond,
        [
            (sorted(one.url for one in upstream.endpoints), upstream.discover, upstream.tls)
            for upstream in map(upstreams.get, config.upstreams)
            if upstream is not None
        ],
    )
    digest = blake2b(repr(facts).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return f"{config.name} {digest}"


def _render(exchange: Exchange, failed: Failed) -> Reply:
    return render(failed, exchange, "problem")


@dataclass(slots=True, eq=False)
class Snapshot:
    """A configuration in force, or on its way out.

    number:   counts up with every reload.
    unrouted: the pipeline of requests that match no route.
    early:    error hooks by pipeline, for requests without a route in that pipeline's region.
    foreign:  whether operators' own hooks run in it, which may set context variables.
    """

    number: int
    loaded: LoadedConfig
    router: Router[Route]
    routes: tuple[Route, ...]
    unrouted: Pipeline
    pools: Mapping[str, Pool] = field(default_factory=dict)
    tls: ServerTls | None = None
    upstream_tls: Mapping[str, UpstreamTls] = field(default_factory=dict)
    regions: Regions[str] = field(default_factory=lambda: Regions(()))
    early: Mapping[str, Pipeline] = field(default_factory=dict)
    health: Health = field(default_factory=lambda: Health({}, {}, None, time))
    objects: Draft = field(default_factory=lambda: Registry().draft())
    """The objects of the registry that it uses, released when the last request has left."""
    render: Any = _render
    """What failures look like where a pipeline's own error hooks have failed."""
    foreign: bool = False
    tracer: Tracer | None = None
    lives: Sequence[Life] = ()
    """Middlewares to be started before it is in force."""
    modules: Collection[str] = ()
    """Python modules of operators' middlewares."""
    active: int = 0
    _retired: Callable[[], None] | None = None

    def __repr__(self) -> str:
        state = "retiring" if self._retired else "current"
        return (
            f"<Snapshot {self.number} {self.loaded.hash} {state}, {len(self.routes)} routes, "
            f"{self.active} active>"
        )

    def unrouted_for(self, exchange: Exchange) -> Pipeline:
        """The pipeline that answers a request which has failed before it had a route."""
        owner = self.regions.owner(exchange)
        return self.unrouted if owner is None else self.early.get(owner, self.unrouted)

    def route(self, name: str) -> Route | None:
        """The route of that name, if there is one."""
        return next((route for route in self.routes if route.name == name), None)

    def leave(self) -> None:
        """A request, for which `active` was counted up, is done with it.

        The last one to leave a retired snapshot closes what only it still used.
        """
        self.active -= 1
        if self.active == 0 and self._retired is not None:
            self._retire()

    def retire(self, then: Callable[[], None]) -> None:
        """Let no request enter any more; call `then` once the last one has left.

        At once if there is none.
        """
        self._retired = then
        if self.active == 0:
            self._retire()

    def _retire(self) -> None:
        then, self._retired = self._retired, None
        if then is not None:
            then()
