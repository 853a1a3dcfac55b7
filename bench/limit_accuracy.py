"""How far limits are off: what processes on one Redis, or workers of one supervisor, admit
together, beside the bound that docs/limits.md states.

    python -m bench.limits accuracy [ALGORITHM [MODE]]

Four callers come to every process at the same time: steady, in bursts, all at once in every
process, and, by a limit of a window of EDGE seconds, just before and after its edges. For the first
three the window is longer than the run, so that what is admitted is a plain number beside the
limit. For the last it is the most admitted within any EDGE seconds, beside what the algorithm
allows there by its definition; an admission counts where it lay in the window from its request to
its answer, so clocks need not agree. A row in which the store was away is played again: that is
what the outages are for.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.core.clock import REAL
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.core.telemetry import Telemetry
from gateway.lifetime.channel import Channel, pair
from gateway.lifetime.registry import Registry
from gateway.limits.local_ledger import LocalLedger
from gateway.limits.redis_ledger import RedisLedger
from gateway.store.local import LocalStore
from gateway.store.stores import SharedStore, parse
from gateway.supervisor.keeper import Keeper
from tests.redis import RedisServer

QUOTA, RUN, SHARE = 200, 1.0, 0.1
WORKER = "channel:"
"""How the name of a store begins that is a descriptor: a worker's channel to its supervisor."""
LONG, EDGE = 3600.0, 1.5
"""Windows, in seconds."""
ALGORITHMS = {"token_bucket": 2, "sliding_window": 2, "sliding_log": 1, "fixed_window": 2}
"""How many times the limit any window may admit: tokens and what is refilled meanwhile; the edges
of two windows."""
KINDS = ("steady", "bursty", "at once", "edges")

Ask = Callable[[Exchange], Awaitable[None] | None]


def arrivals(kind: str, gateways: int, seed: int) -> list[float]:
    """When one of `gateways` processes gets its requests, in seconds from the start."""
    source = random.Random(seed)
    if kind == "steady":
        return [RUN * number * gateways / (3 * QUOTA) for number in range(3 * QUOTA // gateways)]
    if kind == "bursty":
        starts = sorted(source.uniform(0, RUN) for _ in range(8))
        return [
            start + number * 1e-4
            for start in starts
            for number in range(QUOTA // 2 // gateways + 1)
        ]
    burst = range(3 * QUOTA // 2 // gateways)
    if kind == "at once":  # everywhere, and again when what was on credit may have come back
        return [at for at in (0.0, RUN) for _ in burst]
    # One opens the window; the others come 40 ms before its end, 40 ms after it, and likewise at
    # the next one.
    edges = [EDGE - 0.04, EDGE + 0.04, 2 * EDGE - 0.04, 2 * EDGE + 0.04]
    return [0.0, *(at for at in edges for _ in burst)]


async def work(
    url: str,
    table: dict[str, Any],
    gateways: int,
    seed: int,
    hook: Callable[..., Any],
    exchange: Any,
) -> None:
    """One process: says that it is ready, is told when to start, and prints what was admitted
    when."""
    telemetry = Telemetry()
    store: RedisLedger | LocalLedger | None = None
    close: Callable[[], object] = bool
    if url.startswith(WORKER):
        channel = Channel(socket.socket(fileno=int(url.removeprefix(WORKER))))
        channel.start(lambda: None)
        store, close = LocalLedger(LocalStore(channel), gateways), channel.close
    elif url != "memory":
        store = RedisLedger(SharedStore(parse(url), 1.0), REAL, telemetry)
        close = store.close
    asks: dict[float, Ask] = {
        window: hook({**table, "window": window}, store, telemetry=telemetry, pipeline=f"{window}")
        for window in (LONG, EDGE)
    }
    admitted: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for ask in asks.values():
        if (rest := ask(exchange("warm"))) is not None:
            await rest
    while store is not None and store.gateways < gateways:
        await asyncio.sleep(0.02)
    print("ready", flush=True)
    start = float(await asyncio.to_thread(sys.stdin.readline))

    async def one(kind: str, due: float) -> None:
        await asyncio.sleep(max(0.0, start + due - time.time()))
        sent = time.time()
        try:
            if (rest := asks[EDGE if kind == "edges" else LONG](exchange(kind))) is not None:
                await rest
            admitted[kind].append((sent, time.time()))
        except Failed:
            pass

    await asyncio.gather(
        *(one(kind, due) for kind in KINDS for due in arrivals(kind, gateways, seed))
    )
    fallbacks = sum(telemetry.rate_fallback.values.values())
    close()
    print(json.dumps([fallbacks, admitted]))


def most_within(admitted: list[tuple[float, float]], window: float) -> int:
    """The most that were certainly admitted within `window` seconds."""
    ends = sorted((sent, got) for sent, got in admitted)
    return max(
        sum(1 for sent, got in ends[first:] if got < ends[first][0] + window)
        for first in range(len(ends))
    )


async def played(
    url: str, table: dict[str, Any], gateways: int
) -> dict[str, list[tuple[float, float]]] | None:
    """What all processes admitted; None when the store was away. url: of a Redis, "memory" for one
    process by itself, "supervisor" for workers of this one."""
    command, keeper = [sys.executable, "-m", "bench.limits", "worker"], Keeper(Registry())
    processes = []
    for seed in range(gateways):
        where, end = url, None
        if url == "supervisor":
            ours, end = pair()
            channel = Channel(ours)
            keeper.serve(channel, seed)
            channel.start(lambda: None)
            where = f"{WORKER}{end.fileno()}"
        words = (where, json.dumps(table), str(gateways), str(seed))
        processes.append(
            await asyncio.create_subprocess_exec(
                *command,
                *words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=() if end is None else (end.fileno(),),
            )
        )
        if end is not None:
            end.close()
    for process in processes:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 20)
    start = f"{time.time() + 0.2!r}\n".encode()
    told = [
        json.loads(out)
        for out, _ in await asyncio.gather(*(process.communicate(start) for process in processes))
    ]
    if any(fallbacks for fallbacks, _ in told):
        return None
    return {kind: [tuple(one) for _, admitted in told for one in admitted[kind]] for kind in KINDS}  # type: ignore[misc]


def row(
    algorithm: str,
    store: str,
    mode: str,
    gateways: int,
    found: dict[str, list[tuple[float, float]]],
) -> str:
    most = gateways * max(1.0, QUOTA * SHARE / 2 // gateways) if mode == "leased" else 0.0
    cells = []
    for kind in KINDS[:3]:
        count = len(found[kind])
        cells.append(f"+{count - QUOTA}" if count >= QUOTA else f"-{QUOTA - count}")
    law = ALGORITHMS[algorithm] * QUOTA
    cells.append(f"{most_within(found['edges'], EDGE)} of {law:.0f} + {2 * most:.0f}")
    bounds = f"+{2 * most:.0f} | -{most:.0f}"
    return f"| {algorithm} | {store} | {mode} | {gateways} | {bounds} | {' | '.join(cells)} |"


async def accuracy(algorithms: list[str], modes: list[str]) -> None:
    print(
        "| algorithm | store | mode | processes | over: bound | under: bound | steady | "
        "bursts | "
        "all at once | at the edges |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with RedisServer() as server:
        for algorithm in algorithms:
            cases = [
                ("memory", "exact", 1),
                *(("Redis", mode, count) for mode in modes for count in (1, 2, 4)),
                *(("supervisor", mode, count) for mode in modes for count in (2, 4)),
            ]
            for store, mode, gateways in cases:
                if (algorithm, mode) == ("sliding_log", "leased"):
                    continue
                table = {"limit": QUOTA, "algorithm": algorithm, "mode": mode, "lease": SHARE}
                for _ in range(3):
                    server.command("FLUSHALL")
                    found = await played(server.url if store == "Redis" else store, table, gateways)
                    if found is not None:
                        break
                print(
                    "the store was away three times"
                    if found is None
                    else row(algorithm, store, mode, gateways, found),
                    flush=True,
                )
