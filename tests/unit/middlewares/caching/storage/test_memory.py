"""The store of responses: finding, evicting, invalidating, and what it says it uses."""

from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict
from collections.abc import Hashable
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.core.clock import Clock
from gateway.middlewares.caching.entries import Entry
from gateway.middlewares.caching.storage import packing
from gateway.middlewares.caching.storage.memory import (
    MAX_HITS,
    MAX_PACKED_BODY,
    MAX_REINSERTED,
    RECENT,
    SLICE,
    Memory,
    Place,
    Slot,
)
from gateway.store.purges import Purge, Purges, of_pattern

Values = dict[str, str]
NOW = 1000.0


def entry(
    uri: str = "http://a/x",
    scope: Hashable = "r",
    vary: Values | None = None,
    body: bytes = b"",
    **more: Any,
) -> Entry:
    names = tuple(sorted(vary or {}))
    settings: dict[str, Any] = {
        "status": 200,
        "reason": b"OK",
        "headers": ((b"A", b"1"),),
        "fields": {b"a": b"1"},
        "lines": b"A: 1\r\n",
        "born": NOW,
        "lifetime": 60,
        "date": 0,
        **more,
    }
    key = tuple((vary or {})[name] for name in names)
    return Entry(uri=uri, scope=scope, vary=names, key=key, body=body, **settings)


def values(request: Values, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(request.get(name, "") for name in names)


def find(memory: Memory, uri: str = "http://a/x", scope: str = "r", **request: str) -> Entry | None:
    slot = memory.select(uri, scope, values, request)
    return None if slot is None else slot.entry


SMALL = entry().size
MANY = 10**9


def test_what_was_put_is_found():
    memory = Memory(Purges())
    stored = entry()
    assert memory.put(stored, MANY, 0)
    assert find(memory) is stored
    assert "http://a/x" in memory.index
    assert "http://a/y" not in memory.index
    assert find(memory, "http://a/y") is None
    assert find(memory, scope="other") is None
    assert (len(memory), memory.used) == (1, SMALL)
    assert repr(memory) == f"<Memory 1 responses, {SMALL} bytes>"


def test_the_same_variant_is_replaced():
    memory = Memory(Purges())
    memory.put(entry(body=b"long body"), MANY, 0)
    memory.put(entry(body=b"new"), MANY, 0)
    assert find(memory).body == b"new"  # type: ignore[union-attr]
    assert (len(memory), memory.used) == (1, SMALL + 3)


def test_variants_by_values():
    memory = Memory(Purges())
    for language in ("en", "de"):
        memory.put(entry(vary={"language": language}, body=language.encode()), MANY, 0)
    assert find(memory, language="en").body == b"en"  # type: ignore[union-attr]
    assert find(memory, language="de").body == b"de"  # type: ignore[union-attr]
    assert find(memory, language="fr") is None
    assert memory.varies("http://a/x", "r") == ("language",)
    assert memory.varies("http://a/x", "other") == ()
    assert memory.varies("http://a/y", "r") == ()


def test_of_several_that_match_the_latest_by_date():
    memory = Memory(Purges())
    memory.put(entry(vary={"a": "1"}, date=5), MANY, 0)
    memory.put(entry(vary={"b": "1"}, date=7), MANY, 0)
    memory.put(entry(date=6), MANY, 0)
    assert find(memory, a="1", b="1").date == 7  # type: ignore[union-attr]
    assert find(memory, a="1").date == 6  # type: ignore[union-attr]
    assert memory.varies("http://a/x", "r") == ("a", "b")


def test_an_origin_that_keeps_changing_its_vary_loses_the_oldest():
    memory = Memory(Purges())
    for number in range(20):
        memory.put(entry(vary={f"x-{number}": "1"}), MANY, 0)
        memory.put(entry(vary={f"x-{number}": "2"}), MANY, 0)
    assert len(memory.varies("http://a/x", "r")) == 8
    assert find(memory, **{"x-11": "1"}) is None
    assert find(memory, **{"x-12": "2"}) is not None
    memory.put(entry("http://a/y"), 2 * SMALL, 0)
    assert "http://a/x" not in memory.index
    assert (len(memory), memory.used) == (1, SMALL)


def test_a_slot_knows_until_when_it_is_fresh():
    place = Place("http://a/x", "r")
    assert Slot(entry(), 0, place).fresh_until == NOW + 60
    assert Slot(entry(no_cache=True), 0, place).fresh_until == float("-inf")


def test_removing_is_harmless_twice():
    memory = Memory(Purges())
    memory.put(entry(), MANY, 0)
    slot = memory.select("http://a/x", "r", values, {})
    assert slot is not None
    memory.remove(slot)
    memory.remove(slot)
    assert (len(memory), find(memory)) == (0, None)
    assert memory.used < SMALL
    memory.put(entry(), MANY, 0)
    assert (len(memory), memory.used) == (1, SMALL)


def test_removing_what_has_been_replaced_leaves_the_new_one():
    memory = Memory(Purges())
    memory.put(entry(), MANY, 0)
    old = memory.select("http://a/x", "r", values, {})
    assert old is not None
    memory.put(entry(body=b"new"), MANY, 0)
    memory.remove(old)
    assert find(memory) is not None


# Purging.


def test_what_is_purged_is_gone_when_it_is_looked_for():
    memory = Memory(purges := Purges())
    memory.put(entry(vary={"a": "1"}), MANY, 0)
    memory.put(entry(vary={"a": "2"}), MANY, 0)
    memory.put(entry(scope="other"), MANY, 0)
    memory.put(entry("http://a/y"), MANY, 0)
    purges.add(Purge("url", "http://a/x"))
    assert find(memory, a="1") is find(memory, a="2") is find(memory, scope="other") is None
    assert find(memory, "http://a/y") is not None
    assert len(memory) == 1


def test_what_was_asked_for_before_a_purge_is_not_stored():
    memory = Memory(purges := Purges())
    asked = purges.version
    purges.add(Purge("url", "http://a/x"))
    assert not memory.put(entry(), MANY, asked)
    assert memory.put(entry("http://a/y"), MANY, asked)
    assert memory.put(entry(), MANY, purges.version)
    purges.add(Purge("url", "http://a/z"))
    assert find(memory) is not None


def test_after_a_soft_purge_a_response_is_stale_from_that_moment():
    clock = Clock(lambda: NOW + 20, lambda: 0.0)
    memory = Memory(purges := Purges(), clock)
    memory.put(entry(), MANY, 0)
    purges.add(Purge("path", "/x", soft=True))
    slot = memory.select("http://a/x", "r", values, {})
    assert slot is not None
    assert (slot.fresh_until, slot.entry.lifetime) == (float("-inf"), 20)
    assert memory.select("http://a/x", "r", values, {}) is slot


def test_a_purge_reaches_what_is_packed():
    memory = filled(RECENT + 10)
    memory.purges.add(Purge("url", "http://a/3"))
    assert find(memory, "http://a/3") is None
    assert find(memory, "http://a/4") is not None


# Packing.


def filled(count: int, **more: Any) -> Memory:
    memory = Memory(Purges())
    for number in range(count):
        assert memory.put(entry(f"http://a/{number}", body=b"%d" % number, **more), MANY, 0)
    return memory


def test_all_but_the_last_used_are_packed_and_come_back_as_they_were():
    memory = filled(RECENT + 10, vary={"a": "1"})
    unpacked = [place for place in memory._queues[0] if isinstance(place.content, Slot)]
    assert len(unpacked) == RECENT
    assert len(memory) == RECENT + 10
    assert memory.used == sum(place.size for place in memory._queues[0])
    found = find(memory, "http://a/3", a="1")
    assert found == entry("http://a/3", vary={"a": "1"}, body=b"3")
    assert find(memory, "http://a/3", a="1") is found
    assert len([place for place in memory._queues[0] if isinstance(place.content, Slot)]) == RECENT


def test_large_bodies_are_not_packed():
    memory = filled(1)
    memory.put(large := entry(body=b"x" * (MAX_PACKED_BODY + 1)), MANY, 0)
    for number in range(RECENT + 1):
        memory.put(entry(f"http://b/{number}"), MANY, 0)
    assert find(memory) is large


# Size.


def test_what_cannot_fit_is_refused_and_evicts_nothing():
    memory = Memory(Purges())
    memory.put(entry("http://a/1"), 3 * SMALL, 0)
    assert not memory.put(entry(body=b"x" * 3 * SMALL), 3 * SMALL, 0)
    assert len(memory) == 1


def test_the_limit_of_the_moment_counts():
    memory = Memory(Purges())
    for number in range(10):
        memory.put(entry(f"http://a/{number}"), MANY, 0)
    memory.put(entry(), 3 * SMALL, 0)
    assert (len(memory), memory.used) == (3, 3 * SMALL)
    assert find(memory) is not None


def test_what_is_asked_for_outlives_what_is_not():
    memory = Memory(Purges())
    for number in range(3):
        memory.put(entry(f"http://a/{number}"), 3 * SMALL, 0)
    use(memory, "http://a/0")
    memory.put(entry("http://a/3"), 3 * SMALL, 0)
    assert [number for number in range(4) if find(memory, f"http://a/{number}")] == [0, 2, 3]
    assert memory.evictions == 1


def test_a_scan_passes_by_what_is_hot():
    memory = Memory(Purges())
    for number in range(10):
        memory.put(entry(f"http://a/{number}"), 10 * SMALL, 0)
        use(memory, f"http://a/{number}")
    for number in range(100):
        memory.put(entry(f"http://a/scan/{number}"), 10 * SMALL, 0)
    assert sum(find(memory, f"http://a/{number}") is not None for number in range(10)) >= 8


def test_what_was_evicted_too_early_skips_the_trial():
    memory = Memory(Purges())
    for number in range(20):
        memory.put(entry(f"http://a/{number:02}"), 10 * SMALL, 0)
    assert find(memory, "http://a/03") is None
    memory.put(entry("http://a/03"), 10 * entry("http://a/03").size, 0)
    for number in range(20, 40):
        memory.put(entry(f"http://a/{number:02}"), 10 * entry("http://a/03").size, 0)
    assert find(memory, "http://a/03") is not None


def test_one_eviction_looks_at_so_many_and_no_more():
    memory = Memory(Purges())
    for number in range(200):
        memory.put(entry(f"http://a/{number:03}"), MANY, 0)
        use(memory, f"http://a/{number:03}", times=3)
    room = memory.used
    memory.put(entry("http://a/200"), room, 0)
    for place in memory._queues[1]:
        place.hits = 3
    memory.put(entry("http://a/201"), room, 0)
    assert memory.evictions == 2
    assert sum(place.hits == 2 for place in memory._queues[1]) == MAX_REINSERTED


def use(memory: Memory, uri: str, times: int = 1) -> None:
    slot = memory.select(uri, "r", values, {})
    assert slot is not None
    slot.place.hits = times


def hits(capacity: int, trace: list[int]) -> int:
    memory, found = Memory(Purges()), 0
    body = b"x" * (MAX_PACKED_BODY + 1)
    size = entry("http://a/00000", body=body).size
    for number in trace:
        uri = f"http://a/{number:05}"
        slot = memory.select(uri, "r", values, {})
        if slot is None:
            memory.put(entry(uri, body=body), capacity * size, 0)
        else:
            slot.place.hits = min(MAX_HITS, slot.place.hits + 1)
            found += 1
    assert len(memory) <= capacity
    return found


def lru_hits(capacity: int, trace: list[int]) -> int:
    kept: OrderedDict[int, None] = OrderedDict()
    found = 0
    for number in trace:
        found += number in kept
        kept[number] = None
        kept.move_to_end(number)
        if len(kept) > capacity:
            kept.popitem(last=False)
    return found


def test_it_keeps_more_of_what_is_popular_than_lru():
    """Requests as they come: a few resources often, most rarely; and every so often a scan over
    everything."""
    random = Random(7)
    trace: list[int] = []
    for _ in range(10):
        trace += [int(random.paretovariate(0.9)) % 5000 for _ in range(1500)]
        trace += range(10_000, 10_300)
    assert hits(200, trace) > lru_hits(200, trace) * 1.02


def test_what_it_says_it_uses_is_about_what_it_uses():
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        memory = Memory(Purges())
        for number in range(1000):
            headers = tuple(
                (b"Header-%d-%d" % (number, index), b"value %d %d" % (number, index))
                for index in range(10)
            )
            stored = entry(
                f"http://api.example.com/things/{number}",
                headers=headers,
                fields={name.lower(): value for name, value in headers},
                body=b"%d" % number * 100,
                born=NOW + number,
                date=10**9 + number,
            )
            memory.put(stored, MANY, 0)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.75 < memory.used / used < 1.35


def test_after_the_limit_has_shrunk_as_many_go_with_each_that_comes_and_no_more():
    """All at once would hold up everything else."""
    memory = filled(2 * SLICE + 10)
    limit = 5 * SMALL
    assert not memory.put(entry("http://a/new"), limit, 0)
    assert len(memory) == SLICE + 10
    assert not memory.put(entry("http://a/new"), limit, 0)
    assert memory.put(entry("http://a/new"), limit, 0)
    assert memory.used <= limit


def test_what_strangers_write_into_keys_counts_when_packed_too():
    """Else long values of a field that answers vary by would take many times the room."""
    memory, long = Memory(Purges()), "v" * 8000
    for number in range(RECENT + 100):
        memory.put(entry(vary={"a": f"{long}{number}"}), MANY, 0)
        memory.put(entry(scope=("r", ("x-a",), (f"{long}{number}",))), MANY, 0)
    packed = [place for place in memory._queues[0] if isinstance(place.content, bytes)]
    assert len(packed) > RECENT
    assert min(place.size for place in packed) > len(long)
    assert memory.used > len(memory) * len(long)


# A slow model.

uris = st.sampled_from([f"http://a/{name}" for name in ("x", "y", "z", "x/1")])
scopes = st.sampled_from(["r", "s"])
varies = st.sampled_from([None, {"a": "1"}, {"a": "2"}, {"b": "1"}])


class Model(RuleBasedStateMachine):
    """The store against a plain dict; sizes so small that evictions happen: what is found must be
    what was put last."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory(Purges())
        self.last: dict[Any, Entry | None] = {}
        self.limit = 5 * SMALL

    @rule(uri=uris, scope=scopes, vary=varies, size=st.integers(0, 3000))
    def put(self, uri: str, scope: str, vary: Values | None, size: int) -> None:
        stored = entry(uri, scope, vary, b"x" * size)
        key = (uri, scope, stored.vary, stored.key)
        if self.memory.put(stored, self.limit, self.memory.purges.version):
            self.last[key] = stored
            assert self.memory.used <= self.limit

    @rule(limit=st.integers(2, 8))
    def resize(self, limit: int) -> None:
        self.limit = limit * SMALL

    @rule(uri=uris, scope=scopes, request=st.sampled_from([{}, {"a": "1"}, {"a": "2", "b": "1"}]))
    def get(self, uri: str, scope: str, request: Values) -> None:
        slot = self.memory.select(uri, scope, values, request)
        if slot is not None:
            slot.place.hits = min(MAX_HITS, slot.place.hits + 1)
            stored = slot.entry
            assert values(request, stored.vary) == stored.key
            assert self.last[(uri, scope, stored.vary, stored.key)] == stored

    @rule(uri=uris, scope=scopes)
    def remove(self, uri: str, scope: str) -> None:
        slot = self.memory.select(uri, scope, values, {})
        if slot is not None:
            self.memory.remove(slot)
            del self.last[(uri, scope, slot.entry.vary, slot.entry.key)]

    @rule(uri=uris)
    def purge_url(self, uri: str) -> None:
        self.memory.purges.add(Purge("url", uri))
        self.last = {key: value for key, value in self.last.items() if key[0] != uri}

    @rule(pattern=st.sampled_from(["/x", "/x*", "/y"]))
    def purge_path(self, pattern: str) -> None:
        self.memory.purges.add(of_pattern(pattern))
        hit = ("/x", "/x/1") if pattern == "/x*" else (pattern,)
        self.last = {
            key: value
            for key, value in self.last.items()
            if key[0].removeprefix("http://a") not in hit
        }

    @rule()
    def purge_all(self) -> None:
        self.memory.purges.add(Purge("all"))
        self.last = {}

    @rule()
    def pack(self) -> None:
        for place in (*self.memory._queues[0], *self.memory._queues[1]):
            if isinstance(place.content, Slot):
                slot = place.content
                self.memory._resize(place, packing.pack(slot.entry, slot.checked))

    @invariant()
    def the_books_are_right(self) -> None:
        memory = self.memory
        queues = memory._queues
        assert [sum(place.size for place in queue) for queue in queues] == memory._queued
        assert memory.used == sum(memory._queued)
        places = {id(place) for queue in queues for place in queue}
        assert len(memory) == sum(place.content is not None for queue in queues for place in queue)
        filed = [
            place
            for found in memory.index.values()
            for place in (
                [found]
                if isinstance(found, Place)
                else [
                    place
                    for variants in found.values()
                    for places in variants.values()
                    for place in places.values()
                ]
            )
        ]
        assert {id(place) for place in filed} == places
        assert all(place.queue == number for number in (0, 1) for place in queues[number])


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_it_never_holds_more_than_it_may(trace: list[int], capacity: int):
    assert hits(capacity, trace) <= len(trace)


async def test_closing_gives_everything_up_in_slices():
    memory = filled(SLICE + 10)
    closing = memory.close()
    assert closing is not None
    await closing
    assert (len(memory), find(memory, "http://a/1")) == (0, None)
    assert Memory(Purges()).close() is None
