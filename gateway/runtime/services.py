"""What snapshots are composed into, and what they share by `[store]` and `[tokens]`.

What a table needs is imported only where the table is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import Problem
from gateway.core.clock import REAL, Clock
from gateway.core.hooks import ConfigProblem
from gateway.core.telemetry import Telemetry
from gateway.lifetime.process import worker_count
from gateway.lifetime.registry import Draft
from gateway.store.local import LocalStore
from gateway.store.stores import BadUrl, SharedStore, is_url, parse
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.roster import Tell

if TYPE_CHECKING:
    from gateway.builtins.token_build import Issuing
    from gateway.config.toml.positions import KeyPath
    from gateway.limits.ledger import Ledger
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
    """What counts usage by client; None where no route has `builtin = "usage"`."""
    if not any(
        route.builtin == "usage" for pipeline in loaded.pipelines for route in pipeline.routes
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


def _problem(loaded: LoadedConfig, path: KeyPath, message: str, hint: str) -> Problem:
    return Problem(*loaded.locate("", path), message, hint)
