"""Stored responses in memory, found by URI and variant, within a number of bytes.

What may be stored or served is decided in policy.py; here is only what is remembered, and for how
long there is room. Each pipeline, or route with settings of its own, has one `Memory`, which
outlives reloads. What is purged is decided when it is looked at (purges.py).

Eviction is S3-FIFO (Yang et al., SOSP 2023): what is new has a tenth of the room to prove itself,
and only what is asked for again comes into the rest. So a scan passes by what is hot, and a hit
only counts up, where LRU would have to reorder. The addresses of what was evicted too early are
remembered as fingerprints; asked for again, they skip the trial.

Most responses are not hot. All but the last `RECENT` used are kept as bytes (packing.py), at a
fraction of what Python's objects take.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from gateway.core.clock import REAL, Clock
from gateway.middlewares.caching.entries import Entry, Names, Values, weight
from gateway.middlewares.caching.storage.packing import pack, unpack
from gateway.store.purges import Purges

R = TypeVar("R")

RECENT = 1024
"""Responses that are kept unpacked."""
MAX_PACKED_BODY = 16 * 1024
"""Bytes of a body beyond which packing is not worth copying it."""
PLACE_OVERHEAD = 225
"""Bytes that a packed response takes beyond what it holds. Measured with tracemalloc."""
VARIANT_OVERHEAD = 500
"""As much more for one that varies."""
SMALL = 0.1
"""Share of the room for what is new."""
MAX_HITS = 3
MAX_REINSERTED = 64
"""Hot responses passed over for one eviction. Bounds what it may take."""
SLICE = 1000
"""Responses let go of at once."""

_MAX_VARY = 8
"""Different Vary fields remembered for one URI; of more, the oldest goes."""


class Slot:
    """A response that is in use.

    stamp:       the version of the purges when its origin was asked; `checked` that up to which
                 it is known not to be purged.
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
        "place",
        "size",
        "stamp",
    )

    def __init__(self, entry: Entry, stamp: int, place: Place) -> None:
        self.entry = entry
        self.place = place
        self.stamp = self.checked = stamp
        self.size = entry.size
        self.fresh_until = (
            float("-inf") if entry.no_cache or entry.total else entry.born + entry.lifetime
        )
        self.block = b""
        self.block_until = 0.0


class Place:
    """Where one response is filed: in the index and in one of the queues.

    content: the response, as a Slot or packed; None once it has been removed, until another
             takes its place or the queue has passed.
    hits:    since it came into its queue, up to MAX_HITS. queue: 0 on trial, 1 in the main one, -1
             once evicted.
    """

    __slots__ = ("content", "hits", "queue", "scope", "uri")

    vary: Names = ()
    key: Values = ()
    overhead = PLACE_OVERHEAD

    def __init__(self, uri: str, scope: Hashable) -> None:
        self.uri = uri
        self.scope = scope
        self.content: Slot | bytes | None = None
        self.hits = 0
        self.queue = 0

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        content = self.content
        if content.__class__ is Slot:
            return content.size
        key = len(self.uri) + weight(self.key) + weight(self.scope)
        return key + self.overhead + (len(content) if content else 0)  # type: ignore[arg-type]


class Variant(Place):
    """One of several responses for a URI and a scope."""

    __slots__ = ("key", "vary")

    overhead = PLACE_OVERHEAD + VARIANT_OVERHEAD

    def __init__(self, uri: str, scope: Hashable, vary: Names, key: Values) -> None:
        super().__init__(uri, scope)
        self.vary = vary
        self.key = key


Variants = dict[Hashable, dict[Names, dict[Values, Place]]]


class Memory:
    """What one pipeline has stored, in `index` by URI, for any caller. `used` is in bytes;
    `evictions` counts what had to go."""

    def __init__(self, purges: Purges, clock: Clock = REAL) -> None:
        self.purges = purges
        self.used = 0
        self.evictions = 0
        self._monotonic = clock.monotonic
        self._count = 0
        self.index: dict[str, Place | Variants] = {}
        self._queues: tuple[deque[Place], deque[Place]] = (deque(), deque())
        self._queued = [0, 0]
        self._recent: deque[Place] = deque()
        self._ghosts = array("I", bytes(4 * 1024))
        purges.stores.append(self.index)

    def __repr__(self) -> str:
        return f"<Memory {self._count} responses, {self.used} bytes>"

    def __len__(self) -> int:
        return self._count

    def close(self) -> Awaitable[None] | None:
        """Give up what is stored, in slices: freeing a million responses takes a while."""
        self.purges.stores = [one for one in self.purges.stores if one is not self.index]
        return self._let_go() if self._count else None

    async def _let_go(self) -> None:
        self.index.clear()
        for queue in self._queues:
            while queue:
                for _ in range(min(SLICE, len(queue))):
                    self._resize(queue.popleft(), None)
                await asyncio.sleep(0)
        self._recent.clear()

    # Finding.

    def select(
        self, uri: str, scope: Hashable, values: Callable[[R, Names], Values], request: R
    ) -> Slot | None:
        """Return the stored response for a request.

        `values(request, names)` are its values of the fields a response varies by.

        When several match, the most recent one, by Date (RFC 9111 section 4.1).
        """
        found = self.index.get(uri)
        if found is None:
            return None
        if found.__class__ is not dict:
            return self._slot(found) if found.scope == scope else None  # type: ignore[union-attr,arg-type]
        chosen: Slot | None = None
        for names, places in found.get(scope, {}).items():
            place = places.get(values(request, names) if names else ())
            slot = self._slot(place) if place is not None else None
            if slot is not None and (chosen is None or slot.entry.date >= chosen.entry.date):
                chosen = slot
        return chosen

    def varies(self, uri: str, scope: Hashable) -> Names:
        """Return the fields that responses stored for this URI differ by; () without any."""
        found = self.index.get(uri)
        if not isinstance(found, dict):
            return ()
        return tuple(sorted({name for names in found.get(scope, ()) for name in names}))

    def vary_sets(self, uri: str, scope: Hashable) -> list[Names]:
        """Return the sets of fields that responses stored for this URI vary by."""
        found = self.index.get(uri)
        return list(found.get(scope, ())) if isinstance(found, dict) else []

    def _slot(self, place: Place) -> Slot | None:
        """Return what is there, unless it has been purged."""
        slot = place.content
        if slot.__class__ is not Slot:
            if slot is None:
                return None
            slot = self._unpacked(place, slot)  # type: ignore[arg-type]
        if slot.checked < self.purges.affecting:
            return self._checked(slot)
        return slot

    def _checked(self, slot: Slot) -> Slot | None:
        purges, entry = self.purges, slot.entry
        verdict = purges.verdict(entry.uri, entry.tags, slot.checked)
        slot.checked = purges.version
        if verdict == "gone":
            self.remove(slot)
            return None
        if verdict == "stale":
            # Since now, so that the seconds for which it may be used stale begin.
            age = self._monotonic() - entry.born
            slot.entry = entry = entry._replace(lifetime=min(entry.lifetime, age))
            slot.fresh_until = float("-inf")
        return slot

    def _unpacked(self, place: Place, packed: bytes) -> Slot:
        entry, stamp = unpack(
            packed, uri=place.uri, scope=place.scope, vary=place.vary, key=place.key
        )
        slot = Slot(entry, stamp, place)
        self._resize(place, slot)
        self._use(place, entry)
        return slot

    def _use(self, place: Place, entry: Entry) -> None:
        """Keep it unpacked for a while, and pack the one that has been for longest."""
        if len(entry.body) > MAX_PACKED_BODY:
            return
        recent = self._recent
        recent.append(place)
        if len(recent) > RECENT:
            place = recent.popleft()
            slot = place.content
            if isinstance(slot, Slot):
                self._resize(place, pack(slot.entry, slot.checked))

    # Storing.

    def put(self, entry: Entry, limit: int, since: int) -> bool:
        """Store the entry in place of the one it replaces, evicting others; `used` stays within
        `limit` bytes.

        since: the version of the purges when the origin was asked. False when the entry cannot
               fit, or was purged since then: the answer may be older than what purged it. And
               while more than SLICE others have to go for it, as after a reload with a smaller
               limit: as many go with each that comes.
        """
        if self.purges.verdict(entry.uri, entry.tags, since) == "gone" or entry.size > limit:
            return False
        place = self._place(entry)
        if place is not None:
            self._resize(place, None)
        for _ in range(SLICE):
            if self.used + entry.size <= limit or not self._count_queued():
                break
            self._evict(limit)
        else:
            return False
        if place is None or place.queue < 0:
            place = self._file(entry)
        slot = Slot(entry, since, place)
        self._resize(place, slot)
        self._use(place, entry)
        return True

    def remove(self, slot: Slot) -> None:
        """Forget one response; harmless when it is gone already."""
        if slot.place.content is slot:
            self._resize(slot.place, None)

    def _count_queued(self) -> int:
        return len(self._queues[0]) + len(self._queues[1])

    def _resize(self, place: Place, content: Slot | bytes | None) -> None:
        """Put `content` where another was, and keep the books."""
        before = place.size
        self._count += (content is not None) - (place.content is not None)
        place.content = content
        grown = place.size - before
        self.used += grown
        self._queued[place.queue] += grown

    def _place(self, entry: Entry) -> Place | None:
        found = self.index.get(entry.uri)
        if isinstance(found, Place):
            return found if found.scope == entry.scope and not entry.vary else None
        variants = (found or {}).get(entry.scope, {})
        return variants.get(entry.vary, {}).get(entry.key)

    def _file(self, entry: Entry) -> Place:
        """Make a place in the index and at the end of a queue."""
        index, uri = self.index, entry.uri
        found = index.get(uri)
        if found is None and not entry.vary:
            place = index[uri] = Place(uri, entry.scope)
        else:
            place = Variant(uri, entry.scope, entry.vary, entry.key)
            if not isinstance(found, dict):
                index[uri] = {} if found is None else {found.scope: {(): {(): found}}}
            variants = index[uri].setdefault(entry.scope, {})  # type: ignore[union-attr]
            if entry.vary not in variants and len(variants) >= _MAX_VARY:
                del variants[next(iter(variants))]  # The queues will pass what was there.
            variants.setdefault(entry.vary, {})[entry.key] = place
        place.queue = int(self._was_evicted(uri))
        size = place.size
        self.used += size
        self._queued[place.queue] += size
        self._queues[place.queue].append(place)
        return place

    def _unfile(self, place: Place) -> None:
        found = self.index.get(place.uri)
        if found is place:
            del self.index[place.uri]
            return
        if not isinstance(found, dict):
            return
        variants = found.get(place.scope, {})
        places = variants.get(place.vary, {})
        if places.get(place.key) is place:
            del places[place.key]
            if not places:
                del variants[place.vary]
                if not variants:
                    del found[place.scope]
                    if not found:
                        del self.index[place.uri]

    # Evicting.

    def _evict(self, limit: int) -> None:
        """Let one response go; there must be one."""
        small, main = self._queues
        while small and (self._queued[0] > SMALL * limit or not main):
            place = small.popleft()
            if not place.hits or place.content is None:
                self._remember(place.uri)
                self._drop(place)
                return
            self._queued[0] -= place.size
            place.hits, place.queue = 0, 1
            self._queued[1] += place.size
            main.append(place)
        for _ in range(MAX_REINSERTED):
            place = main.popleft()
            if not place.hits or place.content is None:
                break
            place.hits -= 1
            main.append(place)
        else:
            place = main.popleft()
        self._drop(place)

    def _drop(self, place: Place) -> None:
        self.evictions += place.content is not None
        self._resize(place, None)
        size = place.size
        self.used -= size
        self._queued[place.queue] -= size
        place.queue = -1
        self._unfile(place)

    # Ghosts: one fingerprint a place of a table that is as long as there are responses.

    def _remember(self, uri: str) -> None:
        ghosts = self._ghosts
        if len(ghosts) < self._count:
            self._ghosts = ghosts = array("I", bytes(4 * 2 * len(ghosts)))
        code = hash(uri)
        ghosts[code % len(ghosts)] = (code >> 32) & 0xFFFFFFFF or 1

    def _was_evicted(self, uri: str) -> bool:
        code, ghosts = hash(uri), self._ghosts
        place = code % len(ghosts)
        if ghosts[place] != ((code >> 32) & 0xFFFFFFFF or 1):
            return False
        ghosts[place] = 0
        return True
