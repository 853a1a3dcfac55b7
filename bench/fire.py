"""The pool under fire: a rolling restart, an endpoint that fails, one that is slow, all of them
down, a retry storm, churn.

Each is played with the gateway, and where HAProxy can do the like, with HAProxy (leastconn, the
same checks) in its place. Figures go to docs/resilience.md. Returns whether the gateway's line
held; HAProxy's is printed beside it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bench.world import CHECKS, ROUTE, Drive, HAProxy, Server, free_ports, gateway, quantile
from tests.flow.conftest import write
from tests.process import Process

RETRY = (
    'retry = { attempts = 3, base_delay = "20ms", budget = 0.2 }\npassive_health = { '
    'max_fails = 3, fail_timeout = "1s" }\n'
)
OUTLIER = 'outlier = { interval = "500ms", minimum_requests = 10, ejection_time = "30s" }\n'


@asynccontextmanager
async def proxied(
    kind: str,
    directory: Path,
    servers: list[Server],
    more: str,
    haproxy: str = "",
    check: str = "",
    route: str = ROUTE,
) -> AsyncIterator[Any]:
    """The proxy called `kind` in front of the servers; what it gives has a `port`."""
    if kind == "haproxy":
        async with HAProxy(directory, servers, haproxy, check) as one:
            yield one
    else:
        async with gateway(directory, servers, more, route) as process:
            for server in servers if "health" in more.split() else ():
                await process.logged(f"127.0.0.1:{server.port} is healthy")
            yield process


async def rolling(directory: Path) -> bool:
    """Three endpoints, each ended with TERM, 2 s away and back, twice around, under GETs and POSTs
    at 64 connections."""
    return await restarted(directory, rounds=2, away=2.0, back=1.5, posts=4)


async def restarts(directory: Path) -> bool:
    """The same seven times around, and half of the connections send POSTs: to find those that
    fail."""
    return await restarted(directory, rounds=7, away=0.2, back=0.7, posts=2)


async def restarted(directory: Path, *, rounds: int, away: float, back: float, posts: int) -> bool:
    """Ends three endpoints with TERM, one after the other, for `away` seconds each, under load; the
    next `back` seconds later."""
    good = {}
    for kind in ("gateway", "haproxy"):
        (place := directory / kind).mkdir()
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(Server(place, str(i), 0.005)) for i in range(3)
            ]
            proxy = await stack.enter_async_context(proxied(kind, place, servers, CHECKS + RETRY))
            async with Drive(proxy.port, 64, posts=posts) as load:
                await asyncio.sleep(1)
                for server in servers * rounds:
                    await server.stop()
                    await asyncio.sleep(away)
                    await server.start()
                    await asyncio.sleep(back)
            runs = sum((server.ids() for server in servers), Counter())
            unread = sum((server.ids(".unread") for server in servers), Counter())
        bad_gets = Counter(answer.status for answer in load.gets if answer.status != 200)
        bad_posts = [answer for answer in load.sent if answer.status != 200]
        twice = [name for name, times in runs.items() if times > 1]
        how = Counter(
            "read" if one.id in runs else "arrived" if one.id in unread else "not received"
            for one in bad_posts
        )
        guessed = sum(one.id in unread for one in load.sent if one.status == 200)
        print(
            f"rolling restart, {kind}: {len(load.gets)} GETs, {bad_gets.total()} failed "
            f"{dict(bad_gets)}"
        )
        print(
            f"  {len(load.sent)} POSTs, {len(bad_posts)} failed: {how['read']} the endpoint had "
            f"read, {how['arrived']} arrived "
            f"as it closed, {how['not received']} it never had; {len(twice)} ran twice, "
            f"{guessed} went out again after arriving"
        )
        good[kind] = not bad_gets and not twice and not how["not received"] and not guessed
    return good["gateway"]


async def outlier(directory: Path) -> bool:
    """One of four endpoints answers 500 to half of what it gets, /health aside."""
    good = {}
    for kind in ("gateway", "haproxy"):
        (place := directory / kind).mkdir()
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(Server(place, str(i), 0.01)) for i in range(4)
            ]
            check = "observe layer7 error-limit 10 on-error mark-down"
            proxy = await stack.enter_async_context(
                proxied(kind, place, servers, CHECKS + OUTLIER, check=check)
            )
            async with Drive(proxy.port, 64) as load:
                await asyncio.sleep(2)
                await servers[0].ask("/set?fail=0.5")
                began = time.perf_counter()
                await asyncio.sleep(6)
        errors = [answer.at - began for answer in load.gets if answer.status != 200]
        late = load.since(began + 2)
        shares = Counter(answer.body for answer in late)
        share = shares[b"0"] / len(late)
        others = [shares[b"%d" % i] for i in (1, 2, 3)]
        print(
            f"outlier, {kind}: {len(errors)} of {len(load.gets)} not 200, the last after "
            f"{max(errors, default=0):.2f} s;"
        )
        print(
            f"  share from 2 s on {share:.4f}, the others' "
            + " ".join(f"{other / len(late):.3f}" for other in others)
        )
        good[kind] = share < 0.01 and min(others) > 0.28 * len(late)
    return good["gateway"]


async def slow(directory: Path) -> bool:
    """One of four endpoints becomes 50 times slower."""
    good = {}
    for kind in ("gateway", "haproxy"):
        (place := directory / kind).mkdir()
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(Server(place, str(i), 0.02)) for i in range(4)
            ]
            proxy = await stack.enter_async_context(
                proxied(kind, place, servers, CHECKS.replace("400ms", "450ms") + OUTLIER)
            )
            async with Drive(proxy.port, 64) as load:
                await asyncio.sleep(4)
                before = time.perf_counter()
                await servers[0].ask("/set?delay=1.0")
                await asyncio.sleep(8)
        healthy = quantile([answer.seconds for answer in load.since(before - 3, before)], 0.99)
        late = load.since(before + 3)
        after = quantile([answer.seconds for answer in late], 0.99)
        share = sum(answer.body == b"0" for answer in late) / len(late)
        bad = sum(answer.status != 200 for answer in load.gets)
        print(
            f"slow endpoint, {kind}: p99 {healthy * 1000:.0f} ms before, {after * 1000:.0f} ms "
            f"from 3 s on, "
            f"{after / healthy:.2f} times; its share {share:.4f}; {bad} failed"
        )
        good[kind] = after <= 2 * healthy and not bad
    return good["gateway"]


async def ill(directory: Path) -> bool:
    """One of three endpoints turns ill (503 to everything), gets well, then hangs (stopped) and
    goes on."""
    good = {}
    for kind in ("gateway", "haproxy"):
        (place := directory / kind).mkdir()
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(Server(place, str(i), 0.01)) for i in range(3)
            ]
            proxy = await stack.enter_async_context(proxied(kind, place, servers, CHECKS + RETRY))
            async with Drive(proxy.port, 64) as load:
                await asyncio.sleep(1)
                before, gone = 0, time.perf_counter()
                await servers[0].ask("/set?fail=1&code=503&health=503")
                out = gone
                while time.perf_counter() < gone + 3:
                    seen = int(await servers[0].ask("/count"))
                    if seen > before:
                        before, out = seen, time.perf_counter()
                    await asyncio.sleep(0.02)
                errors = sum(answer.status != 200 for answer in load.gets)
                await servers[0].ask("/set?fail=0&health=200")
                well = time.perf_counter()
                while int(await servers[0].ask("/count")) == before:
                    await asyncio.sleep(0.02)
                back = time.perf_counter() - well
                await asyncio.sleep(1)
                hung = time.perf_counter()
                assert servers[0].process is not None
                servers[0].process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(4)
                servers[0].process.send_signal(signal.SIGCONT)
                await asyncio.sleep(1)
            late = [answer for answer in load.since(hung) if answer.seconds > 2]
            others = [answer.seconds for answer in load.since(hung + 1, hung + 4)]
        total = Counter(answer.status for answer in load.gets if answer.status != 200)
        print(
            f"ill endpoint, {kind}: its last request {out - gone:.2f} s after it turned ill, "
            f"{errors} errors; "
            f"back after {back:.2f} s"
        )
        print(
            f"  hung: {len(late)} requests waited for it for over 2 s, the others' p99 "
            f"{quantile(others, 0.99) * 1000:.0f} ms; "
            f"{total.total()} of {len(load.gets)} failed {dict(total)}"
        )
        good[kind] = out - gone < 2 and not total and len(late) < 64
    return good["gateway"]


async def down(directory: Path) -> bool:
    """All three endpoints are gone for 5 s, then there but ill for 5 s; the breaker lets 3 requests
    try every second."""
    breaker = (
        'circuit_breaker = { failure_threshold = 5, recovery_timeout = "1s", '
        "half_open_requests = 3 }\n"
    )
    good = {}
    for kind in ("gateway", "haproxy"):
        (place := directory / kind).mkdir()
        log = place / "access.log"
        route = f'error = ["error_handler", "logging"]\n[logging]\nfile = "{log}"\n' + ROUTE
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(Server(place, str(i), 0.005)) for i in range(3)
            ]
            proxy = await stack.enter_async_context(
                proxied(kind, place, servers, breaker, route=route)
            )
            async with Drive(proxy.port, 16, pause=0.005) as load:
                await asyncio.sleep(1)
                await asyncio.gather(*(server.stop(signal.SIGKILL) for server in servers))
                await asyncio.sleep(1)
                began, (ran_before, waited_before) = time.perf_counter(), on_core(proxy.pid)
                await asyncio.sleep(4)
                refused, (ran, waited) = len(load.since(began)), on_core(proxy.pid)
                await asyncio.gather(*(server.start() for server in servers))
                back = time.perf_counter()
                await asyncio.sleep(3)
                await asyncio.gather(*(server.ask("/set?fail=1&code=503") for server in servers))
                await asyncio.sleep(0.5)
                before = sum([int(await server.ask("/count")) for server in servers])
                await asyncio.sleep(4)
                trials = sum([int(await server.ask("/count")) for server in servers]) - before
                await asyncio.gather(*(server.ask("/set?fail=0") for server in servers))
                well = time.perf_counter()
                await asyncio.sleep(3)
        firsts = []
        for moment in (back, well):
            after = load.since(moment, moment + 2.9)
            first = min(
                (answer.at for answer in after if answer.status == 200), default=float("inf")
            )
            last = max((answer.at for answer in after if answer.status != 200), default=first)
            firsts.append((first - moment, max(0.0, last - first)))
            print(
                f"all down, {kind}: first success {first - moment:.2f} s after they were back, "
                f"the last refusal {last - first:.3f} s after that"
            )
        print(f"  within 4 s while they were ill they saw {trials} requests")
        cost, waited = (ran - ran_before) / refused * 1000, (waited - waited_before) / 4
        print(
            f"  a refusal took {cost:.3f} ms of a core; for {waited:.0%} of that time {kind} "
            f"waited for one"
        )
        good[kind] = trials <= 5 * 3 and all(first < 1.2 and rest < 1.0 for first, rest in firsts)
        if kind == "gateway":
            records = [json.loads(line) for line in log.read_text().splitlines()]
            took = [
                record["duration_ms"] for record in records if record["reason"] == "circuit_open"
            ]
            shares = {
                f"p{share:g}": quantile(took, share / 100) for share in (50, 90, 99, 99.9)
            } | {"most": max(took)}
            print(
                f"  {len(took)} refusals, ms in the access log: "
                + " ".join(f"{name} {ms:.3f}" for name, ms in shares.items())
            )
            # By the clock where it does not have to wait for a core: who is not running answers
            # nobody.
            good[kind] = good[kind] and cost < 1 and shares["p99" if waited < 0.08 else "p50"] < 1
    return good["gateway"]


async def storm(directory: Path) -> bool:
    """Everything fails: how many requests does the upstream see for each of the clients'?"""
    good = {}
    for kind in ("gateway", "haproxy"):
        (place := directory / kind).mkdir()
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(Server(place, str(i), 0.01)) for i in range(3)
            ]
            retry = 'retry = { attempts = 3, base_delay = "20ms", on = ["500"], budget = 0.2 }\n'
            proxy = await stack.enter_async_context(
                proxied(kind, place, servers, CHECKS + retry, "retry-on 500")
            )
            for server in servers:
                await server.ask("/set?fail=1.0")
            async with Drive(proxy.port, 64) as load:
                await asyncio.sleep(5)
            seen = sum([int(await server.ask("/count")) for server in servers])
        ratio = seen / len(load.gets)
        print(
            f"retry storm, {kind}: {len(load.gets)} requests, the upstream saw {seen}: "
            f"{ratio:.3f} times as many"
        )
        good[kind] = ratio <= 1.25
    return good["gateway"]


async def churn(directory: Path) -> bool:
    """200 endpoints, half of them replaced by discovery every second, for 20 s under load."""
    file = directory / "endpoints.json"
    ports = free_ports(400)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Server(directory, "0", 0.002, ports))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        file.write_text(json.dumps(urls[:200]))
        discover = f'[upstream.origin]\ndiscover = {{ file = "{file}", every = "200ms" }}\n'
        write(directory, ROUTE, discover + CHECKS.replace("500ms", "5s") + RETRY)
        process = await stack.enter_async_context(Process(directory / "gateway.toml"))
        await process.logged("200 of 200 eligible", seconds=30)
        early, start = 0, len(process.lines)
        async with Drive(process.port, 64) as load:
            for second in range(20):
                first = second * 100 % 400
                new = file.with_suffix(".new")
                new.write_text(json.dumps((urls * 2)[first : first + 200]))
                new.replace(file)
                await asyncio.sleep(1)
                if second == 6:
                    early = process.rss()
            late = process.rss()
        await asyncio.sleep(0.5)
        changes = sum("discovery" in line and "added" in line for line in process.lines[start:])
        status = await asyncio.to_thread(admin, process, "/admin/health")
        endpoints = status["upstreams"]["origin"]["endpoints"]
    bad = Counter(answer.status for answer in load.gets if answer.status != 200)
    in_flight = sum(endpoint["in_flight"] for endpoint in endpoints)
    print(
        f"churn: {len(load.gets)} requests, {bad.total()} failed {dict(bad)}; {changes} changes; "
        f"{len(endpoints)} endpoints "
        f"at the end, {in_flight} in flight; memory {early / 2**20:.1f} MiB after 7 s, "
        f"{late / 2**20:.1f} after 20 s"
    )
    return (
        not bad
        and changes >= 18
        and len(endpoints) == 200
        and in_flight == 0
        and late - early < 8 << 20
    )


def on_core(pid: int) -> tuple[float, float]:
    """Seconds a process's first thread has run, and has waited for a core while it could have."""
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def admin(process: Process, path: str) -> Any:
    """What the gateway's admin API answers."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{process.admin_port}{path}", timeout=10
    ) as answer:
        return json.loads(answer.read())


SCENARIOS = {
    one.__name__: one for one in (rolling, restarts, outlier, slow, ill, down, storm, churn)
}
