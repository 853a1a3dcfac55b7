"""What the wire asks of memory and time: gigabytes both ways, thousands of idle and slow clients,
events without delay.

    .venv/bin/python bench/scenarios.py gigabyte idle events

`gigabyte` and `events` run through all middlewares; `idle` on one route, since idle connections
have met none.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from tests.client import Client
from tests.flow.conftest import PLAIN, write
from tests.flow.test_streaming import KEY, KEYS, everything
from tests.load import Load
from tests.origin import Origin, block
from tests.process import Process

GIB = 1 << 30
IDLE = 5000
SLOW = 500
EVENTS = 300


async def upstream(stack: AsyncExitStack) -> int:
    """`tests.origin` in a process of its own; its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ("import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); "
            "print(s.getsockname()[1])"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    port = int((await process.communicate())[0])
    origin = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.origin", str(port), "up",
        cwd=Path(__file__).resolve().parent.parent, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def end() -> None:
        origin.kill()
        await origin.wait()

    stack.push_async_callback(end)
    assert origin.stdout is not None
    await origin.stdout.readline()
    return port


def configure(directory: Path, pipeline: str, port: int, gateway: str = "") -> Path:
    (directory / "keys.toml").write_text(KEYS)
    write(directory, pipeline, f'[upstream.origin]\nurl = "http://127.0.0.1:{port}"\n', gateway)
    return directory / "gateway.toml"


async def gigabyte(directory: Path) -> bool:
    """1 GiB up and down through all middlewares: the same bytes, and little memory."""
    async with AsyncExitStack() as stack:
        port = await upstream(stack)
        gateway = await stack.enter_async_context(Process(configure(directory, everything(), port)))
        client = await Client.connect(gateway.port)
        await client.get("/", KEY)
        before = gateway.rss()
        sent, most, began = hashlib.sha256(), before, time.monotonic()
        await client.send(
            f"PUT /digest HTTP/1.1\r\nHost: a\r\n{KEY}\r\nContent-Length: {GIB}\r\n\r\n".encode()
        )
        for start in range(0, GIB, 65536):
            chunk = block(start)
            sent.update(chunk)
            await client.send(chunk)
            if start % (16 << 20) == 0:
                most = max(most, gateway.rss())
        up = (await client.read()).body.decode() == sent.hexdigest()
        up_rise, up_took = (max(most, gateway.rss()) - before) / 2**20, time.monotonic() - began
        most, began = gateway.rss(), time.monotonic()
        await client.send(
            (
                f"GET /bytes/{GIB} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n{KEY}\r\n\r\n"
            ).encode()
        )
        await client.head()
        received, left, reads = hashlib.sha256(), GIB, 0
        while left:
            chunk = await client.reader.read(min(left, 1 << 20))
            assert chunk
            received.update(chunk)
            left -= len(chunk)
            reads += 1
            if reads % 256 == 0:
                most = max(most, gateway.rss())
        down = received.hexdigest() == sent.hexdigest()
        down_rise = (max(most, gateway.rss()) - before) / 2**20
        client.close()
    print(
        f"gigabyte: up {'identical' if up else 'DIFFERENT'} in {up_took:.1f} s, memory up by "
        f"{up_rise:.1f} MiB"
    )
    print(
        f"  down {'identical' if down else 'DIFFERENT'} in {time.monotonic() - began:.1f} s, "
        f"memory up by {down_rise:.1f} MiB"
    )
    return up and down and max(up_rise, down_rise) < 32


async def idle(directory: Path) -> bool:
    """5,000 idle connections and 500 that send their heads byte by byte, while ordinary requests
    are answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 20_000)), hard))
    limits = "[server]\nidle_timeout = '10m'\nheader_timeout = '15s'\n"
    async with AsyncExitStack() as stack:
        port = await upstream(stack)
        gateway = await stack.enter_async_context(
            Process(configure(directory, PLAIN, port, limits))
        )
        async with Load(gateway.port, 32) as load:
            await load.more(2000)
        before = gateway.rss()
        silent = [await Client.connect(gateway.port) for _ in range(IDLE)]
        await asyncio.sleep(1)
        new = (gateway.rss() - before) / IDLE / 1024
        for client in silent:
            assert (await client.get("/")).status == 200
        used = (gateway.rss() - before) / IDLE / 1024
        slow = [await Client.connect(gateway.port) for _ in range(SLOW)]
        dripping = [asyncio.create_task(_drip(client)) for client in slow]
        async with Load(gateway.port, 32) as load:
            began = time.monotonic()
            await load.more(5000)
            rate = load.total / (time.monotonic() - began)
        bad = load.total - load.answers[200]
        ended = Counter(await asyncio.wait_for(asyncio.gather(*dripping), 60))
        first = await asyncio.gather(*(client.get("/") for client in silent[::50]))
        alive = sum(message.status == 200 for message in first)
        for client in (*silent, *slow):
            client.close()
    print(
        f"idle: {IDLE} connections cost {new:.1f} KiB each before their first request, "
        f"{used:.1f} KiB after it"
    )
    print(
        f"  {load.total} ordinary requests meanwhile at {rate:.0f}/s, {bad} not 200, "
        f"{len(load.failed)} broke"
    )
    print(
        f"  the {SLOW} slow ones were ended: {dict(ended)}; of {len(first)} idle ones asked "
        f"again {alive} got 200"
    )
    return (
        max(used, new) < 20
        and not bad
        and not load.failed
        and not ended["something else"]
        and alive == len(first)
    )


async def _drip(client: Client) -> str:
    """A head that never ends, a byte every half second; how it was ended. A byte that crosses the
    408 resets the connection."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 1000
    reading = asyncio.create_task(client.reader.read())
    try:
        for at in range(len(head)):
            await client.send(head[at : at + 1])
            done, _ = await asyncio.wait((reading,), timeout=0.5)
            if done:
                break
        return "408" if (await reading).startswith(b"HTTP/1.1 408 ") else "something else"
    except ConnectionError:
        reading.cancel()
        return "reset"


async def events(directory: Path) -> bool:
    """How much later an event reaches a client through all middlewares than straight from its
    origin."""
    go: asyncio.Queue[None] = asyncio.Queue()

    async def tell(
        origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        mine = go
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        )
        while True:
            await mine.get()
            writer.write(b"data: %d\n\n" % time.perf_counter_ns())
            await writer.drain()

    async def delays(port: int) -> tuple[float, list[float]]:
        """Milliseconds: of the first event of a new connection's answer, and of each of those that
        follow."""
        nonlocal go
        firsts, rest = [], []
        for _ in range(20):
            go = asyncio.Queue()
            client = await Client.connect(port)
            go.put_nowait(None)
            await client.send(f"GET / HTTP/1.1\r\nHost: a\r\n{KEY}\r\n\r\n".encode())
            firsts.append(await _event(client))
            for _ in range(EVENTS // 20):
                go.put_nowait(None)
                rest.append(await _event(client))
            client.close()
        return statistics.median(firsts), rest

    async with AsyncExitStack() as stack:
        origin = await Origin(tell).start()
        stack.push_async_callback(origin.stop)
        gateway = await stack.enter_async_context(
            Process(configure(directory, everything(), origin.port))
        )
        gc.disable()
        direct, direct_rest = await delays(origin.port)
        first, rest = await delays(gateway.port)
        gc.enable()
    added = statistics.median(rest) - statistics.median(direct_rest)
    print(f"events: the first after {first:.2f} ms (straight from the origin {direct:.2f})")
    print(
        f"  later ones after {statistics.median(rest):.2f} ms, at worst {max(rest):.2f}; added "
        f"{added:.2f} ms"
    )
    return first - direct < 5 and added < 5


async def _event(client: Client) -> float:
    """Milliseconds from an event's sending to its arrival."""
    line = b""
    while not line.startswith(b"data: "):
        line = await asyncio.wait_for(client.reader.readline(), 10)
    return (time.perf_counter_ns() - int(line[6:])) / 1e6


SCENARIOS: dict[str, Callable[[Path], Awaitable[bool]]] = {
    "gigabyte": gigabyte,
    "idle": idle,
    "events": events,
}
