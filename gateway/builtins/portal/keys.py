"""A partner's own API keys: what there are, rotating one with an overlap, revoking one.

Own are the keys of the same client. Only who came with one of them may change any, and only those
that may do no more than the one that came: else a key could be had that may do more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gateway.core.exchange import Identity
from gateway.core.failures import Failed, Failure
from gateway.core.identities import covers
from gateway.credentials.api_keys import key_edits, key_file
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.files import CredentialError, load_once
from gateway.store.stores import StoreUrl

MOST_ACTIVE = 20
"""Keys of one client that are good at a time: rotating makes no more."""
MOST_SHOWN = 100
LONGEST_CHAIN = 20
"""Keys in Redis that are followed from one to what replaced it."""


T = TypeVar("T")


class Place(Protocol):
    """Where keys are. Everything blocks, and raises CredentialError."""

    def of(self, identity: Identity) -> Sequence[Key]:
        """Return a client's keys."""

    def rotate(self, id: str, now: float, overlap: float) -> tuple[Key, str, Key]:
        """Return the new key, its secret and the old one."""

    def revoke(self, id: str, now: float) -> tuple[Key, bool]: ...


class InFile:
    """Keys in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, identity: Identity) -> Sequence[Key]:
        _, keys = load_once(self._path, key_file.load)
        return [key for key in keys if key.client == identity.client]

    def rotate(self, id: str, now: float, overlap: float) -> tuple[Key, str, Key]:
        return key_edits.rotate(self._path, id, now, overlap=overlap)

    def revoke(self, id: str, now: float) -> tuple[Key, bool]:
        return key_edits.revoke(self._path, id, now)


class InRedis:
    """Keys in a store: the one that came, and those that have replaced it, for it has no index by
    client."""

    def __init__(self, url: StoreUrl) -> None:
        from gateway.credentials.api_keys.redis_keys import RedisKeys

        self._keys = RedisKeys(url)

    def of(self, identity: Identity) -> Sequence[Key]:
        id = str(identity.claims.get("key", "")) if identity.method == "api_key" else ""
        found = self._keys.chain(id, LONGEST_CHAIN) if id else []
        return [key for key in found if key.client == identity.client]

    def rotate(self, id: str, now: float, overlap: float) -> tuple[Key, str, Key]:
        return self._keys.rotate(id, now, overlap=overlap)

    def revoke(self, id: str, now: float) -> tuple[Key, bool]:
        return self._keys.revoke(id, now)


class OwnKeys:
    """What partners may do with their keys. overlap: seconds that a rotated key goes on at most."""

    def __init__(self, place: Place, overlap: float) -> None:
        self.overlap = overlap
        self._place = place

    async def shown(self, identity: Identity, now: float) -> list[dict[str, Any]]:
        """Return a client's keys, the newest first. Raises Failed."""
        keys = await self._of(identity)
        ordered = sorted(keys, key=lambda key: key.created or 0, reverse=True)[:MOST_SHOWN]
        return [
            {
                "id": key.id,
                "hint": key.hint,
                "label": key.label,
                "state": key.state(now),
                "created": key.created,
                "expires": key.expires,
                "replaced_by": key.replaced_by or None,
                "permissions": sorted(key.permissions),
                "own": identity.claims.get("key") == key.id and identity.method == "api_key",
                "changes": not _why_not(identity, key, now),
            }
            for key in ordered
        ]

    async def rotate(
        self, identity: Identity, id: str, overlap: float, now: float
    ) -> tuple[Key, str, Key]:
        """Replace a key; return (new, its secret, old). Raises Failed."""
        keys = await self._of(identity)
        key = self._mine(identity, keys, id, now)
        if key.replaced_by:
            raise Failed(Failure.FORBIDDEN, f"This key has been replaced by {key.replaced_by}.")
        if sum(1 for one in keys if one.state(now) == "active") >= MOST_ACTIVE:
            detail = f"There are {MOST_ACTIVE} keys that are good; revoke one first."
            raise Failed(Failure.FORBIDDEN, detail)
        return await _done(self._place.rotate, id, now, min(overlap, self.overlap))

    async def revoke(self, identity: Identity, id: str, now: float) -> Key:
        """Revoke a key. Raises Failed."""
        self._mine(identity, await self._of(identity), id, now)
        key, _ = await _done(self._place.revoke, id, now)
        return key

    async def _of(self, identity: Identity) -> Sequence[Key]:
        return await _done(self._place.of, identity)

    def _mine(self, identity: Identity, keys: Sequence[Key], id: str, now: float) -> Key:
        key = next((key for key in keys if key.id == id), None)
        if key is None:
            raise Failed(Failure.NO_ROUTE, "You have no such key.")
        why_not = _why_not(identity, key, now)
        if why_not:
            raise Failed(Failure.FORBIDDEN, why_not)
        return key


def _why_not(identity: Identity, key: Key, now: float) -> str:
    """Return why this caller may not change a key of its client, "" if it may."""
    if identity.method != "api_key":
        return "Keys are changed by who has logged in with one of them."
    if key.state(now) != "active":
        return f"This key is {key.state(now)}."
    may_no_more = covers(identity.permissions, key.permissions) and key.roles <= identity.roles
    if not may_no_more or (key.tier and key.tier != identity.tier):
        return "This key may do more than the one that you have logged in with."
    return ""


async def _done(work: Callable[..., T], *arguments: Any) -> T:
    """Return what blocking work gives. Raises Failed."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except CredentialError as error:
        raise Failed(
            Failure.NO_ENDPOINT,
            "Keys cannot be changed at the moment.",
            headers=((b"Retry-After", b"5"),),
            why=f"portal: {error}",
            by="portal",
        ) from None
