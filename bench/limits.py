"""What limits cost and how far they are off: the figures in docs/limits.md. Needs redis-server; two cores.

python -m bench.limits cost         CPU of a check: memory, leased, exact, and a plain round trip through redis-py
python -m bench.limits accuracy     admitted against the bound: algorithm, mode, arrivals, 1, 2 and 4 processes on one Redis
python -m bench.limits memory       checks a second with 10^6 keys, their memory, and what is left of it later
python -m bench.limits outage       requests through a whole gateway while Redis is killed, frozen, slow
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop
from multidict import CIMultiDict

from gateway.core.clock import REAL, Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed
from gateway.core.hooks import Context
from gateway.core.telemetry import Telemetry
from gateway.middlewares.rate_limit import CONFIG, build
from gateway.state.stores import Store, open_store
from tests.client import Client
from tests.origin import Origin
from tests.process import Process
from tests.redis import RedisServer, Slow

ROUTE = SimpleNamespace(name="r")


def exchange(client: str) -> Exchange:
    """A request of a client's, past authentication."""
    made = Exchange("GET", "/", CIMultiDict(), (), peer="127.0.0.1")
    made.route = ROUTE
    made.identity = Identity(client, "api_key")
    return made


def hook(table: dict[str, Any], store: Store | None = None, clock: Clock = REAL) -> Callable[[Exchange], Awaitable[None] | None]:
    """The request hook of such a table."""
    request: Any = build(CONFIG().load(table), Context("rate_limit", "bench", clock=clock, store=store)).request
    return request  # type: ignore[no-any-return]


# Cost.

CHECKS = 20_000
AT_ONCE = 64
WIDE = {"limit": 10**9, "window": "1h", "algorithm": "fixed_window"}


async def spent(ask: Callable[[Exchange], Awaitable[None] | None], clients: int = 1000) -> float:
    """CPU microseconds of this process for a check, AT_ONCE at a time where they wait, less what the harness needs."""

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
    return min(cost for real, cost in figures if real) - min(cost for real, cost in figures if not real)


async def cost() -> None:
    from redis.asyncio import Redis

    with RedisServer() as server:
        store = open_store(server.url, 1.0, REAL, Telemetry())
        assert store is not None
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


# Accuracy.

QUOTA, WINDOW, RUN, SHARE = 200, 3600.0, 1.0, 0.1
"""A window much longer than a run, so that what is admitted in a run is a plain number beside the limit."""


def arrivals(kind: str, gateways: int, seed: int) -> list[float]:
    """When one of `gateways` processes gets its requests, in seconds from the start."""
    source = random.Random(seed)
    if kind == "steady":
        return [RUN * number * gateways / (3 * QUOTA) for number in range(3 * QUOTA // gateways)]
    if kind == "bursty":
        starts = sorted(source.uniform(0, RUN) for _ in range(8))
        return [start + number * 1e-4 for start in starts for number in range(QUOTA // 2 // gateways + 1)]
    # All at once, everywhere, and again when what was on credit may have come back.
    return [at for at in (0.0, RUN) for _ in range(2 * QUOTA // gateways)]


async def worker(url: str, table: dict[str, Any], kind: str, gateways: int, seed: int, start: float) -> None:
    """One process: prints how many requests were admitted."""
    store = open_store(url, 1.0, REAL, Telemetry())
    assert store is not None
    ask = hook(table, store)
    admitted = 0
    warm = exchange("warm")
    rest = ask(warm)
    if rest is not None:
        await rest

    while store.gateways < gateways and time.time() < start:
        await asyncio.sleep(0.02)

    async def one(due: float) -> None:
        nonlocal admitted
        await asyncio.sleep(max(0.0, start + due - time.time()))
        try:
            rest = ask(exchange("acme"))
            if rest is not None:
                await rest
            admitted += 1
        except Failed:
            pass

    await asyncio.gather(*(one(due) for due in arrivals(kind, gateways, seed)))
    store.close()
    print(admitted)


async def accuracy() -> None:
    print(f"| algorithm | mode | processes | over {QUOTA}: bound | worst | under: bound | worst |")
    print("|---|---|---|---|---|---|---|")
    with RedisServer() as server:
        for algorithm in ("token_bucket", "sliding_window", "sliding_log", "fixed_window"):
            for mode in ("exact", "leased"):
                if (algorithm, mode) == ("sliding_log", "leased"):
                    continue
                for gateways in (1, 2, 4):
                    await row(server, algorithm, mode, gateways)


async def row(server: RedisServer, algorithm: str, mode: str, gateways: int) -> None:
    counts = []
    for kind in ("steady", "bursty", "at once"):
        server.command("FLUSHALL")
        table = {"limit": QUOTA, "window": WINDOW, "algorithm": algorithm, "mode": mode, "lease": SHARE}
        start = time.time() + 2 + gateways / 2
        command = [sys.executable, "-m", "bench.limits", "worker", server.url, json.dumps(table), kind, str(gateways)]
        processes = [
            await asyncio.create_subprocess_exec(*command, str(seed), repr(start), stdout=subprocess.PIPE)
            for seed in range(gateways)
        ]
        counts.append(sum([int((await process.communicate())[0]) for process in processes]))
    most = 0.0 if mode == "exact" else gateways * max(1.0, QUOTA * SHARE / 2 // gateways)
    over, under = max(0, max(counts) - QUOTA), max(0, QUOTA - min(counts))
    print(f"| {algorithm} | {mode} | {gateways} | {2 * most:.0f} | {over} | {most:.0f} | {under} |", flush=True)


# Memory.

KEYS = 1_000_000


def resident() -> float:
    """Of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def memory() -> None:
    print("| algorithm | checks/s with 10^6 keys | MiB for them | RSS before | a minute after the window | more |")
    print("|---|---|---|---|---|---|")
    for algorithm in ("token_bucket", "sliding_window", "fixed_window", "sliding_log", "quota"):
        out = subprocess.run(
            [sys.executable, "-m", "bench.limits", "keys", algorithm], capture_output=True, text=True, check=True
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
    # The window is over for all of them; one caller goes on, every 50 ms, and forgetting does with it.
    now[0] += 3600 if algorithm == "quota" else 120 if algorithm == "sliding_window" else 60
    for _ in range(1200):
        now[0] += 0.05
        come("192.0.2.1")
    after = resident()
    print(
        f"| {algorithm} | {rate:,.0f} | {full - before:.0f} | {before:.0f} | {after:.0f} | {(after / before - 1) * 100:.0f} % |"
    )


# Outages.

LOAD, BEFORE, AFTER = 16, 2.0, 3.0


async def outage() -> None:
    print("| what | mode | on_store_failure | failed | p99 before | p99 in the first second | p99 after |")
    print("|---|---|---|---|---|---|---|")
    for what in ("killed", "frozen", "200 ms slow"):
        for mode in ("exact", "leased"):
            for policy in ("local_share", "open"):
                await broken(what, mode, policy)


async def broken(what: str, mode: str, policy: str) -> None:
    origin = await Origin().start()
    with RedisServer() as server, tempfile.TemporaryDirectory() as name:
        way = await Slow(server.port).start()
        directory = Path(name)
        (directory / "pipelines").mkdir()
        (directory / "gateway.toml").write_text(
            f'[listen]\nport = 0\n[admin]\nport = 0\n[store]\nurl = "redis://127.0.0.1:{way.port}"\n'
        )
        (directory / "upstreams.toml").write_text(f'[upstream.origin]\nurl = "{origin.url}"\n')
        (directory / "pipelines" / "bench.toml").write_text(
            f'request = ["rate_limit"]\n[rate_limit]\nkey = "ip"\nmode = "{mode}"\non_store_failure = "{policy}"\n'
            'limit = 100000000\nwindow = "1h"\nalgorithm = "fixed_window"\n[[route]]\nprefix = "/"\nupstream = "origin"\n'
        )
        async with Process(directory / "gateway.toml") as gateway:
            times: list[tuple[float, float]] = []
            failed = 0
            stop = False

            async def client() -> None:
                nonlocal failed
                one = await Client.connect(gateway.port)
                while not stop:
                    start = time.perf_counter()
                    failed += (await one.get("/")).status != 200
                    times.append((start, time.perf_counter() - start))
                    await asyncio.sleep(0.01)
                one.close()

            clients = [asyncio.create_task(client()) for _ in range(LOAD)]
            await asyncio.sleep(BEFORE)
            at = time.perf_counter()
            if what == "killed":
                server.kill()
            elif what == "frozen":
                server.freeze()
            else:
                way.delay = 0.1
            await asyncio.sleep(AFTER)
            stop = True
            await asyncio.gather(*clients)
        if what == "frozen":
            server.thaw()
        await way.stop()
    await origin.stop()

    def p99(first: float, last: float) -> str:
        found = sorted(took for start, took in times if first <= start - at < last)
        return f"{found[int(len(found) * 0.99)] * 1000:.1f} ms"

    cells = (p99(-1.5, 0), p99(-0.01, 1), p99(1, AFTER))
    print(f"| {what} | {mode} | {policy} | {failed} of {len(times)} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    command, *words = sys.argv[1:] or ["help"]
    if command == "worker":
        url, table, kind, gateways, seed, start = words
        uvloop.run(worker(url, json.loads(table), kind, int(gateways), int(seed), float(start)))
    elif command == "keys":
        keys(*words)
    elif command in ("cost", "accuracy", "memory", "outage"):
        uvloop.run({"cost": cost, "accuracy": accuracy, "memory": memory, "outage": outage}[command]())
    else:
        print(__doc__)


if __name__ == "__main__":
    main()
