"""Where answers are kept: in memory, and behind it in a store that others share."""

from __future__ import annotations

from collections.abc import Awaitable, Hashable
from typing import TYPE_CHECKING

from gateway.core.exchange import Exchange
from gateway.core.wait import own
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.caching.entries import Entry
from gateway.middlewares.caching.lookup import Finder, Lookup, caller
from gateway.middlewares.caching.rules.parts import combined
from gateway.middlewares.caching.storage.memory import Memory, Slot
from gateway.middlewares.caching.vary import secondary_key

if TYPE_CHECKING:
    from gateway.middlewares.caching.storage.remote import Remote


class Tiers:
    """One pipeline's (or route's) memory, and the store where it has one."""

    def __init__(
        self, config: CachingConfig, finder: Finder, memory: Memory, remote: Remote | None
    ) -> None:
        self._config = config
        self._finder = finder
        self._memory = memory
        self._remote = remote

    def __repr__(self) -> str:
        return repr(self._memory if self._remote is None else (self._memory, self._remote))

    def file(self, exchange: Exchange, look: Lookup, entry: Entry) -> bool:
        """Keep what has come; a part together with what is there."""
        if entry.total:
            slot = self._finder.select(exchange, look.uri, look.scope)
            known = combined(entry, None if slot is None else slot.entry)
            if known is None:
                return False
            entry = known
        return self.put(entry, look.stamp)

    def put(self, entry: Entry, stamp: int) -> bool:
        """Keep a response; False where it is too large, or was purged meanwhile.

        stamp: the version of the purges when the origin was asked.
        """
        config, memory, remote = self._config, self._memory, self._remote
        if entry.size > config.max_entry or not memory.put(entry, config.max_size, stamp):
            return False
        if remote is not None and not entry.total:  # Parts are put together here.
            remote.put(entry, stamp, memory.vary_sets(entry.uri, entry.scope))
        return True

    def remove(self, slot: Slot) -> None:
        """Forget a response."""
        self._memory.remove(slot)
        if self._remote is not None:
            self._remote.remove(slot.entry)

    def fetch(self, exchange: Exchange, uri: str, scope: Hashable) -> Awaitable[None] | None:
        """Bring what the store has for a request into memory; None where there is none to ask."""
        remote = self._remote
        if remote is None or not remote.up:
            return None
        scopes = [scope]
        if self._config.private and exchange.identity is not None:
            scopes.append((scope, caller(exchange)))
        return self._fetch(remote, exchange, uri, scopes)

    @own
    async def _fetch(
        self, remote: Remote, exchange: Exchange, uri: str, scopes: list[Hashable]
    ) -> None:
        memory, size = self._memory, self._config.max_size
        for scope in scopes:
            found = await remote.find(uri, scope, secondary_key, exchange)
            if found is not None:
                entry, stamp = found
                known = memory.select(uri, scope, secondary_key, exchange)
                if known is None or known.entry.born < entry.born:
                    memory.put(entry, size, stamp)
