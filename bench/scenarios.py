#!/usr/bin/env python3
"""What happens when things happen: shares, a killed endpoint, a hundred reloads, large bodies.
Prints figures, exits 1 on a miss.

    .venv/bin/python bench/scenarios.py shares kill reloads bodies
    .venv/bin/python bench/scenarios.py rolling restarts outlier slow ill down storm churn      # fire.py
    .venv/bin/python bench/scenarios.py gigabyte idle events                        # wire.py

Everything runs on 127.0.0.1 and is bounded in count and time: a gateway process, upstream
processes, clients in this one.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.fire import SCENARIOS
from bench.wire import SCENARIOS as WIRE
from tests.client import Client
from tests.flow.conftest import write
from tests.load import Load
from tests.origin import block
from tests.process import Process

ROUTE = '[[route]]\nprefix = "/"\nupstream = "origin"\n'
CHECKS = (
    'health = { path = "/health", interval = "500ms", timeout = "400ms", '
    "unhealthy_threshold = 2, healthy_threshold = 2 }\n"
)
RETRY = (
    'retry = { attempts = 3, base_delay = "20ms", budget = 1.0 }\npassive_health = { '
    'max_fails = 3, fail_timeout = "1s" }\n'
)


class Upstream:
    """An upstream in a process of its own."""

    def __init__(self, name: str, delay: float = 0.0) -> None:
        self.name = name
        self.delay = delay
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    async def __aenter__(self) -> Upstream:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.origin", str(self.port), self.name, str(self.delay),
            cwd=Path(__file__).resolve().parent.parent, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        await self.process.stdout.readline()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


def configure(
    directory: Path, upstreams: list[tuple[Upstream, int]], more: str = "", pipeline: str = ROUTE
) -> Path:
    endpoints = ", ".join(
        f'{{ url = "http://127.0.0.1:{one.port}", weight = {weight} }}' for one, weight in upstreams
    )
    write(directory, pipeline, f"[upstream.origin]\nendpoints = [{endpoints}]\n{more}")
    return directory / "gateway.toml"


async def shares(directory: Path) -> bool:
    """Three endpoints weighted 3:2:1; then the same with the first ten times slower."""
    good = True
    for slow in (1.0, 10.0):
        async with AsyncExitStack() as stack:
            ups = [
                await stack.enter_async_context(Upstream(str(i), 0.05 * (slow if i == 0 else 1)))
                for i in range(3)
            ]
            path = configure(directory, list(zip(ups, (3, 2, 1), strict=True)))
            gateway = await stack.enter_async_context(Process(path))
            async with Load(gateway.port, 64) as load:
                await load.more(6000)
            total = load.total
            found = [load.bodies[b"%d" % i] / total for i in range(3)]
            print(
                f"shares at 3:2:1, first {slow:g} times slower: "
                + " ".join(f"{share:.3f}" for share in found),
                f"of {total}",
            )
            if slow == 1.0:
                good = all(
                    abs(share - ideal) <= 0.05 * ideal
                    for share, ideal in zip(found, (1 / 2, 1 / 3, 1 / 6), strict=True)
                )
            else:
                # In equilibrium (in flight + 1) / weight is equal, so throughput is in flight /
                # service time: 0.3 : 2 : 1.
                good = good and found[0] < 0.2
            good = good and not load.failed
    return good


async def kill(directory: Path) -> bool:
    """One of three endpoints is killed under load of GETs, and comes back."""
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(Upstream(str(i), 0.002)) for i in range(3)]
        path = configure(directory, [(one, 1) for one in ups], CHECKS + RETRY)
        gateway = await stack.enter_async_context(Process(path))
        async with Load(gateway.port, 64) as load:
            await load.more(1000)
            before = len(gateway.lines)
            began = time.monotonic()
            await ups[1].kill()
            await gateway.logged(f"127.0.0.1:{ups[1].port} is (ejected|unhealthy)", before)
            out = time.monotonic() - began
            await gateway.logged(f"127.0.0.1:{ups[1].port} is unhealthy", before)
            failed_before, bad_before = len(load.failed), load.total - load.answers[200]
            await load.more(3000)
            before = len(gateway.lines)
            began = time.monotonic()
            ups[1] = again = Upstream("1", 0.002)
            again.port = int(
                path.parent.joinpath("upstreams.toml")
                .read_text()
                .split("127.0.0.1:")[2]
                .split('"')[0]
            )
            await stack.enter_async_context(again)
            await gateway.logged(f"127.0.0.1:{again.port} is healthy", before)
            back = time.monotonic() - began
            served = load.bodies[b"1"]
            await load.more(1000)
        bad = load.total - load.answers[200]
        print(f"killed: out after {out:.2f} s, back after {back:.2f} s")
        print(f"  of {load.total} GETs {bad} were not 200, {len(load.failed)} broke")
        print(
            f"  until it was out: {bad_before} and {failed_before}; after its return it served "
            f"{load.bodies[b'1'] - served}"
        )
        return bad == 0 and not load.failed and load.bodies[b"1"] > served


async def reloads(directory: Path) -> bool:
    """A hundred SIGHUPs in 20 s at 64 connections, the configuration alternating, one of them
    broken."""
    limited = (
        (
            'request = ["rate_limit"]\n[rate_limit]\nkey = "ip"\nalgorithm = '
            '"fixed_window"\nlimit = '
            '{limit}\nwindow = "1h"\n'
        )
        + ROUTE
        + 'rate_limit = false\n[[route]]\npath = "/limited"\nupstream = "origin"\n'
    )
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(Upstream(str(i))) for i in range(3)]
        endpoints = [(one, 1) for one in ups]
        path = configure(directory, endpoints, CHECKS, limited.replace("{limit}", "1000"))
        gateway = await stack.enter_async_context(Process(path))
        client = await Client.connect(gateway.port)
        await client.get("/limited")
        await ups[2].kill()
        await gateway.logged(f"127.0.0.1:{ups[2].port} is unhealthy")
        began = 0.0
        async with Load(gateway.port, 64) as load:
            await load.more(2000)
            early = gateway.rss()
            began = time.monotonic()
            for number in range(100):
                if number == 50:
                    (directory / "upstreams.toml").write_text("[upstream.origin]\nendpoints = 7\n")
                    assert "refused" in await gateway.reload()
                    refused = await gateway.metric("gateway_config_last_reload_success")
                    continue
                limit = str(1000 + number % 2)
                configure(
                    directory,
                    endpoints,
                    CHECKS + f'timeouts = {{ read = "{10 + number % 2}s" }}\n',
                    limited.replace("{limit}", limit),
                )
                assert "taken" in await gateway.reload()
                await asyncio.sleep(max(0.0, began + (number + 1) * 0.2 - time.monotonic()))
            took = time.monotonic() - began
            late = gateway.rss()
            await load.more(2000)
        settled = gateway.rss()
        remaining = int((await client.get("/limited")).fields["x-ratelimit-remaining"])
        name = f"127.0.0.1:{ups[2].port}"
        healthy = await gateway.metric("gateway_upstream_endpoint_healthy", endpoint=name)
        bad = load.total - load.answers[200]
        unhealthy_logged = sum(name in line and "unhealthy" in line for line in gateway.lines)
        print(
            f"100 SIGHUPs in {took:.1f} s, {load.total} requests: {bad} not 200, "
            f"{len(load.failed)} broke {load.failed[:3]}"
        )
        print(f"  memory {early >> 20} MiB before, {late >> 20} at the end, {settled >> 20} after")
        print(
            f"  the broken file: reload_success {refused:g}; limiter: {remaining} of 1001 left "
            f"after 2 uses"
        )
        print(f"  the dead endpoint: healthy={healthy:g}, found ill {unhealthy_logged} time(s)")
        client.close()
        flat = settled - early < 8 << 20
        return (
            bad == 0
            and not load.failed
            and refused == 0
            and healthy == 0
            and remaining == 999
            and flat
        )


async def bodies(directory: Path) -> bool:
    """256 MiB up and down: the same bytes, and little memory."""
    size = 256 << 20
    async with AsyncExitStack() as stack:
        up = await stack.enter_async_context(Upstream("0"))
        gateway = await stack.enter_async_context(Process(configure(directory, [(up, 1)])))
        client = await Client.connect(gateway.port)
        await client.get("/")
        before = most = gateway.rss()
        sent = hashlib.sha256()
        await client.send(b"PUT /digest HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for start in range(0, size, 65536):
            chunk = block(start)
            sent.update(chunk)
            await client.send(chunk)
            most = max(most, gateway.rss())
        uploaded = (await client.read()).body.decode() == sent.hexdigest()
        up_most, most = most, gateway.rss()
        await client.send(b"GET /bytes/%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
        await client.head()
        received, left = hashlib.sha256(), size
        while left:
            chunk = await client.reader.read(min(left, 1 << 20))
            assert chunk
            received.update(chunk)
            left -= len(chunk)
            most = max(most, gateway.rss())
        downloaded = received.hexdigest() == sent.hexdigest()
        client.close()
        rise = (max(up_most, most) - before) / 2**20
        print(
            f"256 MiB: upload identical {uploaded}, download identical {downloaded}, memory up "
            f"by {rise:.1f} MiB"
        )
        return uploaded and downloaded and rise < 32


def main() -> int:
    known = {
        "shares": shares,
        "kill": kill,
        "reloads": reloads,
        "bodies": bodies,
        **WIRE,
        **SCENARIOS,
    }
    good = True
    for name in sys.argv[1:] or known:
        with tempfile.TemporaryDirectory() as directory:
            ok = asyncio.run(known[name](Path(directory)))
            print(f"{name}: {'holds' if ok else 'MISSED'}")
            good = good and ok
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
