"""Memory in front of a store that others share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.wait import own
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.caching.entries import Entry
from gateway.middlewares.caching.lookup import Finder, caller
from gateway.middlewares.caching.storage.memory import Memory
from gateway.middlewares.caching.storage.tiers import Tiers
from gateway.store.purges import Purge, Purges
from tests.exchange import exchange
from tests.unit.middlewares.caching.storage.test_memory import entry
from tests.unit.middlewares.caching.world import ALICE


class Store:
    """A shared store that has what it is given, by scope."""

    def __init__(self) -> None:
        self.up = True
        self.kept: dict[Any, Entry] = {}
        self.asked: list[Any] = []

    @own
    async def find(self, uri: str, scope: Any, values: Any, request: Any) -> Any:
        self.asked.append(scope)
        found = self.kept.get(scope)
        return None if found is None else (found, 0)

    def put(self, entry: Entry, stamp: int, varies: Any) -> None:
        self.kept[entry.scope] = entry

    def remove(self, entry: Entry) -> None:
        del self.kept[entry.scope]


def tiers(store: Store | None, **settings: Any) -> tuple[Tiers, Memory]:
    config, memory = CachingConfig(**settings), Memory(Purges())
    return Tiers(config, Finder(config, memory), memory, store), memory  # type: ignore[arg-type]


ASKED = exchange("GET", "/x", route="r")


@pytest.fixture
def store() -> Store:
    return Store()


def test_what_is_kept_is_shared_but_for_parts(store: Store):
    both, memory = tiers(store)
    assert both.put(entry(), 0)
    assert (len(memory), store.kept) == (1, {"r": entry()})
    both.put(entry(scope="s", total=10), 0)
    assert (len(memory), list(store.kept)) == (2, ["r"])
    slot = memory.select("http://a/x", "r", lambda request, names: (), None)
    assert slot is not None
    both.remove(slot)
    assert store.kept == {}


def test_what_cannot_be_kept_is_not_shared(store: Store):
    both, memory = tiers(store, max_entry=2000)
    assert not both.put(entry(body=b"x" * 2000), 0)
    memory.purges.add(Purge("all"))
    assert not both.put(entry(), 0)
    assert store.kept == {}


async def test_what_the_store_has_comes_into_memory(store: Store):
    both, memory = tiers(store)
    store.kept["r"] = entry()
    fetching = both.fetch(ASKED, "http://a/x", "r")
    assert fetching is not None
    await fetching
    assert len(memory) == 1
    newer = entry(body=b"newer", born=1001.0)
    for one, found in ((entry(body=b"as old"), b""), (newer, b"newer")):
        store.kept["r"] = one
        await both.fetch(ASKED, "http://a/x", "r")  # type: ignore[misc]
        slot = memory.select("http://a/x", "r", lambda request, names: (), None)
        assert slot is not None
        assert slot.entry.body == found


async def test_what_is_kept_for_one_caller_is_asked_for_too(store: Store):
    both, _ = tiers(store, private=True)
    asked = exchange("GET", "/x", route="r", identity=ALICE)
    await both.fetch(asked, "http://a/x", "r")  # type: ignore[misc]
    assert store.asked == ["r", ("r", caller(asked))]


def test_without_a_store_or_one_that_is_down_nothing_is_asked(store: Store):
    assert tiers(None)[0].fetch(ASKED, "http://a/x", "r") is None
    store.up = False
    both, memory = tiers(store)
    assert both.fetch(ASKED, "http://a/x", "r") is None
    assert repr(both) == repr((memory, store))


def test_parts_are_put_together():
    both, memory = tiers(None)
    look = SimpleNamespace(uri="http://a/x", scope="r", stamp=0)
    first = entry(body=b"ab", start=0, total=4, etag=b'"1"')
    assert both.file(ASKED, look, first)  # type: ignore[arg-type]
    last = entry(body=b"cd", start=2, total=4, etag=b'"1"')
    assert both.file(ASKED, look, last)  # type: ignore[arg-type]
    slot = memory.select("http://a/x", "r", lambda request, names: (), None)
    assert slot is not None
    assert slot.entry.body == b"abcd"
