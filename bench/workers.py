"""Several workers: spread, restarts, reloads and upgrades under load, cost, idle connections.

    python -m bench.workers spread|killed|reloads|idle|cpu [--workers N]

wrk is needed for cpu and idle, which asks Envoy too where it is installed. All ports are free ones. Each prints what it found and returns whether
the line that docs/workers.md promises held. `cpu` means little while something else keeps the
machine busy: the figures of one and of several workers alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from bench.compare import cpu_seconds, found, stop, wait_port
from bench.world import Drive, free_ports
from tests.flow.conftest import write
from tests.process import Process

ROUTE = """response = ["metrics"]
error = ["metrics"]
[[route]]
name = "fixed"
prefix = "/"
respond = { status = 200, json = { ok = true } }
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def configured(directory: Path, workers: int, more: str = "") -> Path:
    write(directory, ROUTE, "", f"[server]\nworkers = {workers}\nmax_connections = 0\n{more}")
    return directory / "gateway.toml"


async def status(gateway: Process) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        url = f"http://127.0.0.1:{gateway.admin_port}/admin/status"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    return await asyncio.to_thread(ask)


async def opened(port: int, count: int, at_once: int = 500) -> list[Any]:
    """Connections that have each had one answer."""
    places = asyncio.Semaphore(at_once)

    async def one() -> Any:
        async with places:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            await reader.readuntil(b"}")
            return reader, writer

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def spread(directory: Path, workers: int) -> bool:
    """Shares of kept connections that come at once, ten bursts of each size."""
    held = True
    async with Process(configured(directory, workers)) as gateway:
        for size in (4, 8, 64, 1000):
            worst = 0.0
            for _ in range(10):
                connections = await opened(gateway.port, size, at_once=size)
                found = [one["connections"] for one in (await status(gateway))["workers"]]
                worst = max(worst, max(found) / sum(found))
                for _, writer in connections:
                    writer.close()
                while (await status(gateway))["connections"]:
                    await asyncio.sleep(0.05)
            print(f"{size:5} at once: the larger share {worst:.3f} at worst of 10", flush=True)
            held &= worst <= 0.55 * 2 / workers
    return held


async def killed(directory: Path, workers: int) -> bool:
    """SIGKILL of a worker, 10 times, under 64 connections: what fails, and when it serves again."""
    async with Process(configured(directory, workers)) as gateway:
        shown, fell = 0.0, False
        times, failed, own = [], [], []
        async with Drive(gateway.port, 64, pause=0.005) as load:
            await asyncio.sleep(1)
            for number in range(10):
                victim = (await status(gateway))["workers"][number % workers]
                since, after = time.perf_counter(), len(gateway.lines)
                os.kill(victim["pid"], signal.SIGKILL)
                await gateway.logged(rf"worker {victim['worker']} serves, pid", after)
                times.append(time.perf_counter() - since)
                await asyncio.sleep(1.2)
                failed.append(sum(not one.status for one in load.since(since)))
                own.append(victim["connections"])
                now = await gateway.metric("gateway_requests_total") or 0
                fell |= now < shown
                shown = now
        asked = len(load.gets)
    print(f"{asked} requests; serves again after {[round(one * 1000) for one in times]} ms")
    print(f"failed at each kill {failed}, of connections of that worker {own}")
    print(f"metrics fell: {fell}; counted {shown:.0f}")
    return max(times) < 0.15 and not fell and all(x <= y for x, y in zip(failed, own, strict=True))


def memory(pid: int) -> int:
    """KiB that the processes have together, shared pages once (PSS)."""
    found = 0
    for one in family(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        found += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])  # type: ignore[index]
    return found


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


async def reloads(directory: Path, workers: int) -> bool:
    """100 reloads and 5 upgrades under 32 connections: nothing may fail, memory stays."""
    path = configured(directory, workers, 'shutdown_timeout = "3s"\n')
    async with Process(path) as gateway:
        async with Drive(gateway.port, 32, pause=0.002) as load:
            await asyncio.sleep(1)
            sizes = []
            for number in range(100):
                (directory / "pipelines" / "test.toml").write_text(
                    ROUTE.replace("true", str(number))
                )
                assert "taken" in await gateway.reload()
                if number in (9, 99):
                    await asyncio.sleep(2)
                    sizes.append(memory(gateway.pid))
            for _ in range(5):
                after = len(gateway.lines)
                gateway.signal(signal.SIGUSR2)
                await gateway.logged("of the program before finish", after)
            await asyncio.sleep(4)
            sizes.append(memory(gateway.pid))
        failures = Counter(one.status for one in load.gets if one.status != 200)
        counted = await gateway.metric("gateway_requests_total")
    print(f"{len(load.gets)} requests, not 200: {dict(failures)}; counted {counted:.0f}")
    print(f"MiB after 10 and 100 reloads, after 5 upgrades: {[one // 1024 for one in sizes]}")
    return not failures and sizes[1] < 1.1 * sizes[0]


ENVOY = """static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.\
http_connection_manager.v3.HttpConnectionManager
          stat_prefix: a
          route_config:
            virtual_hosts:
            - name: a
              domains: ["*"]
              routes:
              - match: {prefix: "/"}
                direct_response: {status: 200, body: {inline_string: '{"ok":true}'}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"""


async def idle(directory: Path, workers: int) -> bool:
    """10,000 idle connections, then 1,000 busy ones besides; the same of Envoy, if it is there."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10_000, hard - 2000)
    async with Process(configured(directory, workers, 'idle_timeout = "10m"\n')) as gateway:
        errors, busy = await crowded("gateway", gateway.pid, gateway.port, count)
    peers = os.environ.get("PEERS", str(Path(__file__).parent / ".peers"))
    if envoy := shutil.which("envoy", path=f"{peers}/bin{os.pathsep}{os.environ['PATH']}"):
        (port,) = free_ports(1)
        (directory / "envoy.yaml").write_text(ENVOY.replace("PORT", str(port)))
        options = ["-c", str(directory / "envoy.yaml"), "-l", "error", "--disable-hot-restart"]
        process = subprocess.Popen([envoy, *options, "--concurrency", str(workers)])
        try:
            wait_port(port, process)
            await crowded("envoy", process.pid, port, count)
        finally:
            stop(process)
    return not errors and busy < 512 * 1024


async def crowded(name: str, pid: int, port: int, count: int) -> tuple[int, int]:
    """Hold `count` idle connections, then load 1,000 others; return errors, and KiB at the end."""
    before = memory(pid)
    connections = await opened(port, count)
    after = memory(pid)
    wrk = ["wrk", "-t1", "-c1000", f"-d{SECONDS * 2}s", "--latency", "--timeout", "10s"]
    done = await asyncio.to_thread(
        subprocess.run,
        [*wrk, f"http://127.0.0.1:{port}/"],
        check=True,
        capture_output=True,
        text=True,
    )
    busy = memory(pid)
    for _, writer in connections:
        writer.close()
    text: str = done.stdout
    p99, requests = (found(pattern, text) for pattern in (r"^\s+99%\s+(\S+)", r"(\d+) requests in"))
    errors = int(found(r"Non-2xx or 3xx responses: (\d+)", text) or 0)
    errors += sum(map(int, re.findall(r"\d+", found(r"Socket errors: (.*)", text))))
    print(
        f"{name}: MiB {before // 1024}, with {count} idle {after // 1024}, busy {busy // 1024}; "
        f"{requests} requests of 1,000 connections, {errors} errors, p99 {p99}",
        flush=True,
    )
    return errors, busy


async def cpu(directory: Path, workers: int) -> bool:
    """CPU of a request with one and with several workers, in turns, by wrk."""
    found: dict[int, list[float]] = {1: [], workers: []}
    for round_ in range(3):
        for count in found:
            place = directory / f"{round_}-{count}"
            place.mkdir()
            async with Process(configured(place, count)) as gateway:
                wrk = ["wrk", "-t1", "-c64", f"-d{SECONDS}s", f"http://127.0.0.1:{gateway.port}/"]
                await asyncio.to_thread(
                    subprocess.run, [*wrk[:3], "-d1s", wrk[4]], check=True, capture_output=True
                )
                before = cpu_seconds(gateway.pid)
                done = await asyncio.to_thread(
                    subprocess.run, wrk, check=True, capture_output=True, text=True
                )
                used = cpu_seconds(gateway.pid) - before
            requests = int(re.search(r"(\d+) requests in", done.stdout)[1])  # type: ignore[index]
            found[count].append(used / requests * 1e6)
            print(
                f"{count} worker(s): {found[count][-1]:.1f} us a request, "
                f"{requests / SECONDS:.0f} a second",
                flush=True,
            )
    one, several = (sorted(found[count])[1] for count in found)
    print(f"median {one:.1f} and {several:.1f} us: {several / one:.3f}")
    return several <= 1.05 * one


SECONDS = 5
ALL = {one.__name__: one for one in (spread, killed, reloads, idle, cpu)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=ALL)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        held = asyncio.run(ALL[options.what](Path(directory), options.workers))
    print("held" if held else "NOT held")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
