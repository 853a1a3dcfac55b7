"""The keys of a store that were presented lately, remembered for TTL seconds or until they change.

While the store is away, known keys go on for `stale` seconds ("cached"), or none does ("closed").
Unknown ones get 503, because they may be good.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from gateway.core.clock import Clock
from gateway.core.failures import Failure
from gateway.core.networks import Networks
from gateway.core.refusals import Refused
from gateway.credentials.api_keys import key_file, key_ring
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.api_keys.key_ring import TTL, Good, identity_of, refused, remember
from gateway.credentials.api_keys.shared_keys import SharedKeys
from gateway.credentials.audit import KeyChanges
from gateway.store.stores import StoreDown

AGAIN = 5.0
"""Seconds for which a key goes on before the store is asked again, while it is away."""
RETRY = b"1"
"""Seconds that clients are told to wait while keys cannot be looked up."""


class StoreRing:
    """What was found out about presented keys. Shared by the routes that use the store.

    stale: seconds for which a key goes on that cannot be looked up again; 0 for none.
    """

    __slots__ = ("_confirmed", "_keys", "_roles", "_stale", "_wall", "_wrong", "changes", "good")

    def __init__(
        self, keys: SharedKeys, roles: Mapping[str, tuple[str, ...]], stale: float, clock: Clock
    ) -> None:
        self._keys = keys
        self._roles = roles
        self._stale = stale
        self._wall = clock.wall
        self.changes = KeyChanges()
        self.good: dict[str, Good] = {}
        self._confirmed: dict[str, tuple[Key, float]] = {}
        """By key: what the store said of it, and when."""
        self._wrong: dict[str, tuple[Key | None, float]] = {}
        keys.listeners.add(self)

    def __repr__(self) -> str:
        return f"<StoreRing {len(self.good)} of {self._keys.store.name}>"

    def close(self) -> None:
        self._keys.listeners.discard(self)

    def look_up(self, presented: str, now: float, dry: bool = False) -> Awaitable[Good]:
        """Return the caller, at the Unix time `now`. Raises Refused, at once where possible.

        dry: the key is not used by this.
        """
        remembered = self._wrong.get(presented)
        if remembered is not None and now < remembered[1]:
            raise self._refused(remembered[0], presented)
        # As in a file, keys are compared by their hash alone.
        digest = key_file.digest(presented)
        if self._keys.none_such(digest):
            raise self._refused(None, presented)
        return self._ask(presented, digest, dry)

    async def _ask(self, presented: str, digest: bytes, dry: bool) -> Good:
        while True:
            try:
                key, changes = await self._keys.find(digest)
            except StoreDown as error:
                return self._without_store(presented, error)
            if changes == self._keys.changes:  # else it may have been revoked meanwhile
                break
        now = self._wall()
        if key is None or key.state(now) != "active":
            self.good.pop(presented, None)
            self._confirmed.pop(presented, None)
            remember(self._wrong, key_ring.UNKNOWN, presented, (key, now + TTL))
            raise self._refused(key, presented)
        if not dry:
            self._keys.note(key.id, now)
        remember(self._confirmed, key_ring.KNOWN, presented, (key, now))
        return self._good(presented, key, now + TTL)

    def _without_store(self, presented: str, error: StoreDown) -> Good:
        now = self._wall()
        key, since = self._confirmed.get(presented, (None, 0.0))
        if key is not None and now < since + self._stale:
            if key.state(now) != "active":
                raise self._refused(key, presented)
            return self._good(presented, key, now + AGAIN)
        raise Refused(
            "unavailable",
            f"the key cannot be looked up in {self._keys.store.name}: {error}",
            detail="API keys cannot be checked at the moment.",
            failure=Failure.NO_ENDPOINT,
            headers=((b"Retry-After", RETRY),),
        )

    def _good(self, presented: str, key: Key, until: float) -> Good:
        if key.expires is not None:
            until = min(until, key.expires)
        good = (
            identity_of(key, self._roles),
            until,
            Networks(key.networks) if key.networks else None,
        )
        remember(self.good, key_ring.KNOWN, presented, good)
        return good

    def _refused(self, key: Key | None, presented: str) -> Refused:
        return refused(key, presented, f"not in {self._keys.store.name}")

    # Listening (shared_keys.Listener).

    def changed(self, event: str, by: str, ids: Mapping[str, str]) -> None:
        """Look these keys up again, and whatever was refused."""
        for presented, (key, _) in tuple(self._confirmed.items()):
            if key.id in ids:
                del self._confirmed[presented]
                self.good.pop(presented, None)
        self._wrong.clear()
        for number, (id, client) in enumerate(ids.items()):
            self.changes.publish(
                "created" if event == "rotated" and not number else event, id, client, by
            )

    def doubt(self) -> None:
        """Look every key up again; known ones still go on if the store is away by then."""
        self.good.clear()
        self._wrong.clear()

    def unconfirmed(self) -> None:
        """Look keys up again that must not go on without the store; this fails while it is away."""
        if not self._stale:
            self.good.clear()
