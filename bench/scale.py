#!/usr/bin/env python3
"""What grows with size, and how: matching routes, picking endpoints, checking limits.

    .venv/bin/python bench/scale.py

Nanoseconds, the best of several runs, beside what `time.perf_counter()` costs on the same machine
at the same moment.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from multidict import CIMultiDict

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.exchange import Exchange
from gateway.limits.algorithms import ALGORITHMS, Limit
from gateway.limits.buckets import Buckets
from gateway.routing.router import Router
from gateway.upstream.pool.pool import Pool


def nanoseconds(function: Callable[[], Any], count: int = 20_000, runs: int = 7) -> float:
    """One call's cost, the best of `runs`."""
    best = float("inf")
    for _ in range(runs):
        began = time.perf_counter()
        for _ in range(count):
            function()
        best = min(best, (time.perf_counter() - began) / count * 1e9)
    return best


def exchange(path: str) -> Exchange:
    return Exchange("GET", path, CIMultiDict({"Host": "a"}), (), host="a")


def routes() -> list[tuple[str, float]]:
    rows = []
    for count in (10, 100, 1000):
        entries = [(RouteConfig(name=f"e{i}", path=f"/exact/{i}"), i) for i in range(count // 3)]
        entries += [
            (RouteConfig(name=f"p{i}", prefix=f"/api/v1/service-{i}"), i) for i in range(count // 3)
        ]
        entries += [
            (RouteConfig(name=f"t{i}", path=f"/things-{i}/{{id}}"), i)
            for i in range(count - 2 * (count // 3))
        ]
        router = Router(entries, RoutingConfig())
        last = count // 3 - 1
        for kind, path in (
            ("exact", f"/exact/{last}"),
            ("prefix", f"/api/v1/service-{last}/x"),
            ("template", f"/things-{last}/7"),
        ):
            one = exchange(path)
            rows.append(
                (
                    f"match an {kind} route of {count}".replace("an p", "a p").replace(
                        "an t", "a t"
                    ),
                    _match(router, one),
                )
            )
    return rows


def _match(router: Router[int], one: Exchange) -> float:
    # Not `match`, which remembers the routes of the last paths.
    return nanoseconds(lambda: router._look_up(one, one.path))


def picks() -> list[tuple[str, float]]:
    rows = []
    for count in (2, 20, 200):
        endpoints = tuple(
            EndpointConfig(f"http://127.0.0.1:{3000 + i}", weight=1 + i % 3) for i in range(count)
        )
        pool = Pool("u", UpstreamConfig(endpoints=endpoints))
        pool.reconfigure(pool.config)
        for i in range(count * 4):
            pool.pick(str(i))
        rows.append((f"pick and release one of {count} busy endpoints", _pick(pool)))
    return rows


def _pick(pool: Pool) -> float:
    return nanoseconds(lambda: pool.release(pool.pick("a"), True))


def limits() -> list[tuple[str, float]]:
    rows = []
    take = ALGORITHMS["token_bucket"].take
    limit = Limit.refilled(1000, 100)
    for count in (1, 10_000, 1_000_000):
        gc.collect()
        tracemalloc.start()
        buckets = Buckets("token_bucket", limit)
        now = time.monotonic()
        for i in range(count):
            key = f"client-{i}"
            buckets.live[key] = take(buckets.open(key, now, 2_000_000), limit, now)[0]
        size = tracemalloc.get_traced_memory()[0] / count
        tracemalloc.stop()
        keys = [f"client-{i * 7919 % count}" for i in range(1000)]
        position = 0

        def check(buckets: Buckets = buckets, keys: list[str] = keys) -> None:
            nonlocal position
            position = (position + 1) % 1000
            key = keys[position]
            buckets.live[key] = take(buckets.live[key], limit, time.monotonic())[0]

        rows.append(
            (f"check a limit with {count} keys ({size:.0f} bytes a key)", nanoseconds(check))
        )
        del buckets
    return rows


def table() -> list[tuple[str, float]]:
    """Every row: what, and its nanoseconds."""
    return [
        ("time.perf_counter(), for scale", nanoseconds(time.perf_counter)),
        *routes(),
        *picks(),
        *limits(),
    ]


if __name__ == "__main__":
    for what, cost in table():
        print(f"{what:55} {cost:8.0f} ns")
