"""Limits in a Redis that Sentinels watch, and in a Cluster: failovers and moved slots lose no
request."""

from __future__ import annotations

import asyncio
from collections import Counter

from redis.crc import key_slot

from tests.flow.test_limits_redis import Run, run
from tests.redis import Cluster, Watched

__all__ = ["run"]

TABLE = 'key = "header:X-Key"\nlimit = 5\nwindow = "1h"\nalgorithm = "fixed_window"'


async def test_a_failover(run: Run):
    with Watched() as watched:
        (one,) = await run(watched.url, f'{TABLE}\non_store_failure = "open"')
        assert await one.ask(6) == {200: 5, 429: 1}
        watched.master.command("WAIT", "1", "1000")
        watched.master.kill()
        await one.store_is(up=False)
        assert await one.ask(3) == {200: 3}
        await one.store_is(up=True)
        # What the replica had been told counts on.
        assert await one.ask(2) == {429: 2}


async def test_a_cluster_counts_everybody_and_every_rule(run: Run):
    with Cluster() as cluster:
        table = f"""{TABLE}
        rules = [{{ name = "all", key = "global", limit = 50, window = "1h", algorithm = "fixed_window" }}]"""
        one, two = await run(cluster.url, table, 2)
        found: Counter[int] = Counter()
        for number in range(12):
            for asker in (one, two):
                found[(await asker.client.get("/", f"X-Key: {number}")).status] += 1
                found[(await asker.client.get("/", f"X-Key: {number}")).status] += 1
        assert found == {200: 48}
        assert await one.ask(4) == {200: 2, 429: 2}


async def test_a_moved_slot_and_a_dead_node(run: Run):
    with Cluster() as cluster:
        (one,) = await run(cluster.url, f'{TABLE}\non_store_failure = "open"')

        async def ask(key: str) -> int:
            return (await one.client.get("/", f"X-Key: {key}")).status

        assert [await ask("7") for _ in range(3)] == [200] * 3
        await asyncio.to_thread(cluster.move, key_slot(b"{7}"))
        await asyncio.to_thread(cluster.agree)
        assert [await ask("7") for _ in range(3)] == [200, 200, 429]
        dead = cluster.servers[0]
        dead.kill()
        found = Counter([await ask(str(number)) for number in range(60) for _ in range(2)])
        assert found.keys() <= {200, 429} and found[200] > 0
