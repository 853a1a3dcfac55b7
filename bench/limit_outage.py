"""What clients notice while the store of a limit is away: a whole gateway under load, its Redis,
Sentinels or Cluster broken.

    python -m bench.limits outage [killed] [frozen] [slow] [failover] [slot]

A row a case: `slow` takes 200 ms longer, `failover` kills the master that three Sentinels watch,
`slot` moves the slot that all requests count in, back and forth. Nothing may fail with
on_store_failure = "open" or "local_share".
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis.crc import key_slot

from bench.world import quantile
from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin
from tests.process import Process
from tests.redis import Cluster, RedisServer, Slow, Watched

LOAD, BEFORE = 16, 2.0
"""Clients, each with a pause of 10 ms after an answer; seconds before the outage."""
AFTER = {"failover": 6.0}
"""Seconds from the outage on: a failover takes some."""
CASES = ("killed", "frozen", "slow", "failover", "slot")

PIPELINE = """
request = ["rate_limit"]
[rate_limit]
key = "header:X-Client"
mode = "{mode}"
on_store_failure = "{policy}"
limit = 100000000
window = "1h"
algorithm = "fixed_window"
[[route]]
prefix = "/"
upstream = "origin"
"""


async def outage(cases: list[str]) -> None:
    print(
        "| what | mode | on_store_failure | failed | p99 before | p99 in the first second | "
        "p99 "
        "after | without the store |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for what in cases or CASES:
        for mode in ("exact", "leased"):
            for policy in ("local_share", "open"):
                print(await broken(what, mode, policy), flush=True)


@contextmanager
def store(what: str) -> Iterator[tuple[str, int, Callable[[Slow | None], None]]]:
    """URL, port of the server behind a slow way or 0, and what breaks it."""
    with ExitStack() as stack:
        if what == "failover":
            watched = stack.enter_context(Watched())
            yield watched.url, 0, lambda _: watched.master.kill()
        elif what == "slot":
            cluster = stack.enter_context(Cluster())
            slot = key_slot(b"{bench}")

            def move(_: Slow | None) -> None:
                asyncio.get_running_loop().run_in_executor(None, cluster.move, slot)

            yield cluster.url, 0, move
        else:
            server = stack.enter_context(RedisServer())

            def hurt(way: Slow | None) -> None:
                assert way is not None
                if what == "slow":
                    way.delay = 0.1
                else:
                    (server.kill if what == "killed" else server.freeze)()

            yield "redis://127.0.0.1:{}", server.port, hurt
            if what == "frozen":
                server.thaw()


async def broken(what: str, mode: str, policy: str) -> str:
    """One case, as a row."""
    after = AFTER.get(what, 3.0)
    origin = await Origin().start()
    with store(what) as (url, port, hurt), tempfile.TemporaryDirectory() as name:
        way = await Slow(port).start() if port else None
        directory = Path(name)
        gateway_toml = f'[store]\nurl = "{url.format(way.port if way else "")}"\n'
        write(
            directory,
            PIPELINE.format(mode=mode, policy=policy),
            f'[upstream.origin]\nurl = "{origin.url}"\n',
            gateway_toml,
        )
        async with Process(directory / "gateway.toml") as gateway:
            times: list[tuple[float, float, bool]] = []
            stop = asyncio.Event()

            async def client() -> None:
                one = await Client.connect(gateway.port)
                while not stop.is_set():
                    start = time.perf_counter()
                    status = (await one.get("/", "X-Client: bench")).status
                    times.append((start, time.perf_counter() - start, status == 200))
                    await asyncio.sleep(0.01)
                one.close()

            clients = [asyncio.create_task(client()) for _ in range(LOAD)]
            await asyncio.sleep(BEFORE)
            at = time.perf_counter()
            hurt(way)
            await asyncio.sleep(after)
            stop.set()
            await asyncio.gather(*clients)
            fallback = int(
                await gateway.metric("gateway_rate_limit_fallback_total", mode=policy) or 0
            )
        if way is not None:
            await way.stop()
    await origin.stop()

    def p99(first: float, last: float) -> str:
        return f"{quantile([took for start, took, _ in times if first <= start - at < last], 0.99) * 1000:.1f} ms"

    failed = sum(1 for _, _, ok in times if not ok)
    cells = (p99(0.5 - BEFORE, 0), p99(-0.01, 1), p99(1, after))
    return (
        f"| {what} | {mode} | {policy} | {failed} of {len(times)} | {' | '.join(cells)} | "
        f"{fallback} |"
    )
