"""What limits cost and how far they are off: the figures in docs/limits.md. Needs redis-server; two
cores.

python -m bench.limits cost                         CPU of a check: memory, leased, exact, a plain
round trip python -m bench.limits decisions                    decisions and whole checks a second,
beside perf_counter() python -m bench.limits memory                       checks a second with 10^6
keys, their memory, what is left of it python -m bench.limits accuracy [ALGORITHM [MODE]]  admitted
against the bound, by 1, 2 and 4 processes on one Redis python -m bench.limits outage [WHAT ...]
a gateway while Redis is away, fails over, moves a slot python -m bench.limits compare [SECONDS
[ROUNDS]]   CPU of a request beside Envoy's local limit and a round trip
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop
from multidict import CIMultiDict

from bench import limit_accuracy, limit_compare, limit_outage
from gateway.core.clock import REAL, Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed
from gateway.core.hooks import Context
from gateway.core.telemetry import Telemetry
from gateway.limits.algorithms import Limit
from gateway.limits.buckets import Buckets
from gateway.limits.ledger import Ledger
from gateway.limits.redis_ledger import RedisLedger
from gateway.middlewares.rate_limit import CONFIG, build
from gateway.store.stores import SharedStore, parse
from tests.redis import RedisServer

ROUTE = SimpleNamespace(name="r")


def exchange(client: str) -> Exchange:
    """A request of a client's, past authentication."""
    made = Exchange("GET", "/", CIMultiDict(), (), peer="127.0.0.1")
    made.route = ROUTE
    made.identity = Identity(client, "api_key")
    return made


def hook(
    table: dict[str, Any],
    ledger: Ledger | None = None,
    clock: Clock = REAL,
    telemetry: Telemetry | None = None,
    pipeline: str = "bench",
) -> Callable[[Exchange], Awaitable[None] | None]:
    """The request hook of such a table."""
    context = Context(
        "rate_limit", pipeline, clock=clock, ledger=ledger, telemetry=telemetry or Telemetry()
    )
    request: Any = build(CONFIG().load(table), context).request
    return request  # type: ignore[no-any-return]


# Cost.

CHECKS = 20_000
AT_ONCE = 64
WIDE = {"limit": 10**9, "window": "1h", "algorithm": "fixed_window"}


async def spent(ask: Callable[[Exchange], Awaitable[None] | None], clients: int = 1000) -> float:
    """CPU microseconds of this process for a check, AT_ONCE at a time where they wait, less what
    the harness needs."""

    async def worker(count: int, real: bool) -> None:
        for number in range(count):
            made = exchange(names[number % clients])
            rest = ask(made) if real else None
            if rest is not None:
                await rest

    names = [f"client-{number}" for number in range(clients)]
    figures = []
    for real in (False, True, False, True, True):
        await asyncio.gather(*(worker(CHECKS // AT_ONCE // 4, real) for _ in range(AT_ONCE)))
        start = time.process_time()
        await asyncio.gather(*(worker(CHECKS // AT_ONCE, real) for _ in range(AT_ONCE)))
        figures.append((real, (time.process_time() - start) / CHECKS * 1e6))
    return min(cost for real, cost in figures if real) - min(
        cost for real, cost in figures if not real
    )


async def cost() -> None:
    from redis.asyncio import Redis

    with RedisServer() as server:
        store = RedisLedger(SharedStore(parse(server.url), 1.0), REAL, Telemetry())
        client = Redis(port=server.port)

        async def plain(made: Exchange) -> None:
            async with client.pipeline(transaction=False) as pipe:
                await pipe.incr(made.identity.client).expire(made.identity.client, 60).execute()  # type: ignore[union-attr]

        rules = [{"name": name, "key": "client", **WIDE} for name in ("second", "third")]
        rows: list[tuple[str, Callable[[Exchange], Awaitable[None] | None]]] = [
            ("memory, one limit", hook(WIDE)),
            ("memory, three rules", hook({**WIDE, "rules": rules})),
            ("leased, one limit", hook({**WIDE, "mode": "leased"}, store)),
            ("exact, one limit", hook(WIDE, store)),
            ("exact, three rules in one script", hook({**WIDE, "rules": rules}, store)),
            ("redis-py, INCR and EXPIRE in a pipeline", plain),
        ]
        print("| a check, 64 at a time | CPU us |\n|---|---|")
        for name, ask in rows:
            print(f"| {name} | {await spent(ask):.1f} |", flush=True)
        store.close()
        await client.aclose()


# Decisions.


async def decisions() -> None:
    """A decision is the algorithm's function and putting its state back; a check is the whole hook,
    headers included."""
    turns = 200_000
    table: dict[str, float] = {"perf_counter()": 0.0}
    now = time.monotonic
    for name in ("token_bucket", "sliding_window", "sliding_log", "fixed_window"):
        buckets = Buckets(name, Limit.windowed(10**9 if name != "sliding_log" else 1000, 3600.0))
        live, take, limit = buckets.live, buckets.take, buckets.limit
        ask = hook({"algorithm": name, "limit": 10**5, "window": "1h"})
        made = exchange("a")
        best = [float("inf")] * 3
        for _ in range(12):
            live["a"] = buckets.algorithm.fresh
            start = time.perf_counter()
            for _ in range(turns // 20):
                time.perf_counter()
            clock = time.perf_counter()
            for _ in range(turns // 20):
                live["a"], _, _ = take(live["a"], limit, now())
            decided = time.perf_counter()
            for _ in range(turns // 20):
                made.reply_blocks = None
                made.notes.clear()
                try:
                    ask(made)
                except Failed:
                    pass
            checked = time.perf_counter()
            found = (clock - start, decided - clock, checked - decided)
            best = [min(pair) for pair in zip(best, found, strict=True)]
        per = [one / (turns // 20) * 1e9 for one in best]
        if not table["perf_counter()"]:
            table["perf_counter()"] = per[0]
            print("| what | ns | a second | of perf_counter() |\n|---|---|---|---|")
            print(f"| perf_counter() | {per[0]:.0f} | {1e9 / per[0]:,.0f} | 1 |")
        for what, cost in (("decision", per[1]), ("check", per[2])):
            print(
                f"| {name}, {what} | {cost:.0f} | {1e9 / cost:,.0f} | {cost / per[0]:.1f} |",
                flush=True,
            )


# Memory.

KEYS = 1_000_000


def resident() -> float:
    """Of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def memory() -> None:
    print(
        "| algorithm | checks/s with 10^6 keys | MiB for them | RSS before | two minutes "
        "later | "
        "more |"
    )
    print("|---|---|---|---|---|---|")
    for algorithm in ("token_bucket", "sliding_window", "fixed_window", "sliding_log", "quota"):
        out = subprocess.run(
            [sys.executable, "-m", "bench.limits", "keys", algorithm],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        print(out, end="", flush=True)


def keys(algorithm: str) -> None:
    import gateway.app  # noqa: F401  RSS is that of a process that could be a gateway

    now = [1000.0]
    limit = {"period": "hour"} if algorithm == "quota" else {"window": 60}
    ask = hook(
        {"key": "ip", "algorithm": algorithm, "limit": 100, "max_keys": 2 * KEYS, **limit},
        clock=Clock(lambda: now[0], lambda: now[0]),
    )
    made = exchange("")

    def come(address: str) -> None:
        made.client_ip, made.reply_blocks = address, None
        made.notes.clear()
        try:
            ask(made)
        except Failed:
            pass

    def address(number: int) -> str:
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"

    come("192.0.2.1")
    gc.collect()
    before = resident()
    for number in range(KEYS):  # within one window
        now[0] += 50 / KEYS
        come(address(number))
    full = resident()
    some = [address(number) for number in range(0, KEYS, 5)]
    start = time.process_time()
    for one in some:
        come(one)
    rate = KEYS / 5 / (time.process_time() - start)
    del some, one
    # The window is over for all of them; one caller goes on, every 50 ms, and forgetting does with
    # it.
    now[0] += 3600 if algorithm == "quota" else 120 if algorithm == "sliding_window" else 60
    for _ in range(2400):
        now[0] += 0.05
        come("192.0.2.1")
    after = resident()
    print(
        f"| {algorithm} | {rate:,.0f} | {full - before:.0f} | {before:.0f} | {after:.0f} | "
        f"{(after / before - 1) * 100:.0f} % |"
    )


def main() -> None:
    command, *words = sys.argv[1:] or ["help"]
    if command == "worker":
        url, table, gateways, seed = words
        uvloop.run(
            limit_accuracy.work(url, json.loads(table), int(gateways), int(seed), hook, exchange)
        )
    elif command == "keys":
        keys(*words)
    elif command == "accuracy":
        uvloop.run(
            limit_accuracy.accuracy(
                words[:1] or list(limit_accuracy.ALGORITHMS), words[1:] or ["exact", "leased"]
            )
        )
    elif command == "outage":
        uvloop.run(limit_outage.outage(words))
    elif command == "compare":
        limit_compare.compare(words)
    elif command in ("cost", "memory", "decisions"):
        uvloop.run({"cost": cost, "memory": memory, "decisions": decisions}[command]())
    else:
        print(__doc__)


if __name__ == "__main__":
    main()
