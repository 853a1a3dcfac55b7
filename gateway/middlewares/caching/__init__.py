"""Shared caching of responses, as RFC 9111 has it.

Decisions are in rules/, variants in vary.py, the store in storage/; cache.py joins them to
requests, and behind.py asks for news that no client waits for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gateway.config.tables.schema import schema_of
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.middlewares.caching.cache import Cache
from gateway.middlewares.caching.config import CachingConfig, KeyConfig
from gateway.middlewares.caching.flights import Flights
from gateway.middlewares.caching.storage.memory import Memory
from gateway.store.local import LocalStore
from gateway.store.purges import PURGED, PURGES, Purge, Purges
from gateway.store.stores import SharedStore

__all__ = ["CONFIG", "CachingConfig", "KeyConfig", "build"]

CONFIG = schema_of(CachingConfig)

if TYPE_CHECKING:
    from gateway.middlewares.caching.storage.remote import Remote


def build(config: CachingConfig, context: Context) -> Hooks:
    """Build the hooks for one pipeline or route, whose stored responses outlive reloads.

    What is purged is so for all of them: a write anywhere invalidates everywhere.
    """
    local: LocalStore | None = context.local
    purges: Purges = context.keep(
        PURGES, None, lambda: Purges(None if local is None else partial(_post, local))
    )
    memory: Memory = context.keep(
        ("caching", "memory", context.pipeline, context.route),
        None,
        lambda: Memory(purges, context.clock),
    )
    flights: Flights = context.keep(
        ("caching", "flights", context.pipeline, context.route), None, Flights
    )
    labels, telemetry = (context.pipeline, context.route), context.telemetry
    telemetry.cache_bytes.watch(labels, memory, lambda memory: memory.used)
    telemetry.cache_responses.watch(labels, memory, len)
    telemetry.cache_evictions.watch(labels, memory, lambda memory: memory.evictions)
    remote = _remote(context, purges) if config.store == "redis" else None
    cache = Cache(config, context, memory, remote, flights if config.coalesce else None)
    return Hooks(
        request=cache.request,
        response=cache.response,
        error=cache.error,
        release=cache.release,
        passed=lambda exchange: exchange.cache,
    )


def _post(local: LocalStore, purge: Purge) -> None:
    """Have the supervisor tell the other workers."""
    local.post(PURGED, [tuple(purge)])


def _remote(context: Context, purges: Purges) -> Remote:
    """Return the store of `[store]`, not connected before the first request."""
    store: SharedStore | None = context.store
    if store is None:
        message = "'redis' is what [store] url names, and that is no Redis"
        raise ConfigProblem(message, at=("store",), hint='[store] url = "redis://host:6379/0"')
    # Without a shared store, the package redis is not needed.
    from gateway.middlewares.caching.storage.remote import connect

    remote: Remote = context.keep(
        ("caching", "remote"),
        store,
        lambda: connect(store, purges, context.clock, context.telemetry),
    )
    context.at_commit(remote.feed.follow)
    return remote
