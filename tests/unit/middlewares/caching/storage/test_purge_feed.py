"""What a store tells of purges, as it is taken. With a real Redis: tests/flow/test_cache_redis.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.middlewares.caching.storage.purge_feed import PurgeFeed
from gateway.store.purges import Purge, Purges
from gateway.store.stores import parse


class Store:
    """A client that notes what is run, and has one page of records."""

    url = parse("redis://localhost/3")
    name = "redis://localhost"

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.records: list[bytes] = []

    def run(self, script: Any, keys: Any, args: Any) -> str:
        self.ran.append((keys, args))
        return "sent"

    async def scan(self, key: bytes) -> AsyncIterator[list[bytes]]:
        yield self.records


@pytest.fixture
def purges() -> Purges:
    return Purges()


async def test_what_is_purged_here_is_told_with_the_names_it_is_remembered_by(purges: Purges):
    store = Store()
    feed = PurgeFeed(store, purges)  # type: ignore[arg-type]
    assert feed.tell(Purge("prefix", "/a")) == "sent"
    ((keys, args),) = store.ran
    assert keys == (b"gateway:{cache}:purges", b"gateway:{cache}:stamp", b"gateway:{cache}:version")
    fields = [field.encode() for field in Purges.fields(Purge("prefix", "/a"))]
    assert args == (b"gateway:{cache}:changes:3", *fields)


async def test_what_others_purge_is_taken(purges: Purges):
    feed = PurgeFeed(Store(), purges)  # type: ignore[arg-type]
    (field,) = Purges.fields(Purge("tag", "t"))
    feed.take(f'1700000000000000 ["{field}"]'.encode())
    assert purges.version == 1_700_000_000_000_000
    with pytest.raises(ValueError, match=r".*"):
        feed.take(b"no number")


async def test_what_was_purged_before_is_read(purges: Purges):
    store = Store()
    store.records = [b"hard all ", b"500", b"soft length 3", b"400"]
    await PurgeFeed(store, purges).load()  # type: ignore[arg-type]
    assert (purges.version, purges.verdict("http://a/x", (), 499)) == (500, "gone")


def test_before_it_follows_nothing_is_known_and_closing_is_harmless(
    purges: Purges, caplog: pytest.LogCaptureFixture
):
    feed = PurgeFeed(Store(), purges)  # type: ignore[arg-type]
    assert (feed.known, repr(feed), purges.tell) == (False, "<PurgeFeed None>", None)
    feed.close()
    feed.unconfirmed()
    assert "has not been heard of" in caplog.text


def test_when_it_ends_others_are_told_as_before(purges: Purges, monkeypatch: pytest.MonkeyPatch):
    module = "gateway.middlewares.caching.storage.purge_feed.Feed"
    made = SimpleNamespace(version=3, close=lambda: None)
    monkeypatch.setattr(module, lambda *arguments: made)
    told: list[Purge] = []
    purges.tell = before = told.append
    feed = PurgeFeed(Store(), purges)  # type: ignore[arg-type]
    feed.follow()
    feed.follow()
    assert (feed.known, purges.tell) == (True, feed.tell)
    # The workers beside this one hear of it though the store may be down.
    assert purges.purge(Purge("all")) == "sent"
    assert told == [Purge("all")]
    feed.close()
    assert purges.tell is before
