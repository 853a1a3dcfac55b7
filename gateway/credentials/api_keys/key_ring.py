"""The keys of a file, and what was found out about keys presented lately.

No key appears in a log, a repr or an error. In memory are hashes, and the keys presented lately.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.core.exchange import Identity
from gateway.core.failures import Failure
from gateway.core.identities import Granted, identity
from gateway.core.networks import Networks
from gateway.core.refusals import Refused
from gateway.credentials.api_keys import key_file
from gateway.credentials.api_keys.key_file import Key
from gateway.credentials.api_keys.last_use import KeyUse
from gateway.credentials.audit import KeyChanges
from gateway.lifetime.watch import Stamp, Watched

TTL = 300.0
"""Seconds a look-up is remembered."""
KNOWN = 10_000
"""Keys remembered that were good."""
UNKNOWN = 1_000
"""Keys remembered that were not good: few, because guesses are never repeated."""
LONGEST = 256
"""Letters of a key that is worth remembering."""

FEW = 1_000
"""Keys that can be let go of at once."""
ByDigest = dict[bytes, tuple[Key, Identity, Networks | None]]
Good = tuple[Identity, float, Networks | None]
"""The caller of a key, the Unix time until which that holds, and the networks it may come from."""


class KeyRing:
    """The keys of one file by hash, and a cache of look-ups. Shared by the routes with the file.

    used: notes which keys are used, each at most once in TTL seconds; None for not at all.
    """

    __slots__ = ("_by_digest", "_ready", "_roles", "_used", "_watched", "_wrong", "changes", "good")

    def __init__(
        self, keys: Iterable[Key], roles: Mapping[str, tuple[str, ...]], used: KeyUse | None = None
    ) -> None:
        self._roles = roles
        self._used = used
        self.changes = KeyChanges()
        self._watched: Watched[tuple[Key, ...]] | None = None
        self._by_digest: ByDigest = {}
        self._ready: _Ready | None = None
        self.good: dict[str, Good] = {}
        self._wrong: dict[str, tuple[Key | None, float]] = {}
        self.replace(keys)

    def __repr__(self) -> str:
        return f"<KeyRing {len(self._by_digest)} keys>"

    def replace(self, keys: Iterable[Key]) -> None:
        """Take other keys, and forget every look-up."""
        self._take(self._indexed(keys))

    def _take(self, by_digest: ByDigest) -> None:
        self._by_digest = by_digest
        self.good.clear()
        self._wrong.clear()

    def _indexed(self, keys: Iterable[Key]) -> ByDigest:
        return {
            key.digest: (
                key,
                identity_of(key, self._roles),
                Networks(key.networks) if key.networks else None,
            )
            for key in keys
        }

    def watch(self, path: Path, seen: Stamp) -> None:
        """Follow the file, so that a key revoked there is refused here within a second."""

        def load() -> tuple[Key, ...]:
            # In the thread, because there may be very many.
            keys, before = key_file.load(path), self._by_digest
            self._ready = _Ready(keys, before, self._indexed(keys), _changes(before, keys))
            return keys

        self._watched = Watched(path, seen, load, self._follow)

    def offer(self, seen: Stamp, keys: tuple[Key, ...]) -> Callable[[], None]:
        """Return the step that takes the keys that a reload has read (Watched.offer)."""
        assert self._watched is not None
        return self._watched.offer(seen, keys)

    def _follow(self, keys: tuple[Key, ...]) -> None:
        """Take other keys, and publish what changed about each."""
        ready, self._ready = self._ready, None
        if ready is None or ready.keys is not keys or ready.before is not self._by_digest:
            before = self._by_digest
            ready = _Ready(keys, before, self._indexed(keys), _changes(before, keys))
        self._take(ready.after)
        for change in ready.changes:
            self.changes.publish(*change)
        if len(ready.before) > FEW:
            threading.Thread(target=_forget, args=(list(ready.before.values()),)).start()

    def close(self) -> None:
        if self._watched is not None:
            self._watched.close()
        if self._used is not None:
            self._used.close()

    def look_up(self, presented: str, now: float, dry: bool = False) -> Good:
        """Return the caller at the Unix time `now`, as `good` has it. Raises Refused.

        dry: the key is not used by this.
        """
        remembered = self._wrong.get(presented)
        if remembered is not None and now < remembered[1]:
            raise refused(remembered[0], presented)
        # Constant time by construction: hashes are compared, and a guess cannot be steered towards
        # a stored hash bit by bit, so how far a comparison got tells nothing about any key.
        found = self._by_digest.get(key_file.digest(presented))
        if found is None or found[0].state(now) != "active":
            key = found[0] if found is not None else None
            remember(self._wrong, UNKNOWN, presented, (key, now + TTL))
            raise refused(key, presented)
        key, identity, networks = found
        until = now + TTL if key.expires is None else min(now + TTL, key.expires)
        if dry:
            return identity, until, networks
        if self._used is not None:
            self._used.note(key.id, now)
        good = (identity, until, networks)
        remember(self.good, KNOWN, presented, good)
        return good


@dataclass(frozen=True, slots=True)
class _Ready:
    """Keys that have been read, with all that taking them needs.

    before: what they were compared with. changes: outcome, ID and client of each that is other.
    """

    keys: tuple[Key, ...]
    before: ByDigest
    after: ByDigest
    changes: list[tuple[str, str, str]]


def _changes(before: ByDigest, keys: tuple[Key, ...]) -> list[tuple[str, str, str]]:
    known = {key.id: key for key, *_ in before.values()}
    found = []
    for key in keys:
        was = known.pop(key.id, None)
        if was != key:
            found.append((_outcome(was, key), key.id, key.client))
    return [*found, *(("removed", gone.id, gone.client) for gone in known.values())]


def _forget(known: list[tuple[Key, Identity, Networks | None]]) -> None:
    """Let go of keys one by one: all at once would hold everything up."""
    while known:
        known.pop()


def _outcome(was: Key | None, key: Key) -> str:
    """Return what happened to a key, in the audit log's words."""
    if was is None:
        return "created"
    if key.revoked and not was.revoked:
        return "revoked"
    return "rotated" if key.replaced_by and not was.replaced_by else "changed"


def identity_of(key: Key, granted: Granted) -> Identity:
    """Return the caller of a key."""
    return identity(
        key.client,
        "api_key",
        granted,
        tier=key.tier,
        roles=key.roles,
        permissions=key.permissions,
        claims={"key": key.id},
        limit=key.limit,
    )


def remember(memory: dict[str, Any], most: int, presented: str, value: object) -> None:
    """Remember a value; a full memory is emptied, which is cheaper than dropping one at a time."""
    if len(presented) <= LONGEST:
        if len(memory) >= most:
            memory.clear()
        memory[presented] = value


def refused(key: Key | None, presented: str, where: str = "in no key file") -> Refused:
    """Return the refusal of a key: unknown (None), revoked or expired."""
    if key is None and key_file.mistyped(presented):
        why = "the key's checksum is wrong, so it was mistyped or cut off rather than guessed"
        return Refused(
            "mistyped", why, detail="The API key is mistyped: its checksum does not fit."
        )
    if key is None:
        return Refused("invalid", f"the key is {where}", detail="The API key is not valid.")
    if key.revoked:
        return Refused(
            "revoked",
            f"key {key.id} of {key.client} was revoked",
            detail="The API key has been revoked.",
            client=key.client,
        )
    since = datetime.fromtimestamp(key.expires or 0, UTC)
    return Refused(
        "expired",
        f"key {key.id} of {key.client} expired {since:%Y-%m-%d %H:%M} UTC",
        detail="The API key has expired.",
        failure=Failure.EXPIRED,
        client=key.client,
    )
