"""Stored responses, found by URI and variant, within a number of bytes.

What may be stored or served is decided in policy.py; here is only what is remembered. One `Entries`
is shared by all pipelines of a process and outlives reloads, so that a write anywhere invalidates
everywhere. Each pipeline has a `Ring` with a limit of its own: none evicts what another has stored.
The limit comes with each `put`, so that a reload changes it in place.

Eviction is SIEVE (Zhang et al., NSDI 2024). A hit only sets a mark, and a hand that moves from the
oldest response to the newest evicts the first one without it. That costs a hit less than LRU's
reordering, and a scan does not empty the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from gateway.core.headers import Pair

R = TypeVar("R")

Names = tuple[str, ...]
Values = tuple[str, ...]

ENTRY_OVERHEAD = 1400
HEADER_OVERHEAD = 180
"""Bytes that an entry, and each of its header fields, take beyond what they hold.

Measured with tracemalloc.
"""

_MAX_VARY = 8
"""Different Vary fields remembered for one URI; of more, the oldest goes."""

_MAX_TRACES = 4096
"""Invalidated URIs remembered so that answers asked for before are not stored after."""


class Entry(NamedTuple):
    """A stored response; immutable, so that what is prepared from it stays true.

    uri:      scheme, authority and target. scope: who it is for, e.g. the route's name, or that and
              an identity.
    vary:     lower-case names of the request fields it depends on, and `key` their values then.
    headers:  raw pairs without Age, Cache-Status and fields of one hop; `fields` is the same
              as Reply's index of them, and `lines` are they as they go over the wire.
    born:     the monotonic second at which its age was 0. lifetime: seconds it is fresh from then.
    no_cache: never to be used without asking the origin. strict: never to be used stale.
    stale_if_error: seconds it may stand in for an error once stale, None where the origin does not
        say.
    date:     its Date, in seconds since 1970. etag and last_modified are its validators, as
              written.
    """

    uri: str
    scope: Hashable
    vary: Names
    key: Values
    status: int
    reason: bytes
    headers: Sequence[Pair]
    fields: Mapping[bytes, bytes]
    lines: bytes
    body: bytes
    born: float
    lifetime: float
    date: int
    no_cache: bool = False
    strict: bool = False
    stale_if_error: int | None = None
    etag: bytes | None = None
    last_modified: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes it counts for: its body, fields and key, and what Python adds."""
        fields = 2 * len(self.lines)  # As lines and as pairs.
        key = len(self.uri) + sum(map(len, self.key))
        return len(self.body) + fields + key + len(self.headers) * HEADER_OVERHEAD + ENTRY_OVERHEAD


class Slot:
    """An entry's place in the store.

    fresh_until: the monotonic second at which it turns stale; in the past for one that may never be
                 used unasked.
    block, block_until: header lines prepared for its hits by the cache, and until when they
        are true.
    """

    __slots__ = (
        "block",
        "block_until",
        "checked",
        "entry",
        "fresh_until",
        "hit",
        "newer",
        "older",
        "ring",
        "size",
    )

    def __init__(self, entry: Entry, checked: int, ring: Ring) -> None:
        self.entry = entry
        self.ring = ring
        self.size = entry.size
        self.checked = checked
        self.fresh_until = float("-inf") if entry.no_cache else entry.born + entry.lifetime
        self.hit = False
        self.newer: Slot | None = None
        self.older: Slot | None = None
        self.block = b""
        self.block_until = 0.0


class Ring:
    """What one pipeline has stored, in the order of storing. `used` is in bytes."""

    __slots__ = ("entries", "hand", "newest", "oldest", "used")

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self.used = 0
        self.newest: Slot | None = None
        self.oldest: Slot | None = None
        self.hand: Slot | None = None

    def close(self) -> None:
        """Called when no configuration stores into it any more: gives up what it has."""
        while self.oldest is not None:
            self.entries.remove(self.oldest)

    def add(self, slot: Slot) -> None:
        slot.older = self.newest
        if self.newest is None:
            self.oldest = slot
        else:
            self.newest.newer = slot
        self.newest = slot
        self.used += slot.size

    def unlink(self, slot: Slot) -> None:
        older, newer = slot.older, slot.newer
        if slot is self.hand:
            self.hand = newer
        if older is None:
            self.oldest = newer
        else:
            older.newer = newer
        if newer is None:
            self.newest = older
        else:
            newer.older = older
        slot.older = slot.newer = None
        self.used -= slot.size

    def victim(self) -> Slot:
        """The next to be evicted; there must be one."""
        slot = self.hand or self.oldest
        assert slot is not None
        while slot.hit:
            slot.hit = False
            slot = slot.newer or self.oldest
            assert slot is not None
        self.hand = slot  # Removing it moves the hand on.
        return slot


class Entries:
    """The store. `sequence` counts invalidations.

    A request to the origin notes it and hands it to `put`.
    """

    def __init__(self) -> None:
        self.sequence = 0
        self.ring = Ring(self)
        """For what is stored without a ring of its own."""
        self._resources: dict[str, dict[Hashable, dict[Names, dict[Values, Slot]]]] = {}
        self._count = 0
        self._used = 0
        self._traces: dict[str, int] = {}
        self._forgotten = 0
        self._bans: dict[str, tuple[int, re.Pattern[str]]] = {}
        self._last_ban = 0

    @property
    def used(self) -> int:
        """Bytes of everything stored."""
        return self._used

    def __repr__(self) -> str:
        return f"<Entries {self._count} responses, {self.used} bytes>"

    def __len__(self) -> int:
        return self._count

    def __contains__(self, uri: str) -> bool:
        """Return True if anything is stored for the URI, for any caller."""
        return uri in self._resources

    def select(
        self, uri: str, scope: Hashable, values: Callable[[R, Names], Values], request: R
    ) -> Slot | None:
        """Return the stored response for a request.

        `values(request, names)` are its values of the fields a response varies by.

        When several match, the most recent one, by Date (RFC 9111 section 4.1).
        """
        scopes = self._resources.get(uri)
        variants = scopes.get(scope) if scopes is not None else None
        if variants is None:
            return None
        chosen: Slot | None = None
        for names, slots in variants.items():
            slot = slots.get(values(request, names) if names else ())
            if slot is not None and (chosen is None or slot.entry.date >= chosen.entry.date):
                chosen = slot
        if chosen is not None and chosen.checked < self._last_ban and self._is_banned(chosen):
            self.remove(chosen)
            return None
        return chosen

    def varies(self, uri: str, scope: Hashable) -> Names:
        """Return the fields that responses stored for this URI differ by; () without any."""
        return tuple(
            sorted(
                {name for names in self._resources.get(uri, {}).get(scope, ()) for name in names}
            )
        )

    def put(self, entry: Entry, limit: int, since: int, ring: Ring | None = None) -> bool:
        """Store the entry in place of the one it replaces, evicting others of its ring.

        `used` of the ring stays within `limit` bytes.

        since: `sequence` when the origin was asked. False when the entry cannot fit, or when its
               URI was
        invalidated since then: the answer may be older than what invalidated it.
        """
        ring = ring or self.ring
        if since < self._forgotten or self._traces.get(entry.uri, 0) > since:
            return False
        slot = Slot(entry, since, ring)
        if slot.size > limit:
            return False
        variants = self._resources.get(entry.uri, {}).get(entry.scope, {})
        replaced = variants.get(entry.vary, {}).get(entry.key)
        if replaced is not None:
            self.remove(replaced)
        elif entry.vary not in variants and len(variants) >= _MAX_VARY:
            for one in list(next(iter(variants.values())).values()):
                self.remove(one)
        while ring.used + slot.size > limit:
            self.remove(ring.victim())
        scopes = self._resources.setdefault(entry.uri, {})
        scopes.setdefault(entry.scope, {}).setdefault(entry.vary, {})[entry.key] = slot
        ring.add(slot)
        self._used += slot.size
        self._count += 1
        return True

    def remove(self, slot: Slot) -> None:
        """Forgets one response; harmless when it is gone already."""
        entry = slot.entry
        scopes = self._resources.get(entry.uri, {})
        variants = scopes.get(entry.scope, {})
        slots = variants.get(entry.vary, {})
        if slots.get(entry.key) is not slot:
            return
        del slots[entry.key]
        if not slots:
            del variants[entry.vary]
            if not variants:
                del scopes[entry.scope]
                if not scopes:
                    del self._resources[entry.uri]
        slot.ring.unlink(slot)
        self._used -= slot.size
        self._count -= 1

    def invalidate(self, uri: str) -> int:
        """Forget every response stored for the URI, for all callers; return how many."""
        self.sequence += 1
        if len(self._traces) >= _MAX_TRACES:
            # What was asked for before this moment is not stored any more; a few answers lost,
            # no trace needed.
            self._traces.clear()
            self._forgotten = self.sequence
        self._traces[uri] = self.sequence
        scopes = self._resources.get(uri)
        if scopes is None:
            return 0
        found = [
            slot
            for variants in scopes.values()
            for slots in variants.values()
            for slot in slots.values()
        ]
        for slot in found:
            self.remove(slot)
        return len(found)

    def ban(self, pattern: str) -> None:
        """Forget every response whose path matches the pattern, and what is still under way.

        "*" takes anything, "/" too.

        Costs the same however much is stored: an entry is compared when it is next looked at.
        Patterns must come from the configuration, for each is remembered.
        """
        self.sequence += 1
        known = self._bans.get(pattern)
        compiled = (
            known[1]
            if known is not None
            else re.compile(re.escape(pattern).replace(r"\*", ".*"), re.DOTALL)
        )
        self._bans[pattern] = (self.sequence, compiled)
        self._last_ban = self.sequence

    def clear(self) -> None:
        """Forgets everything, and what is still under way."""
        self.sequence += 1
        self._forgotten = self.sequence
        for scopes in list(self._resources.values()):
            for variants in list(scopes.values()):
                for slots in list(variants.values()):
                    for slot in list(slots.values()):
                        self.remove(slot)

    def _is_banned(self, slot: Slot) -> bool:
        path = "/" + slot.entry.uri.partition("://")[2].partition("/")[2].partition("?")[0]
        checked, slot.checked = slot.checked, self._last_ban
        return any(
            sequence > checked and pattern.fullmatch(path)
            for sequence, pattern in self._bans.values()
        )
