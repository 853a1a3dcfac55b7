"""Names of stored responses in Redis, and what is made of values that are none. With a real Redis:
tests/flow/test_cache_redis.py."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import orjson
import pytest

from gateway.core.wait import Wait
from gateway.middlewares.caching.entries import Entry, indexed
from gateway.middlewares.caching.storage import remote as remotes
from gateway.middlewares.caching.storage.packing import pack
from gateway.middlewares.caching.storage.remote import (
    MAX_UNWRITTEN,
    PIECE,
    Remote,
    canonical,
    key_of,
    piece_key,
    variant_key,
)
from gateway.store.stores import StoreDown
from tests.exchange import World

URI = "http://a/x"


def test_names_are_hashes_and_lie_together():
    key = key_of(URI, "r")
    assert key == key_of(URI, "r") != key_of(URI, "s")
    assert key.startswith(b"gateway:{cache1:")
    assert len(key) == 49
    assert variant_key(key, ("a",), ("1",)).startswith(key + b":")
    assert variant_key(key, ("a",), ("1",)) != variant_key(key, ("a",), ("2",))
    assert piece_key(key, "ab", 3) == key + b":ab:3"


def test_a_set_has_the_same_text_in_every_process():
    assert canonical(("a", frozenset(("c", "b")), None, 1)) == "('a',{'b','c'},None,1)"
    assert canonical(("a", "b")) != canonical(("a,b",))


class Fake:
    """A client of a store that is a dict. `down`: it fails."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.up = True
        self.down = False
        self.known = True
        self.held: list[Any] = []
        """What is not answered."""
        self.holds = False

    def command(self, *words: bytes) -> Wait[Any]:
        wait: Wait[Any] = Wait()
        if self.down:
            wait.fail(StoreDown("away"))
        elif words[0] == b"GET":
            wait.wake(self.kept.get(words[1]))
        else:
            wait.wake(self.kept.pop(words[1], None))
        return wait

    def send(self, command: Any) -> None:
        if self.holds:
            self.held.append(command)
            return
        self.kept[command.words[1]] = command.words[2]
        command.wake(b"OK")


def entry(body: bytes = b"body", **more: Any) -> Entry:
    headers = ((b"A", b"1"),)
    facts = {"vary": (), "key": (), "date": 5, **more}
    return Entry(
        URI, "r", status=200, reason=b"OK", headers=headers, fields=indexed(headers),
        lines=b"A: 1\r\n", body=body, born=990.0, lifetime=60.0, **facts,
    )  # fmt: skip


@pytest.fixture
def store() -> Fake:
    return Fake()


@pytest.fixture
def remote(store: Fake) -> Remote:
    return Remote(store, store, World(now=1000.0, epoch=10**9).clock)  # type: ignore[arg-type]


def values(request: dict[str, str], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(request.get(name, "") for name in names)


async def find(remote: Remote, **request: str) -> Any:
    return await remote.find(URI, "r", values, request)


async def test_what_was_put_is_found(remote: Remote):
    assert await find(remote) is None
    remote.put(entry(), 7, ())
    assert await find(remote) == (entry(), 7)
    remote.remove(entry())
    assert await find(remote) is None


async def test_of_variants_that_match_the_latest_by_date(remote: Remote):
    sets = [("a",), ("b",)]
    remote.put(entry(b"1", vary=("a",), key=("1",), date=1), 0, sets)
    remote.put(entry(b"2", vary=("b",), key=("1",), date=2), 0, sets)
    assert (await find(remote, a="1"))[0].body == b"1"
    assert (await find(remote, a="1", b="1"))[0].body == b"2"
    assert await find(remote, a="2") is None
    remote.remove(entry(vary=("b",), key=("1",)))
    assert (await find(remote, a="1", b="1"))[0].body == b"1"


@pytest.mark.parametrize("spoilt", [None, 0, 2])
async def test_pieces(remote: Remote, store: Fake, spoilt: int | None):
    body = bytes(range(256)) * (3 * PIECE // 256)
    remote.put(entry(body), 0, ())
    assert len(store.kept) == 5
    assert max(map(len, store.kept.values())) <= PIECE
    if spoilt is None:
        assert (await find(remote))[0].body == body
        return
    (key,) = [key for key in store.kept if key.endswith(b":%d" % spoilt)]
    store.kept[key] = store.kept[key][:-1] + b"?"
    assert await find(remote) is None
    del store.kept[key]
    assert await find(remote) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"E",
        b"Enonsense",
        b"P",
        b"P[]",
        b"P" + orjson.dumps(["a", 0, crc32(b"")]),
        b"P[1,1,1]",
        b'P["a",1e9,1]',
        b'P["a","b",1]',
        b"V",
        b"V{}",
        b"V[1]",
        b"X",
    ],
)
async def test_values_that_are_none_are_misses(remote: Remote, store: Fake, value: bytes):
    store.kept[key_of(URI, "r")] = value
    assert await find(remote) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "200"},
        {"status": 100},
        {"status": True},
        {"reason": b"OK\r\nSet-Cookie: a=b"},
        {"headers": ((b"A", b"1\r\nSet-Cookie: a=b"),)},
        {"headers": ((b"A: 1\r\nB", b"1"),)},
        {"headers": ((b"A", b"1" * 2**21),)},
        {"etag": b'"1"\r\nB: 1'},
        {"last_modified": b"\n"},
        {"date": "1"},
        {"date": 1.5},
        {"no_cache": None},
        {"stale_if_error": "1"},
        {"tags": ("1",)},
        {"tags": (65536,)},
        {"tags": (-1,)},
        {"total": -1},
        {"start": None},
    ],
)
async def test_what_no_response_is_and_what_breaks_lines_is_a_miss(
    remote: Remote, store: Fake, wrong: dict[str, Any]
):
    store.kept[key_of(URI, "r")] = b"E" + pack(entry()._replace(**wrong), 0)
    assert await find(remote) is None
    store.kept[key_of(URI, "r")] = b"E" + pack(entry(), "0")  # type: ignore[arg-type]
    assert await find(remote) is None
    store.kept[key_of(URI, "r")] = b"E" + pack(entry(), 0)
    assert await find(remote) is not None


async def test_a_store_that_is_down_is_a_miss(remote: Remote, store: Fake):
    remote.put(entry(), 0, ())
    store.down = True
    assert await find(remote) is None


async def test_nothing_is_stored_while_purges_are_not_known(remote: Remote, store: Fake):
    store.known = False
    remote.put(entry(), 0, ())
    assert (store.kept, remote.up) == ({}, False)


async def test_so_much_is_on_its_way_and_no_more(remote: Remote, store: Fake):
    store.holds = True
    for _ in range(20):
        remote.put(entry(bytes(2**20)), 0, ())
    assert remote._unwritten <= MAX_UNWRITTEN
    for command in store.held:
        command.fail(StoreDown("late"))
    assert remote._unwritten == 0


async def test_another_machines_clock_may_be_ahead(remote: Remote, store: Fake):
    ahead = entry()._replace(born=10**9 + 1000.0 + 50.0)
    store.kept[key_of(URI, "r")] = b"E" + pack(ahead, 0)
    assert (await find(remote))[0].born == 1000.0


async def test_how_long_a_response_stays(remote: Remote, store: Fake):
    store.holds = True
    remote.put(entry(), 0, ())
    remote.put(entry(stale_if_error=600), 0, ())
    seconds = [int(command.words[4]) / 1000 for command in store.held]
    assert seconds == [50 + remotes.STALE_SECONDS, 50 + 600]
