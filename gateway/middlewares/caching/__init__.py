"""Shared caching of responses, as RFC 9111 has it.

Decisions are in policy.py, fields in directives.py, variants in vary.py, the store in entries.py;
cache.py joins them to requests. Left out on purpose: partial responses are neither stored nor
served (a Range request passes by), and stale-while-revalidate is ignored, which RFC 5861 allows.
"""

from __future__ import annotations

from gateway.config.tables.schema import schema_of
from gateway.core.hooks import Context, Hooks
from gateway.middlewares.caching.cache import Cache
from gateway.middlewares.caching.config import CachingConfig, KeyConfig
from gateway.middlewares.caching.entries import Entries, Ring

__all__ = ["CONFIG", "STORE", "CachingConfig", "KeyConfig", "build"]

CONFIG = schema_of(CachingConfig)
STORE = ("caching",)
"""Where `context.keep` has the store, one for the process."""


def build(config: CachingConfig, context: Context) -> Hooks:
    """Build the hooks for one pipeline or route.

    Stored responses are shared by all and outlive reloads.
    """
    entries: Entries = context.keep(STORE, None, Entries)
    ring: Ring = context.keep(
        (*STORE, context.pipeline, context.route), None, lambda: Ring(entries)
    )
    cache = Cache(config, context, entries, ring)
    return Hooks(
        request=cache.request, response=cache.response, error=cache.error, finish=cache.finish
    )
