"""Revoked tokens of a store: read whole, then followed as they change (store/redis/feed.py).

Before the list has been read once, no token passes. Afterwards the list read last is in force,
however long the store is away, and also when it comes back without its data.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from gateway.core.failures import Failure
from gateway.core.refusals import Refused
from gateway.credentials.files import CredentialError
from gateway.credentials.revocations import redis_revocations
from gateway.credentials.revocations.revoked import Revocation, Revocations
from gateway.store.redis.client import RedisClient
from gateway.store.redis.feed import EVERY, Feed

log = logging.getLogger("gateway.auth")


class StoreRevocations(Revocations):
    """The list of one store. Shared by everything in the process that uses it."""

    def __init__(self, store: RedisClient) -> None:
        super().__init__()
        self._store = store
        self._read = False
        self._entries: dict[str, Revocation] = {}
        """The entries heard of, by redis_revocations.field_of."""
        self._where = f"{store.name}: {redis_revocations.ENTRIES}"
        self._feed = Feed(store, redis_revocations.NAME.encode(), self)

    def close(self) -> None:
        self._feed.close()

    def why(self, claims: Mapping[str, Any]) -> str:
        """Return why a token with these claims is refused, "" if it is not.

        Raises Refused while that is not known.
        """
        if not self._read:
            raise Refused(
                "unavailable",
                f"the list of revoked tokens has not been read from {self._store.name} yet",
                detail="Tokens cannot be verified at the moment.",
                failure=Failure.NO_ENDPOINT,
                headers=((b"Retry-After", b"1"),),
            )
        return super().why(claims)

    # Following (redis_feed.Follower).

    async def load(self) -> None:
        entries: list[Revocation] = []
        async for found in self._store.scan(redis_revocations.ENTRIES.encode()):
            for text in found[1::2]:
                try:
                    entries.append(redis_revocations.entry_of(text, self._where))
                except CredentialError as error:
                    log.error("an entry is left out: %s", error)
        said = {redis_revocations.field_of(one): one for one in entries}
        # Entries are removed only after their `until`: a missing one was lost, and stays here.
        now = self._store.clock.wall()
        lost = {
            field: one
            for field, one in self._entries.items()
            if field not in said and (one.until is None or one.until > now)
        }
        if lost:
            log.warning(
                "%s has lost %d revocations: they stay in force here", self._store.name, len(lost)
            )
        self._entries, self._read = {**said, **lost}, True
        self.replace(self._entries.values())

    def take(self, change: bytes) -> None:
        heard = tuple(redis_revocations.heard(change, self._where))
        self._entries |= {redis_revocations.field_of(one): one for one in heard}
        self.add(heard)
        log.info("the list of revoked tokens in %s has changed", self._store.name)

    def unconfirmed(self) -> None:
        log.warning(
            "%s has not been heard of for %.0f s: what is revoked now is not known here",
            self._store.name,
            2 * EVERY,
        )
