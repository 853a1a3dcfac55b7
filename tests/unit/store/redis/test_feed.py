"""Following something in a real Redis: what is heard, what is missed, and what goes wrong on the
way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.clock import REAL
from gateway.core.hooks import Context
from gateway.core.telemetry import Telemetry
from gateway.store.redis import feed as redis_feed
from gateway.store.redis.client import RedisClient, client_of
from gateway.store.redis.feed import Feed
from gateway.store.stores import StoreDown, parse
from tests.redis import RedisServer, redis, shared_redis
from tests.until import until

__all__ = ["redis", "shared_redis"]

NAME = b"gateway:{feed}"


class Follower:
    """Notes what it is told; `down` makes reading everything fail, `refuse` taking a change."""

    def __init__(self) -> None:
        self.loads = 0
        self.taken: list[bytes] = []
        self.late = 0
        self.down = self.refuse = False
        self.during: Any = None

    async def load(self) -> None:
        self.loads += 1
        if self.during is not None:
            await self.during()
        if self.down:
            raise StoreDown("down")

    def take(self, change: bytes) -> None:
        if self.refuse:
            self.refuse = False
            raise ValueError("nonsense")
        self.taken.append(change)

    def unconfirmed(self) -> None:
        self.late += 1


class Channel:
    def __init__(self, server: RedisServer, database: int = 10) -> None:
        self.server = server
        self.url = parse(f"{server.url}/{database}")
        self.store = RedisClient(self.url, 2.0, REAL, Telemetry())
        self.follower = Follower()
        self.feed: Feed | None = None

    def follow(self) -> Feed:
        self.feed = Feed(self.store, NAME, self.follower)
        return self.feed

    async def change(self, text: str, version: int | None = None) -> None:
        number = (
            int(await self.store.command(b"INCR", NAME + b":version"))
            if version is None
            else version
        )
        await self.store.command(
            b"PUBLISH", self.url.channel(NAME.decode()).encode(), f"{number} {text}".encode()
        )

    def close(self) -> None:
        if self.feed is not None:
            self.feed.close()
        self.store.close()


@pytest.fixture
async def world(shared_redis: RedisServer) -> AsyncIterator[Channel]:
    one = Channel(shared_redis)
    await one.store.command(b"DEL", NAME + b":version")
    yield one
    one.close()


async def test_changes_come_in_order_and_once(world: Channel):
    await world.change("before")
    feed = world.follow()
    await until(lambda: feed.subscribed and feed.version == 1)
    for number in range(5):
        await world.change(f"c{number}")
    await until(lambda: feed.version == 6)
    assert world.follower.taken == [b"c0", b"c1", b"c2", b"c3", b"c4"]
    await world.change("again", 3)  # heard before
    await world.change("c5")
    await until(lambda: feed.version == 7)
    assert world.follower.taken[-2:] == [b"c4", b"c5"] and world.follower.loads == 1
    assert repr(feed) == "<Feed gateway:{feed}:changes:10 version 7>"


async def test_changes_while_everything_is_read_are_taken_after_it(world: Channel):
    feed = world.follow()
    await until(lambda: feed.subscribed)

    async def during() -> None:
        world.follower.during = None
        await world.change("meanwhile")
        await until(lambda: feed._held)

    world.follower.during = during
    feed.version = None
    feed._comparing.wake()
    await until(lambda: feed.version == 1)
    assert world.follower.taken == [b"meanwhile"]


async def test_what_cannot_be_taken_has_everything_read_again(
    world: Channel, caplog: pytest.LogCaptureFixture
):
    feed = world.follow()
    await until(lambda: feed.subscribed and feed.version == 0)
    world.follower.refuse = True
    await world.change("nonsense")
    await until(lambda: feed.version == 1)
    assert world.follower.loads == 2 and "everything is read anew" in caplog.text


async def test_a_failure_of_our_own_does_not_end_it(
    world: Channel, caplog: pytest.LogCaptureFixture, monkeypatch
):
    monkeypatch.setattr(redis_feed, "EVERY", 0.02)

    async def broken() -> None:
        world.follower.during = None
        raise RuntimeError("a mistake")

    world.follower.during = broken
    feed = world.follow()
    await until(lambda: feed.version == 0)
    assert "store_feed of gateway:{feed}:changes:10 failed" in caplog.text


async def test_reading_that_fails_is_tried_again(world: Channel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redis_feed, "SOON", 0.01)
    monkeypatch.setattr(redis_feed, "LATE", 0.05)
    world.follower.down = True
    feed = world.follow()
    await until(lambda: world.follower.late)
    assert world.follower.loads > 1 and world.follower.late == 1 and not feed.confirmed
    world.follower.down = False
    await until(lambda: feed.confirmed)


async def test_a_version_that_went_back(world: Channel, monkeypatch: pytest.MonkeyPatch):
    """As after the failover to a replica that had not seen everything."""
    monkeypatch.setattr(redis_feed, "EVERY", 0.02)
    for _ in range(3):
        await world.change("x")
    feed = world.follow()
    await until(lambda: feed.version == 3)
    await world.store.command(b"SET", NAME + b":version", b"1")
    await until(lambda: feed.version == 1)
    assert world.follower.loads == 2


async def test_another_history_that_has_counted_up_to_the_same_version(redis: RedisServer):
    """As after a restart without data: changes made before the gateway is back must not be
    missed."""
    world = Channel(redis, 0)
    await world.change("old")
    feed = world.follow()
    await until(lambda: feed.subscribed and feed.version == 1)
    redis.kill()
    await until(lambda: not feed.subscribed)
    redis.start()
    other = Channel(redis, 0)
    await other.change("new")
    await until(lambda: world.follower.loads == 2 and feed.version == 1)
    other.close()
    world.close()


async def test_a_version_whose_message_is_still_to_come(
    world: Channel, monkeypatch: pytest.MonkeyPatch
):
    """Reads of the version overtake messages; that is no reason to read everything."""
    feed = world.follow()
    await until(lambda: feed.subscribed and feed.version == 0)
    await world.change("x")
    await until(lambda: feed.version == 1)
    feed.version = 0
    monkeypatch.setattr(redis_feed, "GRACE", 0.05)
    asyncio.get_running_loop().call_later(0.01, feed._heard, b"1 late")
    feed._comparing.wake()
    await until(lambda: feed.version == 1)
    await asyncio.sleep(0.06)
    assert world.follower.taken == [b"x", b"late"] and world.follower.loads == 1


PINGS = re.compile(r"cmdstat_ping:calls=(\d+)")


async def test_a_server_that_falls_silent_is_given_up(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(redis_feed, "SILENCE", 0.2)
    world = Channel(redis, 0)
    feed = world.follow()
    await until(lambda: feed.subscribed)
    await until(
        lambda: (
            (found := PINGS.search(redis.command("INFO", "commandstats"))) and int(found[1]) >= 3
        )
    )
    assert feed.subscribed  # it has answered all along
    redis.freeze()
    await until(lambda: not feed.subscribed)
    redis.thaw()
    await until(lambda: feed.subscribed)
    world.close()


async def test_a_server_that_refuses(shared_redis: RedisServer, caplog: pytest.LogCaptureFixture):
    world = Channel(shared_redis)
    world.store.identification.insert(0, (b"AUTH", b"wrong"))
    feed = world.follow()
    with pytest.raises(StoreDown):
        await asyncio.wait_for(feed._listen(), 20)
    world.close()


async def test_everything_of_a_hash(world: Channel):
    many = {f"field{number}": f"{number}" for number in range(3000)}
    await world.store.command(
        b"HSET", b"gateway:{feed}:many", *(word.encode() for pair in many.items() for word in pair)
    )
    found: dict[str, str] = {}
    async for some in world.store.scan(b"gateway:{feed}:many"):
        found |= {
            field.decode(): value.decode()
            for field, value in zip(some[::2], some[1::2], strict=True)
        }
    assert found == many
    await world.store.command(b"DEL", b"gateway:{feed}:many")


async def test_anywhere_is_where_messages_are_heard():
    cluster = RedisClient(parse("redis+cluster://one:7000,two:7001"), 1.0, REAL, Telemetry())
    assert {await cluster.anywhere() for _ in range(50)} == {("one", 7000), ("two", 7001)}
    single = RedisClient(parse("redis://one:7000"), 1.0, REAL, Telemetry())
    assert await single.anywhere() == ("one", 7000)


def test_readers_are_shared_by_url():
    kept: dict[Any, Any] = {}

    def keep(key: Any, fingerprint: object, make: Any) -> Any:
        return (
            kept.setdefault((key, fingerprint), make())
            if (key, fingerprint) not in kept
            else kept[key, fingerprint]
        )

    context = Context("auth", keep=keep)
    one = client_of("redis://host/1", 0.1, context)
    assert client_of("redis://host/1", 0.1, context) is one
    assert client_of("redis://host/1", 0.2, context) is not one
    assert client_of("redis://user:other@host/1", 0.1, context) is not one
    with pytest.raises(LookupError):
        client_of("redis", 0.1, context)
    for reader in kept.values():
        reader.close()


async def test_without_a_loop_nothing_is_followed(monkeypatch: pytest.MonkeyPatch):
    feed = await asyncio.to_thread(
        lambda: Feed(RedisClient(parse("redis://host"), 1.0, REAL, Telemetry()), NAME, Follower())
    )
    assert "asleep" in repr(feed._comparing) and "asleep" in repr(feed._listening)
    feed.close()
