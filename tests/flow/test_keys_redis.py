"""API keys in a real Redis: taken, refused and followed by running gateways, and what happens while
it is away."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.credentials import store_client
from gateway.credentials.api_keys import key_file, key_ring, redis_keys, shared_keys, store_ring
from gateway.credentials.api_keys.new_keys import Wish
from gateway.credentials.api_keys.redis_keys import RedisKeys
from gateway.credentials.api_keys.shared_keys import SharedKeys
from gateway.credentials.api_keys.store_ring import StoreRing
from gateway.store.redis import feed as redis_feed
from gateway.store.redis.client import RedisClient
from gateway.store.stores import parse
from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin
from tests.redis import Cluster, RedisServer, Watched, redis, shared_redis
from tests.until import until

__all__ = ["redis", "shared_redis"]

PIPELINE = """
request = ["auth"]
error = ["logging"]
[auth]
methods = ["api_key"]
[auth.api_key]
store = "{store}"
deadline = "2s"
{more}
[logging]
file = "access.log"
why = true
[[route]]
prefix = "/"
upstream = "origin"
"""


class Gateways:
    """Gateways with one store of keys."""

    def __init__(self, start: Any, origin: Origin, server: RedisServer) -> None:
        self.start = start
        self.origin = origin
        self.server = server
        self.url = f"{server.url}/4"
        self.keys = RedisKeys(parse(self.url))
        self.clients: list[Client] = []

    async def gateway(self, more: str = "", store: str = "", gateway: str = "") -> Client:
        """A gateway with a store it has read once, and a client of it."""
        pipeline = PIPELINE.format(store=store or self.url, more=more)
        self.running: Gateway = await self.start(
            pipeline, f'[upstream.origin]\nurl = "{self.origin.url}"\n', gateway
        )
        client = await Client.connect(self.running.port)
        self.clients.append(client)
        return client

    def kept(self, kind: type[Any]) -> Any:
        return next(one for one in self.running.runtime.registry if isinstance(one, kind))

    @property
    def feed(self) -> redis_feed.Feed:
        feed: redis_feed.Feed = self.kept(SharedKeys)._feed
        return feed

    async def following(self) -> None:
        await until(lambda: self.feed.subscribed and self.feed.version is not None)

    def lookups(self) -> int:
        found = re.search(r"cmdstat_hget:calls=(\d+)", self.server.command("INFO", "commandstats"))
        return int(found[1]) if found else 0

    def audience(self) -> int:
        return int(
            self.server.command("PUBSUB", "NUMSUB", "gateway:{keys}:changes:4").split("\r\n:")[1]
        )


@pytest.fixture
async def world(start, origin, shared_redis: RedisServer) -> AsyncIterator[Gateways]:
    with store_client.connected(parse(f"{shared_redis.url}/4")) as client:
        client.flushdb()
    one = Gateways(start, origin, shared_redis)
    yield one
    for client in one.clients:
        client.close()


@pytest.fixture
async def alone(start, origin, redis: RedisServer) -> AsyncIterator[Gateways]:
    """With a server that may be killed."""
    one = Gateways(start, origin, redis)
    yield one
    for client in one.clients:
        client.close()


async def status(client: Client, secret: str) -> int:
    return (await client.get("/", f"X-API-Key: {secret}")).status


async def test_a_key_is_taken_at_once_and_refused_at_once(world: Gateways):
    client = await world.gateway()
    await world.following()
    key, secret = world.keys.create(Wish("acme", "gold"), time())
    await until(lambda: world.feed.version == 1)
    before = world.lookups()
    for _ in range(3):
        assert await status(client, secret) == 200
    assert b"\r\nX-Client-ID: acme\r\nX-Client-Tier: gold\r\n" in world.origin.heads[-1]
    assert world.lookups() == before + 1

    new, other, _ = world.keys.rotate(key.id, time(), overlap=3600)
    await until(lambda: world.feed.version == 2)
    assert (await status(client, secret), await status(client, other)) == (200, 200)
    world.keys.revoke(key.id, time())
    world.keys.revoke(new.id, time())
    await until(lambda: world.feed.version == 4)
    reply = await client.get("/", f"X-API-Key: {secret}")
    assert (reply.status, b"has been revoked" in reply.body) == (401, True)
    assert await status(client, other) == 401


async def test_the_store_of_the_configuration(world: Gateways):
    _, secret = world.keys.create(Wish("acme"), time())
    client = await world.gateway(store="redis", gateway=f'[store]\nurl = "{world.url}"\n')
    assert await status(client, secret) == 200


async def test_from_where_and_how_long(world: Gateways):
    client = await world.gateway()
    now = time()
    _, elsewhere = world.keys.create(Wish("acme", networks=("192.0.2.0/24",)), now)
    _, ending = world.keys.create(Wish("acme", expires=now + 3600), now)
    await until(lambda: world.feed.version == 2)
    assert [await status(client, elsewhere) for _ in range(2)] == [403, 403]
    assert await status(client, ending) == 200
    ring = world.kept(StoreRing)
    assert ring.good[ending][1] == pytest.approx(now + key_ring.TTL, abs=5)
    assert "bec_" not in repr(ring) and str(world.server.port) in repr(ring)


async def test_guesses_cost_neither_store_nor_memory(world: Gateways):
    client = await world.gateway()
    world.keys.create(Wish("acme"), time())
    await world.following()
    before = world.lookups()
    for number in range(500):
        assert await status(client, key_file.with_checksum(f"bec_{number:056x}")) == 401
    reply = await client.get("/", f"X-API-Key: bec_{'0' * 64}")
    assert (reply.status, b"mistyped" in reply.body) == (401, True)
    ring: StoreRing = world.kept(StoreRing)
    assert world.lookups() == before
    assert (len(ring._wrong), len(ring.good), len(ring._confirmed)) == (0, 0, 0)


async def test_a_key_that_is_no_good_is_asked_for_once(world: Gateways):
    key, secret = world.keys.create(Wish("acme"), time())
    world.keys.revoke(key.id, time())
    client = await world.gateway()
    await world.following()
    before = world.lookups()
    assert [await status(client, secret) for _ in range(5)] == [401] * 5
    assert world.lookups() == before + 1


async def test_many_who_ask_for_one_key_share_an_answer(world: Gateways):
    _, secret = world.keys.create(Wish("acme"), time())
    client = await world.gateway()
    await world.following()
    others = [await Client.connect(world.running.port) for _ in range(20)]
    world.clients += others
    before = world.lookups()
    assert await asyncio.gather(*(status(one, secret) for one in others)) == [200] * 20
    assert world.lookups() <= before + 2
    assert await status(client, secret) == 200


async def test_without_pushes_a_change_takes_a_few_seconds(
    world: Gateways, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(redis_feed, "EVERY", 0.05)
    listened = redis_feed.Feed._listen

    async def deaf(self: redis_feed.Feed) -> None:
        raise OSError("no way there")

    monkeypatch.setattr(redis_feed.Feed, "_listen", deaf)
    key, secret = world.keys.create(Wish("acme"), time())
    client = await world.gateway()
    await until(lambda: world.feed.version == 1)
    assert not world.feed.subscribed and await status(client, secret) == 200
    world.keys.revoke(key.id, time())
    _, other = world.keys.create(Wish("bert"), time())
    await until(lambda: world.feed.version == 3)
    assert (await status(client, secret), await status(client, other)) == (401, 200)
    monkeypatch.setattr(redis_feed.Feed, "_listen", listened)
    await until(lambda: world.feed.subscribed)


async def test_a_subscription_that_is_lost_comes_back_and_nothing_is_missed(
    world: Gateways, caplog: pytest.LogCaptureFixture
):
    key, secret = world.keys.create(Wish("acme"), time())
    client = await world.gateway()
    await world.following()
    assert await status(client, secret) == 200
    world.server.command("CLIENT", "KILL", "TYPE", "pubsub")
    world.keys.revoke(key.id, time())
    await until(lambda: world.feed.version == 2)
    assert await status(client, secret) == 401
    await until(lambda: world.feed.subscribed)
    assert "is not pushed at the moment" in caplog.text


async def test_a_gap_and_nonsense_have_everything_read_again(world: Gateways):
    client = await world.gateway()
    _, secret = world.keys.create(Wish("acme"), time())
    await world.following()
    await until(lambda: world.feed.version == 1)
    assert await status(client, secret) == 200
    for message, version in (("9 {}", "9"), ("10 nonsense", "10"), ("nonsense", "11")):
        ring: StoreRing = world.kept(StoreRing)
        assert await status(client, secret) == 200 and ring.good
        world.server.command(
            "EVAL",
            (
                f"redis.call('SELECT', 4) return redis.call('SET', 'gateway:{{keys}}:version', "
                f"{version})"
            ),
            "0",
        )
        world.server.command("PUBLISH", "gateway:{keys}:changes:4", message)
        await until(lambda: world.feed.version == int(version))  # noqa: B023
        assert not ring.good
    assert await status(client, secret) == 200


async def test_a_change_while_the_answer_is_on_its_way(
    world: Gateways, monkeypatch: pytest.MonkeyPatch
):
    """What was read before a revocation is not what holds after it, in whichever order the two
    arrive."""
    key, secret = world.keys.create(Wish("acme"), time())
    client = await world.gateway()
    await world.following()
    command, done = RedisClient.command, []

    def slow(self: RedisClient, *words: bytes) -> Any:
        answer = command(self, *words)
        if words[0] != b"HGET" or done:
            return answer

        async def wait() -> Any:
            found = await answer
            done.append(True)
            world.keys.revoke(key.id, time())
            await until(lambda: world.feed.version == 2)
            return found

        return asyncio.ensure_future(wait())

    monkeypatch.setattr(RedisClient, "command", slow)
    assert await status(client, secret) == 401
    assert done


async def test_while_the_store_is_away_the_known_go_on(
    alone: Gateways, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(key_ring, "TTL", 0.0)
    monkeypatch.setattr(store_ring, "TTL", 0.0)
    monkeypatch.setattr(store_ring, "AGAIN", 0.0)
    _, secret = alone.keys.create(Wish("acme"), time())
    _, other = alone.keys.create(Wish("bert"), time())
    client = await alone.gateway()
    await alone.following()
    assert await status(client, secret) == 200
    alone.server.kill()
    await until(lambda: not alone.kept(RedisClient).up)
    assert [await status(client, secret) for _ in range(3)] == [200] * 3
    for unknown in (other, key_file.with_checksum("bec_" + "0" * 56)):
        reply = await client.get("/", f"X-API-Key: {unknown}")
        assert (reply.status, reply.fields["retry-after"], b"redis" in reply.body) == (
            503,
            "1",
            False,
        )
    assert alone.running.telemetry.auth.get(("api_key", "unavailable")) == 2

    alone.server.start()  # empty: it was never written to disk
    await until(lambda: alone.kept(RedisClient).up and alone.feed.version == 0)
    assert [await status(client, one) for one in (secret, other)] == [401, 401]


async def test_a_key_that_was_revoked_does_not_come_back_with_an_outage(
    alone: Gateways, monkeypatch: pytest.MonkeyPatch
):
    key, secret = alone.keys.create(Wish("acme"), time())
    client = await alone.gateway()
    await alone.following()
    assert await status(client, secret) == 200
    monkeypatch.setattr(redis_feed.Feed, "_heard", lambda feed, message: None)  # nothing is pushed
    alone.keys.revoke(key.id, time())
    ring: StoreRing = alone.kept(StoreRing)
    ring.good.clear()  # as after TTL seconds
    assert await status(client, secret) == 401
    ring._wrong.clear()
    alone.server.kill()
    await until(lambda: not alone.kept(RedisClient).up)
    assert await status(client, secret) == 503


async def test_known_keys_go_on_for_so_long(alone: Gateways, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_ring, "TTL", 0.0)
    _, secret = alone.keys.create(Wish("acme"), time())
    _, ending = alone.keys.create(Wish("acme", expires=time() + 3600), time())
    client = await alone.gateway('stale = "1h"')
    await alone.following()
    assert (await status(client, secret), await status(client, ending)) == (200, 200)
    ring: StoreRing = alone.kept(StoreRing)
    alone.server.kill()
    await until(lambda: not alone.kept(RedisClient).up)
    ring._wall = lambda: time() + 3595
    assert await status(client, secret) == 200
    ring.good.clear()
    ring._wall = lambda: time() + 3605
    assert await status(client, secret) == 503
    ring._confirmed = {
        presented: (key, since + 60) for presented, (key, since) in ring._confirmed.items()
    }
    assert (await status(client, secret), await status(client, ending)) == (200, 401)


async def test_or_nobody_does(alone: Gateways, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redis_feed, "LATE", 0.2)
    monkeypatch.setattr(redis_feed, "EVERY", 0.05)
    monkeypatch.setattr(redis_feed, "SOON", 0.05)
    _, secret = alone.keys.create(Wish("acme"), time())
    client = await alone.gateway('on_store_failure = "closed"')
    await alone.following()
    assert await status(client, secret) == 200
    alone.server.kill()
    await until(lambda: not alone.kept(StoreRing).good)
    assert await status(client, secret) == 503


async def test_a_gateway_starts_without_the_store(alone: Gateways):
    alone.server.kill()
    client = await alone.gateway()
    assert await status(client, "bec_" + "0" * 64) == 503
    alone.server.start()
    await until(lambda: alone.feed.version is not None)
    _, secret = alone.keys.create(Wish("acme"), time())
    await until(lambda: alone.feed.version == 1)
    assert await status(client, secret) == 200


async def test_no_more_are_asked_for_than_can_be(world: Gateways, monkeypatch: pytest.MonkeyPatch):
    _, secret = world.keys.create(Wish("acme"), time())
    monkeypatch.setattr(shared_keys, "MOST_ASKING", 0)
    client = await world.gateway()
    await world.following()
    assert await status(client, secret) == 503


async def test_last_uses_are_written_down(world: Gateways, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_keys, "EVERY", 0.01)
    key, secret = world.keys.create(Wish("acme"), time())
    client = await world.gateway()
    assert await status(client, secret) == 200
    await until(lambda: world.keys.used())
    assert world.keys.used()[key.id] == pytest.approx(time(), abs=10)


async def test_a_key_that_makes_no_sense_is_nobodys(
    world: Gateways, caplog: pytest.LogCaptureFixture
):
    key, secret = world.keys.create(Wish("acme"), time())
    with store_client.connected(parse(world.url)) as plain:
        plain.hset(redis_keys.KEYS, key.digest.hex(), json.dumps({"id": "k"}))
    client = await world.gateway()
    assert await status(client, secret) == 401
    assert "a key cannot be used" in caplog.text


async def test_reloads_keep_what_is_known_and_end_what_is_not_needed(
    world: Gateways, tmp_path: Path
):
    _, secret = world.keys.create(Wish("acme"), time())
    client = await world.gateway()
    await world.following()
    assert await status(client, secret) == 200
    ring, before = world.kept(StoreRing), world.lookups()
    assert (await world.running.runtime.reload()).ok
    assert (
        world.kept(StoreRing) is ring
        and await status(client, secret) == 200
        and world.lookups() == before
    )
    file = tmp_path / "pipelines" / "test.toml"
    file.write_text(file.read_text().replace('request = ["auth"]', "request = []"))
    assert (await world.running.runtime.reload()).ok
    await until(lambda: world.audience() == 0)


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("redis", '"redis" is what [store] url names, and that is no Redis'),
        ("memory://", 'must be "redis", for what [store] url names, or begin with redis://'),
        ("redis://host/one", "must end in the number of a database"),
    ],
)
async def test_stores_that_are_none(start, store: str, said: str):
    from gateway.config.toml.problems import ConfigErrors

    with pytest.raises(ConfigErrors) as caught:
        await start(
            PIPELINE.format(store=store, more=""), '[upstream.origin]\nurl = "http://127.0.0.1:1"\n'
        )
    assert said in str(caught.value.problems[0])


async def test_changes_of_keys_are_audited_by_whoever_hears_of_them(
    world: Gateways, tmp_path: Path
):
    await world.gateway(more="[auth.audit]\nfile = 'audit.log'")
    await world.following()
    key, _ = world.keys.create(Wish("acme"), time())
    new, _, _ = world.keys.rotate(key.id, time(), overlap=60)
    world.keys.revoke(key.id, time())
    await until(lambda: world.feed.version == 3)
    await world.running.close()
    file = tmp_path / "pipelines" / "audit.log"
    await until(lambda: file.read_text().count("\n") == 4)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["event"], line["outcome"], line["key"], line["client"]) for line in lines] == [
        ("key_change", outcome, id, "acme")
        for outcome, id in (
            ("created", key.id),
            ("created", new.id),
            ("rotated", key.id),
            ("revoked", key.id),
        )
    ]
    assert all(line["by"] and line["seen_by"] == f"gateway {os.getpid()}" for line in lines)


@pytest.mark.parametrize("counting", ["exact", "leased"])
async def test_a_key_brings_its_limit(world: Gateways, counting: str, tmp_path: Path):
    """Created while the gateway runs, counted in the shared store, by key."""
    text = PIPELINE.replace('request = ["auth"]', 'request = ["auth", "rate_limit"]')
    table = (
        f'[rate_limit]\nlimit = 50\nwindow = "1h"\nalgorithm = "fixed_window"\nkey_limits = '
        f'true\nmode = "{counting}"\n'
    )
    pipeline = f'name = "{tmp_path.name}"\n{text.format(store="redis", more="")}'.replace(
        "[logging]", f"{table}[logging]"
    )
    upstreams = f'[upstream.origin]\nurl = "{world.origin.url}"\n'
    world.running = await world.start(
        pipeline, upstreams, f'[store]\nurl = "{world.url}"\ndeadline = "1s"\n'
    )
    client = await Client.connect(world.running.port)
    world.clients.append(client)
    await world.following()
    for number in (1, 2):
        _, secret = world.keys.create(Wish("acme", limit="3/1h"), time())
        await until(lambda: world.feed.version == number)  # noqa: B023
        found = [await status(client, secret) for _ in range(6)]
        if counting == "exact":
            assert found == [200] * 3 + [429] * 3
        else:  # a lease may be one request in debt
            assert found[:3] == [200] * 3 and found[-2:] == [429] * 2
    reply = await client.get("/", f"X-API-Key: {secret}")
    assert (
        reply.fields["x-ratelimit-limit"] == "3"
        and reply.fields["ratelimit-policy"] == '"3/1h";q=3;w=3600'
    )
    _, secret = world.keys.create(Wish("acme"), time())
    await until(lambda: world.feed.version == 3)
    assert (await client.get("/", f"X-API-Key: {secret}")).fields["x-ratelimit-limit"] == "50"


@pytest.mark.parametrize("kind", [Cluster, Watched], ids=["cluster", "sentinels"])
async def test_wherever_the_store_is(tmp_path: Path, origin: Origin, kind: Any):
    with kind() as servers:
        write(
            tmp_path,
            PIPELINE.format(store="redis", more=""),
            f'[upstream.origin]\nurl = "{origin.url}"\n',
            f'[store]\nurl = "{servers.url}"\n',
        )
        gateway = Gateway(tmp_path / "gateway.toml", {})
        await gateway.start()
        client = await Client.connect(gateway.port)
        try:
            feed = next(
                one for one in gateway.runtime.registry if isinstance(one, SharedKeys)
            )._feed
            await until(lambda: feed.subscribed and feed.version == 0)
            keys = RedisKeys(parse(servers.url))
            key, secret = keys.create(Wish("acme"), time())
            await until(lambda: feed.version == 1)
            assert await status(client, secret) == 200
            keys.revoke(key.id, time())
            await until(lambda: feed.version == 2)
            assert await status(client, secret) == 401
        finally:
            client.close()
            await gateway.close()
