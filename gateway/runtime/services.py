"""What snapshots are composed into, and what they share by `[store]` and `[tokens]`.

What a table needs is imported only where the table is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.builtins.health import Health
from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import Problem
from gateway.core.clock import REAL, Clock
from gateway.core.hooks import ConfigProblem, kind_of
from gateway.core.telemetry import Telemetry
from gateway.lifetime.process import worker_count
from gateway.lifetime.registry import Draft
from gateway.runtime.why.memory import Memories
from gateway.store.local import LocalStore
from gateway.store.stores import BadUrl, SharedStore, is_url, parse
from gateway.upstream.connections.transport import Transport
from gateway.upstream.fallback import chain
from gateway.upstream.pool.pool import Pool
from gateway.upstream.pool.roster import Tell

if TYPE_CHECKING:
    from gateway.builtins.token_build import Issuing
    from gateway.config.toml.positions import KeyPath
    from gateway.limits.ledger import Ledger
    from gateway.tracing.encoding import Masks
    from gateway.tracing.tracer import Tracer
    from gateway.usage.meter import Meter

Report = Callable[[Problem], None]
"""Takes an error or a warning."""


@dataclass(frozen=True, slots=True)
class Services:
    """Process-wide services that every snapshot shares: transport, metrics, clock.

    local: of one of several workers, what its supervisor keeps.
    """

    transport: Transport
    telemetry: Telemetry = field(default_factory=Telemetry)
    clock: Clock = REAL
    tell: Tell | None = None
    """Takes what pools have to tell other workers."""
    local: LocalStore | None = None
    why: Memories = field(default_factory=lambda: Memories(REAL.wall))
    """What `gateway why` remembers."""


def shared_store(loaded: LoadedConfig, report: Report) -> SharedStore | None:
    """The shared store; None for memory://, and when its URL is wrong."""
    config = loaded.gateway.store
    if not is_url(config.url):
        return None
    try:
        return SharedStore(parse(config.url), config.deadline)
    except BadUrl as error:
        report(_problem(loaded, ("store", "url"), f"store.url: {error}", "redis://host:6379/0"))
    return None


def ledger_of(
    store: SharedStore | None,
    loaded: LoadedConfig,
    draft: Draft,
    services: Services,
    report: Report,
) -> Ledger | None:
    """What counts limits in the shared store, not connected before the first request; or for
    several workers."""
    if store is None:
        workers = worker_count(loaded.gateway.server)
        if workers == 1:
            return None
        from gateway.limits.local_ledger import LocalLedger

        local = services.local
        key = ("ledger", "local")
        book: LocalLedger = draft.keep(key, local, lambda: LocalLedger(local, workers), workers)
        return book
    try:
        from gateway.limits.redis_ledger import RedisLedger
    except ImportError:
        message, hint = "store.url: the package redis is missing", "pip install 'redis[hiredis]'"
        report(_problem(loaded, ("store", "url"), message, hint))
        return None
    ledger: RedisLedger = draft.keep(
        ("ledger",), store, lambda: RedisLedger(store, services.clock, services.telemetry)
    )
    return ledger


def meter_of(
    store: SharedStore | None, loaded: LoadedConfig, draft: Draft, services: Services
) -> Meter | None:
    """What counts usage by client; None where no route has `builtin = "usage"` or "portal"."""
    if not any(
        route.builtin in ("usage", "portal")
        for pipeline in loaded.pipelines
        for route in pipeline.routes
    ):
        return None
    from gateway.usage.meter import InFile, Meter

    state, retention = loaded.gateway.server.state_dir, loaded.gateway.server.retention
    path = loaded.files[0].parent / state / "usage.db" if state else None

    def make() -> Meter:
        if store is None and path is None and services.local is not None:
            from gateway.usage.ledger_local import InSupervisor

            return Meter(InSupervisor(services.local), services.clock, retention)
        if store is None:
            return Meter(InFile(path, services.clock.wall), services.clock, retention)
        from gateway.store.redis.client import Purpose, RedisClient
        from gateway.usage.ledger_redis import ADD, DEADLINE, InStore

        purpose = Purpose(
            label=" (usage)",
            back="usage is written down again",
            down="Usage waits to be written down",
            scripts=(ADD,),
        )
        deadline = max(store.deadline, DEADLINE)
        client = RedisClient(store.url, deadline, services.clock, services.telemetry, purpose)
        return Meter(InStore(client), services.clock, retention)

    meter: Meter = draft.keep(("usage",), (store, path), make, retention)
    return meter


def issuer_of(
    store: SharedStore | None,
    loaded: LoadedConfig,
    draft: Draft,
    services: Services,
    report: Report,
) -> Issuing | None:
    """The gateway as an issuer of tokens; None without `[tokens]`, and when it is wrong."""
    config = loaded.gateway.tokens
    if config is None:
        return None
    from gateway.builtins.token_build import Surroundings, issuing

    directory = loaded.locate("", ("tokens",))[0].parent
    try:
        return issuing(
            config,
            Surroundings(
                directory,
                draft.keep,
                services.clock,
                services.telemetry,
                store,
                services.local,
            ),
        )
    except ConfigProblem as problem:
        path = ("tokens", *problem.at)
        report(_problem(loaded, path, f"tokens.{problem.message}", problem.hint))
        return None


def tracer_of(
    loaded: LoadedConfig,
    draft: Draft,
    settings: Iterable[tuple[str, Any]],
    secrets: frozenset[str],
) -> Tracer | None:
    """Return what traces requests; None without `[tracing]`.

    settings: of every middleware. secrets: names that credentials come in. Spans that wait for the
    collector outlast a reload.
    """
    config = loaded.gateway.tracing
    if config is None:
        return None
    from gateway.tracing.exporter import SpanQueue
    from gateway.tracing.tracer import Tracer

    where = (config.otlp, config.service, tuple(config.headers.items()))
    queue = draft.keep(("tracing", config.otlp), where, lambda: SpanQueue(config))
    return Tracer(config, queue, _masks(settings, secrets))


def _masks(settings: Iterable[tuple[str, Any]], secrets: frozenset[str]) -> Masks:
    """Return what spans hide: all that any pipeline's log hides."""
    from gateway.core.content.masking import MASK, masked_query, masker, network_of
    from gateway.tracing.encoding import Masks

    logs = [value for name, value in settings if kind_of(name) == "logging"]
    names = secrets.union(MASK, *(log.mask for log in logs))
    names = frozenset(name.lower() for name in names)
    patterns = dict.fromkeys(pattern for log in logs for pattern in log.mask_patterns)
    hidden = any(log.client_ip == "masked" for log in logs)
    return Masks(
        partial(masked_query, mask=names),
        masker(patterns) or str,
        network_of if hidden else str,
        "user-agent" not in names,
    )


def health_of(
    loaded: LoadedConfig,
    pools: Mapping[str, Pool],
    ledger: Ledger | None,
    wall: Callable[[], float],
) -> Health:
    """Return the gateway's condition, in which upstreams count that routes lead to.

    ledger: that of a shared store.
    """
    routes = [route for pipeline in loaded.pipelines for route in pipeline.routes]
    stand_ins: dict[str, list[str]] = {}
    for route in routes:
        for name in route.upstreams:
            if name in pools:
                stand_ins[name] = chain(name, loaded.upstreams)[1:]
    alone = {route.upstreams[0] for route in routes if len(route.upstreams) == 1}
    for route in routes:
        for name in stand_ins.keys() & set(route.upstreams) - alone:
            # Without one of its shares a route fails in part: the gateway is degraded by it.
            stand_ins[name] += [other for other in route.upstreams if other != name]
    return Health(pools, dict(sorted(stand_ins.items())), ledger, wall, loaded.registered)


def _problem(loaded: LoadedConfig, path: KeyPath, message: str, hint: str) -> Problem:
    return Problem(*loaded.locate("", path), message, hint)
