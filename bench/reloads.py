"""The longest time that a reload keeps the event loop from other work. No peers needed.

python -m bench.reloads [ROUTES]      routes with limits of their own, which every reload changes;
2,000 when left out

CPU is what the loop's thread used between two turns, and does not depend on what else the machine
does. Wall time includes waiting for the thread that reads the files (Python's lock is handed over
every 5 ms) and for other processes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from gateway.lifetime.heap import settle_process
from gateway.runtime.reload import Runtime
from gateway.runtime.services import Services
from gateway.upstream.connections.transport import Transport

RELOADS = 5


def write(directory: Path, routes: int, limit: int) -> Path:
    (directory / "pipelines").mkdir(exist_ok=True)
    (directory / "gateway.toml").write_text("")
    (directory / "upstreams.toml").write_text('[upstream.origin]\nurl = "http://127.0.0.1:9"\n')
    tables = "".join(
        f'[[route]]\nname = "r{number}"\npath = "/v{number % 7}/things{number}/{{id}}"\n'
        f'upstream = "origin"\nrate_limit = {{ limit = {limit} }}\n'
        for number in range(routes)
    )
    shared = 'request = ["rate_limit"]\n[rate_limit]\nkey = "ip"\nlimit = 100\nwindow = "1m"\n'
    (directory / "pipelines" / "all.toml").write_text(shared + tables)
    return directory / "gateway.toml"


class Stands:
    """Takes a turn of the loop whenever it can, and notes the longest time between two."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.turns = 0

    async def watch(self) -> None:
        while True:
            cpu, wall = time.thread_time(), time.perf_counter()
            await asyncio.sleep(0)
            self.cpu = max(self.cpu, time.thread_time() - cpu)
            self.wall = max(self.wall, time.perf_counter() - wall)
            self.turns += 1


async def measure(directory: Path, routes: int) -> None:
    runtime = Runtime(write(directory, routes, 1), Services(Transport()), {})
    await runtime.start()
    settle_process()
    print(f"{routes} routes; a reload each line")
    for number in range(RELOADS):
        write(directory, routes, number + 2)
        stands = Stands()
        watching = asyncio.create_task(stands.watch())
        began = time.perf_counter()
        outcome = await runtime.reload()
        seconds = time.perf_counter() - began
        watching.cancel()
        assert outcome.ok and len(outcome.changes) == routes
        print(
            f"{seconds:5.2f} s in all; longest stand {1000 * stands.cpu:5.1f} ms of CPU, "
            f"{1000 * stands.wall:5.1f} ms of wall time; {stands.turns} turns"
        )
    runtime.stop()


def main() -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory), int(sys.argv[1]) if sys.argv[1:] else 2000))


if __name__ == "__main__":
    main()
