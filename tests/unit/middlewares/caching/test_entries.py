"""The store of responses: finding, evicting, invalidating, and what it says it uses."""

from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.middlewares.caching.entries import (
    ENTRY_OVERHEAD,
    HEADER_OVERHEAD,
    Entries,
    Entry,
    Ring,
    Slot,
)

Values = dict[str, str]
NOW = 1000.0


def entry(
    uri: str = "http://a/x",
    scope: str = "r",
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


def find(
    entries: Entries, uri: str = "http://a/x", scope: str = "r", **request: str
) -> Entry | None:
    slot = entries.select(uri, scope, values, request)
    return None if slot is None else slot.entry


SMALL = entry().size
MANY = 10**9


def test_what_was_put_is_found():
    entries = Entries()
    stored = entry()
    assert entries.put(stored, MANY, 0)
    assert find(entries) is stored
    assert "http://a/x" in entries
    assert "http://a/y" not in entries
    assert find(entries, "http://a/y") is None
    assert find(entries, scope="other") is None
    assert (len(entries), entries.used) == (1, SMALL)
    assert repr(entries) == f"<Entries 1 responses, {SMALL} bytes>"


def test_the_same_variant_is_replaced():
    entries = Entries()
    entries.put(entry(body=b"long body"), MANY, 0)
    entries.put(entry(body=b"new"), MANY, 0)
    assert find(entries).body == b"new"  # type: ignore[union-attr]
    assert (len(entries), entries.used) == (1, SMALL + 3)


def test_variants_by_values():
    entries = Entries()
    for language in ("en", "de"):
        entries.put(entry(vary={"language": language}, body=language.encode()), MANY, 0)
    assert find(entries, language="en").body == b"en"  # type: ignore[union-attr]
    assert find(entries, language="de").body == b"de"  # type: ignore[union-attr]
    assert find(entries, language="fr") is None
    assert entries.varies("http://a/x", "r") == ("language",)
    assert entries.varies("http://a/x", "other") == ()
    assert entries.varies("http://a/y", "r") == ()


def test_of_several_that_match_the_latest_by_date():
    entries = Entries()
    entries.put(entry(vary={"a": "1"}, date=5), MANY, 0)
    entries.put(entry(vary={"b": "1"}, date=7), MANY, 0)
    entries.put(entry(date=6), MANY, 0)
    assert find(entries, a="1", b="1").date == 7  # type: ignore[union-attr]
    assert find(entries, a="1").date == 6  # type: ignore[union-attr]
    assert entries.varies("http://a/x", "r") == ("a", "b")


def test_an_origin_that_keeps_changing_its_vary_loses_the_oldest():
    entries = Entries()
    for number in range(20):
        entries.put(entry(vary={f"x-{number}": "1"}), MANY, 0)
        entries.put(entry(vary={f"x-{number}": "2"}), MANY, 0)
    assert len(entries) == 16
    assert entries.used == 16 * entry(vary={"x": "1"}).size
    assert find(entries, **{"x-11": "1"}) is None
    assert find(entries, **{"x-12": "2"}) is not None


def test_a_slot_knows_until_when_it_is_fresh():
    assert Slot(entry(), 0, Entries().ring).fresh_until == NOW + 60
    assert Slot(entry(no_cache=True), 0, Entries().ring).fresh_until == float("-inf")


def test_removing_is_harmless_twice_and_leaves_nothing():
    entries = Entries()
    entries.put(entry(), MANY, 0)
    slot = entries.select("http://a/x", "r", values, {})
    assert slot is not None
    entries.remove(slot)
    entries.remove(slot)
    assert (len(entries), entries.used, "http://a/x" in entries) == (0, 0, False)


def test_removing_what_has_been_replaced_leaves_the_new_one():
    entries = Entries()
    entries.put(entry(), MANY, 0)
    old = entries.select("http://a/x", "r", values, {})
    assert old is not None
    entries.put(entry(body=b"new"), MANY, 0)
    entries.remove(old)
    assert find(entries) is not None


# Invalidation.


def test_invalidating_a_uri_takes_every_variant_and_scope():
    entries = Entries()
    entries.put(entry(vary={"a": "1"}), MANY, 0)
    entries.put(entry(vary={"a": "2"}), MANY, 0)
    entries.put(entry(scope="other"), MANY, 0)
    entries.put(entry("http://a/y"), MANY, 0)
    assert entries.invalidate("http://a/x") == 3
    assert entries.invalidate("http://a/x") == 0
    assert len(entries) == 1


def test_what_was_asked_for_before_an_invalidation_is_not_stored():
    entries = Entries()
    asked = entries.sequence
    entries.invalidate("http://a/x")
    assert not entries.put(entry(), MANY, asked)
    assert entries.put(entry("http://a/y"), MANY, asked)
    assert entries.put(entry(), MANY, entries.sequence)


def test_invalidations_long_ago_are_remembered_all_at_once():
    entries = Entries()
    asked = entries.sequence
    entries.invalidate("http://a/x")
    for number in range(5000):
        entries.invalidate(f"http://a/{number}")
    assert len(entries._traces) <= 4096
    assert not entries.put(entry(), MANY, asked)
    assert not entries.put(entry("http://a/never"), MANY, asked)
    assert entries.put(entry(), MANY, entries.sequence)


def test_clearing_forgets_what_is_under_way_too():
    entries = Entries()
    asked = entries.sequence
    entries.put(entry(), MANY, asked)
    entries.clear()
    assert (len(entries), entries.used, find(entries)) == (0, 0, None)
    assert not entries.put(entry(), MANY, asked)
    assert entries.put(entry(), MANY, entries.sequence)


@pytest.mark.parametrize(
    ("pattern", "path", "banned"),
    [
        ("/a", "/a", True),
        ("/a", "/a?x=1", True),
        ("/a", "/a/", False),
        ("/a*", "/ab/c?x", True),
        ("/a/*", "/a", False),
        ("/*/c", "/a/b/c", True),
        ("*", "/", True),
        ("*x=1", "/a?x=1", False),
        ("/a[b]?", "/ab", False),
        ("/a[b]?", "/a[b]?", False),
        ("/a.c", "/abc", False),
    ],
)
def test_bans(pattern: str, path: str, banned: bool):
    entries = Entries()
    uri = f"http://host:80{path}"
    entries.put(entry(uri), MANY, 0)
    entries.ban(pattern)
    assert (find(entries, uri) is None) == banned
    assert len(entries) == (0 if banned else 1)
    assert (find(entries, uri) is None) == banned


def test_a_ban_is_for_what_was_asked_for_before_it():
    entries = Entries()
    asked = entries.sequence
    entries.ban("/x")
    entries.put(entry(), MANY, asked)
    assert find(entries) is None
    entries.put(entry(), MANY, entries.sequence)
    assert find(entries) is not None
    entries.ban("/y")
    assert find(entries) is not None
    entries.ban("/x")
    assert find(entries) is None


# Size.


def test_what_cannot_fit_is_refused_and_evicts_nothing():
    entries = Entries()
    entries.put(entry("http://a/1"), 3 * SMALL, 0)
    assert not entries.put(entry(body=b"x" * 3 * SMALL), 3 * SMALL, 0)
    assert len(entries) == 1


def test_the_limit_of_the_moment_counts():
    entries = Entries()
    for number in range(10):
        entries.put(entry(f"http://a/{number}"), MANY, 0)
    entries.put(entry(), 3 * SMALL, 0)
    assert (len(entries), entries.used) == (3, 3 * SMALL)
    assert find(entries) is not None


def test_what_is_asked_for_outlives_what_is_not():
    entries = Entries()
    for number in range(4):
        entries.put(entry(f"http://a/{number}"), 4 * SMALL, 0)
    slot = entries.select("http://a/0", "r", values, {})
    assert slot is not None
    slot.hit = True
    entries.put(entry("http://a/4"), 4 * SMALL, 0)
    assert find(entries, "http://a/0") is not None
    assert find(entries, "http://a/1") is None
    assert not slot.hit


def test_when_everything_was_asked_for_the_oldest_goes():
    entries = Entries()
    for number in range(3):
        entries.put(entry(f"http://a/{number}"), 3 * SMALL, 0)
        slot = entries.select(f"http://a/{number}", "r", values, {})
        assert slot is not None
        slot.hit = True
    entries.put(entry("http://a/3"), 3 * SMALL, 0)
    assert [number for number in range(4) if find(entries, f"http://a/{number}")] == [1, 2, 3]


def hits(capacity: int, trace: list[int]) -> int:
    entries, found = Entries(), 0
    size = entry("http://a/00000").size
    for number in trace:
        uri = f"http://a/{number:05}"
        slot = entries.select(uri, "r", values, {})
        if slot is None:
            entries.put(entry(uri), capacity * size, 0)
        else:
            slot.hit = True
            found += 1
    assert len(entries) <= capacity
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
        entries = Entries()
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
            entries.put(stored, MANY, 0)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.75 < entries.used / used < 1.35
    assert ENTRY_OVERHEAD > 0 < HEADER_OVERHEAD


# A slow model.

uris = st.sampled_from([f"http://a/{name}" for name in ("x", "y", "z", "x/1")])
scopes = st.sampled_from(["r", "s"])
varies = st.sampled_from([None, {"a": "1"}, {"a": "2"}, {"b": "1"}])


class Model(RuleBasedStateMachine):
    """The store against a plain dict; sizes so small that evictions happen: what is found must be
    what was put last."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = Entries()
        self.last: dict[Any, Entry | None] = {}
        self.limit = 5 * SMALL

    @rule(uri=uris, scope=scopes, vary=varies, size=st.integers(0, 3000))
    def put(self, uri: str, scope: str, vary: Values | None, size: int) -> None:
        stored = entry(uri, scope, vary, b"x" * size)
        key = (uri, scope, stored.vary, stored.key)
        if self.entries.put(stored, self.limit, self.entries.sequence):
            self.last[key] = stored

    @rule(limit=st.integers(1, 8))
    def resize(self, limit: int) -> None:
        self.limit = limit * SMALL
        while self.entries.used > self.limit:
            self.entries.remove(self.entries.ring.victim())

    @rule(uri=uris, scope=scopes, request=st.sampled_from([{}, {"a": "1"}, {"a": "2", "b": "1"}]))
    def get(self, uri: str, scope: str, request: Values) -> None:
        slot = self.entries.select(uri, scope, values, request)
        if slot is not None:
            slot.hit = True
            stored = slot.entry
            assert values(request, stored.vary) == stored.key
            assert self.last[(uri, scope, stored.vary, stored.key)] is stored

    @rule(uri=uris)
    def invalidate(self, uri: str) -> None:
        self.entries.invalidate(uri)
        self.last = {key: value for key, value in self.last.items() if key[0] != uri}

    @rule(pattern=st.sampled_from(["/x", "/x*", "/y"]))
    def ban(self, pattern: str) -> None:
        self.entries.ban(pattern)
        hit = ("/x", "/x/1") if pattern == "/x*" else (pattern,)
        self.last = {
            key: value
            for key, value in self.last.items()
            if key[0].removeprefix("http://a") not in hit
        }

    @rule()
    def clear(self) -> None:
        self.entries.clear()
        self.last = {}

    @invariant()
    def the_books_are_right(self) -> None:
        forward, slot = [], self.entries.ring.oldest
        while slot is not None:
            forward.append(slot)
            assert slot.newer is None or slot.newer.older is slot
            slot = slot.newer
        assert len(forward) == len(self.entries)
        assert self.entries.used == sum(slot.entry.size for slot in forward) <= self.limit
        assert self.entries.ring.newest is (forward[-1] if forward else None)
        assert self.entries.ring.hand is None or self.entries.ring.hand in forward
        filed = [
            slot
            for scopes in self.entries._resources.values()
            for variants in scopes.values()
            for slots in variants.values()
            for slot in slots.values()
        ]
        assert {id(slot) for slot in filed} == {id(slot) for slot in forward}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_it_never_holds_more_than_it_may(trace: list[int], capacity: int):
    assert hits(capacity, trace) <= len(trace)


def test_one_ring_evicts_nothing_of_another():
    entries = Entries()
    ring, other = Ring(entries), Ring(entries)
    size = entry().size
    assert entries.put(entry(uri="http://a/kept"), 10 * size, 0, other)
    for number in range(5):
        assert entries.put(entry(uri=f"http://a/{number}"), 2 * size, 0, ring)
    assert (ring.used <= 2 * size, len(entries)) == (True, 3)
    assert "http://a/kept" in entries
    entries.invalidate("http://a/kept")
    assert other.used == 0
    ring.close()
    assert (len(entries), entries.used, ring.used) == (0, 0, 0)
