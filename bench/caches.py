#!/usr/bin/env python3
"""What the cache keeps, what an entry takes, and what clients notice while its Redis is broken.

    python -m bench.caches hits      a Zipf(0.9) trace of a million requests over 100,000 objects, with scans in between: hit rates
                                     with the same memory, beside LRU, and nginx and Varnish where they are installed
    python -m bench.caches memory    resident bytes of an entry beyond its body, of a million
    python -m bench.caches purge     how long a purge by a tag of 10,000 entries takes, and the loop stands
    python -m bench.caches redis     an entry read from Redis, beside redis-py's own GET
    python -m bench.caches outage    20 rounds under load with the Redis killed, frozen, slow and full, beside a run without a cache

One run takes minutes; figures are in docs/caching.md.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

from bench.world import quantile
from gateway.core.clock import REAL
from gateway.core.telemetry import Telemetry
from gateway.middlewares.caching.entries import Entry, indexed
from gateway.middlewares.caching.storage.memory import MAX_HITS, Memory
from gateway.middlewares.caching.storage.remote import connect
from gateway.store.purges import Purge, Purges, tag_buckets
from gateway.store.stores import SharedStore, parse
from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin
from tests.process import Process
from tests.redis import RedisServer, Slow

REQUESTS, OBJECTS, SKEW, SCANS, BODY = 1_000_000, 100_000, 0.9, 20, 1000
SCANNED = REQUESTS // SCANS // 5
"""Objects of one scan, each asked for once: a fifth of all requests."""
ROOM = 16 * 1024 * 1024
BATCH = 64
"""Requests sent to nginx and Varnish at once."""


def trace() -> list[int]:
    rng = random.Random(1)
    weights = list(accumulate(1 / (rank + 1) ** SKEW for rank in range(OBJECTS)))
    objects = list(range(OBJECTS))
    rng.shuffle(objects)
    found: list[int] = []
    scans = 0
    while len(found) < REQUESTS:
        found.append(objects[bisect(weights, rng.random() * weights[-1])])
        if scans < SCANS and len(found) > (scans + 1) * REQUESTS // (SCANS + 1):
            first = OBJECTS + scans * SCANNED
            found += range(first, first + SCANNED)
            scans += 1
    return found[:REQUESTS]


def entry(number: int, body: bytes, tags: tuple[int, ...] = ()) -> Entry:
    """A response as an API gives it."""
    headers = (
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"max-age=3600"),
        (b"ETag", b'"%016x"' % (number * 0x9E3779B97F4A7C15 % 2**64)),
        (b"Date", b"Mon, 30 Nov 2026 18:%02d:%02d GMT" % (number // 60 % 60, number % 60)),
        (b"Server", b"uvicorn"),
        (b"Vary", b"Origin"),
    )
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    uri = f"https://api.example.com/api/v1/cameras/{number}"
    return Entry(
        uri, "becamera", (), (), 200, b"OK", headers, indexed(headers), lines, body,
        time.monotonic(), 3600.0, 1_780_000_000 + number % 1000, etag=headers[2][1], tags=tags,
    )  # fmt: skip


def no_values(request: None, names: tuple[str, ...]) -> tuple[str, ...]:
    return ()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Hit rates.


def hits() -> None:
    requests = trace()
    print(f"{REQUESTS} requests, {OBJECTS} objects of {BODY} bytes, {ROOM >> 20} MiB")
    print("| cache | hits |\n|---|---|")
    print(f"| gateway | {gateway_hits(requests):.1%} |", flush=True)
    print(f"| LRU, as many bytes | {lru_hits(requests):.1%} |", flush=True)
    for name, server in (("nginx", nginx), ("varnishd", varnish)):
        if shutil.which(name):
            with server() as port:
                print(f"| {name} | {served_hits(requests, port):.1%} |", flush=True)


def gateway_hits(requests: list[int]) -> float:
    memory, found, body = Memory(Purges()), 0, bytes(BODY)
    for number in requests:
        uri = f"https://api.example.com/api/v1/cameras/{number}"
        slot = memory.select(uri, "becamera", no_values, None)
        if slot is None:
            memory.put(entry(number, body), ROOM, 0)
        else:
            found += 1
            slot.place.hits = min(MAX_HITS, slot.place.hits + 1)
    return found / len(requests)


def lru_hits(requests: list[int]) -> float:
    """With no more overhead than ours for an entry that is packed."""
    kept: OrderedDict[int, None] = OrderedDict()
    found, most = 0, ROOM // (BODY + 400)
    for number in requests:
        if number in kept:
            found += 1
            kept.move_to_end(number)
        else:
            kept[number] = None
            if len(kept) > most:
                kept.popitem(last=False)
    return found / len(requests)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


ORIGIN = """server {{ listen 127.0.0.1:{origin}; keepalive_requests 100000000;
  location / {{ add_header Cache-Control max-age=3600; return 200 "{body}"; }} }}"""
NGINX = (
    """worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error;
events {{ worker_connections 256; }}
http {{ access_log off; keepalive_requests 100000000;
  proxy_cache_path {directory}/cache keys_zone=one:{keys}k max_size={room} inactive=1h
    manager_files=10000 manager_sleep=20ms manager_threshold=500ms;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 8; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://origin; proxy_cache one;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_cache_valid 200 1h;
    add_header X-Cache $upstream_cache_status; }} }}
  """
    + ORIGIN
    + "}}"
)
VCL = """vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_deliver {{ if (obj.hits > 0) {{ set resp.http.X-Cache = "HIT"; }} }}"""


@contextmanager
def running(*words: str, ready: int) -> Iterator[None]:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", ready)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def nginx() -> Iterator[int]:
    """With its cache's files in memory; an eighth of the room is for its keys."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        port, path = free_port(), Path(name, "nginx.conf")
        path.write_text(
            NGINX.format(
                directory=name,
                port=port,
                origin=free_port(),
                body="x" * BODY,
                room=ROOM - ROOM // 8,
                keys=ROOM // 8 // 1024,
            )
        )
        Path(name).chmod(0o755)
        with running("nginx", "-c", str(path), ready=port):
            yield port


@contextmanager
def varnish() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as name:
        port, origin = free_port(), free_port()
        conf, vcl = Path(name, "nginx.conf"), Path(name, "default.vcl")
        head = f"daemon off; pid {name}/pid; error_log {name}/error; events {{}}\n"
        server = ORIGIN.format(origin=origin, body="x" * BODY)
        conf.write_text(f"{head}http {{ access_log off; {server} }}")
        vcl.write_text(VCL.format(origin=origin))
        words = ["varnishd", "-F", "-n", f"{name}/work", "-a", f"127.0.0.1:{port}", "-f", str(vcl)]
        Path(name).chmod(0o755)
        with (
            running("nginx", "-c", str(conf), ready=origin),
            running(*words, "-s", f"malloc,{ROOM}", ready=port),
        ):
            yield port


def served_hits(requests: list[int], port: int) -> float:
    """Of a server whose answers to hits say "X-Cache: HIT"."""
    found = done = 0
    with socket.create_connection(("127.0.0.1", port)) as one:
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            one.sendall(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % each for each in batch))
            data, wanted = b"", len(batch)
            while data.count(b"x" * BODY) < wanted:
                more = one.recv(1 << 20)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                if not more:
                    raise SystemExit(f"closed after {done} requests: {data[-200:]!r}")
                data += more
            found += data.count(b"X-Cache: HIT")
            done += wanted
    return found / done


# Memory.


def memory() -> None:
    count, size = 1_000_000, 200
    kept = Memory(Purges())
    for number in range(2000):
        kept.put(entry(-number - 1, os.urandom(size)), 1 << 40, 0)
    gc.collect()
    before, said = resident(), kept.used
    for number in range(count):
        kept.put(entry(number, os.urandom(size)), 1 << 40, 0)
    gc.collect()
    took = (resident() - before) / count - size
    print(f"{count} entries of {size} bytes: {took:.0f} resident bytes each beyond the body")
    print(f"counted against max_size: {(kept.used - said) / count - size:.0f}")


async def purge() -> None:
    """Four gateways with one Redis, each with 10,000 entries of one tag in memory."""
    tags, longest = tag_buckets("cameras"), 0.0

    async def watch() -> None:
        """Note for how long the loop stands, in CPU time: other processes do not count."""
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    with RedisServer() as server:
        store = SharedStore(parse(server.url), 1.0)
        all_purges = [Purges() for _ in range(4)]
        memories = [Memory(purges) for purges in all_purges]
        remotes = [connect(store, purges, REAL, Telemetry()) for purges in all_purges]
        for remote in remotes:
            remote.feed.follow()
        for kept in memories:
            for number in range(10_000):
                kept.put(entry(number, b"x" * 500, tags), 1 << 30, 0)
        while not all(remote.up for remote in remotes):
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.01)
        longest, began = 0.0, time.perf_counter()
        all_purges[0].purge(Purge("tag", "cameras"))
        while min(purges.version for purges in all_purges) < 10**12:
            await asyncio.sleep(0)
        took = time.perf_counter() - began
        watching.cancel()
        for remote in remotes:
            remote.close()
    began = time.perf_counter()
    for number in range(10_000):
        uri = f"https://api.example.com/api/v1/cameras/{number}"
        assert all(kept.select(uri, "becamera", no_values, None) is None for kept in memories[3:])
    each = (time.perf_counter() - began) / 10_000
    print(f"heard by all after {took * 1e3:.1f} ms; the loop stood for {longest * 1e3:.1f} ms")
    print(f"to find out of one entry that it is gone: {each * 1e6:.0f} us")


# Redis.


async def redis() -> None:
    from redis.asyncio import Redis

    with RedisServer() as server:
        store = SharedStore(parse(server.url), 1.0)
        remote = connect(store, Purges(), REAL, Telemetry())
        remote.feed.follow()
        while not remote.up:
            await asyncio.sleep(0.01)
        stored = entry(1, b"x" * BODY)
        remote.put(stored, 0, ())
        plain = Redis(host="127.0.0.1", port=server.port)
        await plain.set("plain", b"x" * (BODY + 120))
        rows: dict[str, list[float]] = {"entry from Redis": [], "GET by redis-py": []}
        for _ in range(5):
            for name, get in (
                ("entry from Redis", lambda: remote.find(stored.uri, "becamera", no_values, None)),
                ("GET by redis-py", lambda: plain.get("plain")),
            ):
                began = time.process_time()
                for _ in range(2000):
                    assert await get() is not None
                rows[name].append((time.process_time() - began) / 2000 * 1e6)
        for name, took in rows.items():
            print(f"{name}: {min(took):.0f} us of CPU")
        await plain.aclose()
        remote.close()


# Outages.

PIPELINE = """request = [{caching}]
response = [{caching}]
error = ["error_handler"]
{table}
[[route]]
prefix = "/"
upstream = "origin"
"""
LOAD, ROUNDS, TARGETS = 16, 20, 200


async def answer(
    origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    target = head.split()[1]
    body = target * (20_000 if int(target[1:]) % 50 == 0 else 100)
    writer.write(
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=1\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    await writer.drain()
    return True


async def outage() -> None:
    print("| Redis | requests | failed | torn | p50 | p99 |\n|---|---|---|---|---|---|")
    for what in ("without a cache", "well", "killed", "frozen", "slow", "full"):
        print(await broken(what), flush=True)


async def broken(what: str) -> str:
    """One case, as a row: ROUNDS times half a second well and half a second broken."""
    origin = await Origin(answer).start()
    server = RedisServer().start()
    way = await Slow(server.port).start()
    times: list[float] = []
    failed = torn = 0
    stop = asyncio.Event()
    with tempfile.TemporaryDirectory() as name:
        cached = what != "without a cache"
        caching, table = ('"caching"', '[caching]\nstore = "redis"') if cached else ("", "")
        upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
        port = way.port if what == "slow" else server.port
        gateway_toml = f'[store]\nurl = "redis://127.0.0.1:{port}"\n' if cached else ""
        write(Path(name), PIPELINE.format(caching=caching, table=table), upstreams, gateway_toml)
        async with Process(Path(name, "gateway.toml")) as gateway:

            async def client(seed: int) -> None:
                nonlocal failed, torn
                rng, one = random.Random(seed), await Client.connect(gateway.port)
                while not stop.is_set():
                    number = rng.randrange(TARGETS)
                    began = time.perf_counter()
                    got = await one.get(f"/{number}")
                    times.append(time.perf_counter() - began)
                    failed += got.status != 200
                    torn += got.body != b"/%d" % number * (100 if number % 50 else 20_000)
                    await asyncio.sleep(0.01)
                one.close()

            clients = [asyncio.create_task(client(seed)) for seed in range(LOAD)]
            for _ in range(ROUNDS):
                await asyncio.sleep(0.5)
                if what == "killed":
                    server.kill()
                elif what == "frozen":
                    server.freeze()
                elif what == "slow":
                    way.delay = 0.1
                elif what == "full":
                    server.command("CONFIG", "SET", "maxmemory", "1")
                await asyncio.sleep(0.5)
                if what == "killed":
                    server.start()
                elif what == "frozen":
                    server.thaw()
                elif what == "full":
                    server.command("CONFIG", "SET", "maxmemory", "0")
                way.delay = 0.0
            stop.set()
            await asyncio.gather(*clients)
    await way.stop()
    server.stop()
    await origin.stop()
    p50, p99 = (f"{quantile(times, share) * 1000:.1f} ms" for share in (0.5, 0.99))
    return f"| {what} | {len(times)} | {failed} | {torn} | {p50} | {p99} |"


def main() -> None:
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what in ("hits", "memory"):
        {"hits": hits, "memory": memory}[what]()
    elif what in ("purge", "redis", "outage"):
        asyncio.run({"purge": purge, "redis": redis, "outage": outage}[what]())
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
