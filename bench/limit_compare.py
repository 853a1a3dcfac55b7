"""What a limit costs a request, of the proxy's CPU: Envoy's local limit and ours, by method of
bench/compare.py, in one run.

    python -m bench.limits compare [SECONDS [ROUNDS]]

The same plain route with and without a limit that refuses nobody: ours in memory, leased and exact
on a local Redis, Envoy's local rate limit, and what a plain round trip to that Redis for every
request costs (redis-py, INCR and EXPIRE in one pipeline, as a middleware of one's own in our
gateway). The second column is what the limit adds to the same proxy without one. Redis runs on the
core of the origin and wrk; its own CPU is not counted.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import compare as side
from tests.redis import RedisServer

LIMIT = (
    'request = ["rate_limit"]\n[rate_limit]\nkey = "ip"\nalgorithm = "token_bucket"\nlimit = '
    '1000000000\nwindow = "1h"\n'
)
WAYS = {
    "gateway, no limit": "",
    "gateway, in memory": LIMIT,
    "gateway, leased": LIMIT + 'mode = "leased"\n',
    "gateway, exact": LIMIT + 'mode = "exact"\n',
    "gateway, a round trip by redis-py": 'request = ["round_trip:build"]\n',
}
ROUTE = '[[route]]\nprefix = "/"\nupstream = "origin"\n'
ROUND_TRIP = '''"""A round trip for every request, the way one would write it."""
import os
from gateway.core.hooks import Hooks
from redis.asyncio import Redis

client = Redis(port=int(os.environ["REDIS_PORT"]))


async def count(exchange):
    async with client.pipeline(transaction=False) as pipe:
        found = await pipe.incr(exchange.client_ip).expire(exchange.client_ip, 60).execute()
    exchange.reply_blocks = [b"X-RateLimit-Remaining: %d\\r\\n" % (10**9 - found[0])]


def build(config, context):
    return Hooks(request=count)
'''
EVERYBODY = "{default_value: {numerator: 100, denominator: HUNDRED}}"
ENVOY_FILTER = (
    '{name: envoy.filters.http.local_ratelimit, typed_config: {"@type": '
    "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, "
    "stat_prefix: limit, "
    "enable_x_ratelimit_headers: DRAFT_VERSION_03, "
    f"filter_enabled: {EVERYBODY}, filter_enforced: {EVERYBODY}, "
    "token_bucket: {max_tokens: 1000000000, tokens_per_fill: 1000000000, fill_interval: 60s}}}, "
)


def gateways(work: Path, redis_port: int) -> dict[str, tuple[list[str], int]]:
    found = {}
    (work / "round_trip.py").write_text(ROUND_TRIP)
    for index, (name, pipeline) in enumerate(WAYS.items()):
        directory = work / f"way{index}"
        (directory / "pipelines").mkdir(parents=True)
        store = (
            f'[store]\nurl = "redis://127.0.0.1:{redis_port}"\ndeadline = "250ms"\n'
            if "mode" in pipeline
            else ""
        )
        (directory / "gateway.toml").write_text(
            f"[listen]\nport = {8080 + index}\n[admin]\nport = {8180 + index}\n{store}"
        )
        ends = ", ".join(f'{{ url = "http://127.0.0.1:{port}" }}' for port in (29001, 29002))
        (directory / "upstreams.toml").write_text(f"[upstream.origin]\nendpoints = [{ends}]\n")
        (directory / "pipelines" / "bench.toml").write_text(pipeline + ROUTE)
        paths = f"PYTHONPATH={side.HERE.parent}:{work}"
        command = [
            "env",
            paths,
            f"REDIS_PORT={redis_port}",
            sys.executable,
            "-m",
            "gateway",
            "run",
            "--config",
        ]
        found[name] = ([*command, str(directory / "gateway.toml")], 8080 + index)
    return found


def envoys(work: Path) -> dict[str, tuple[list[str], int]]:
    program = shutil.which("envoy", path=f"{os.environ.get('PEERS', side.HERE / '.peers')}/bin")
    if program is None:
        print("envoy is not installed: bench/setup.sh", file=sys.stderr)
        return {}
    plain = (work / "envoy-plain.yaml").read_text()
    limited = plain.replace("http_filters: [", "http_filters: [" + ENVOY_FILTER)
    assert limited != plain
    (work / "envoy-limited.yaml").write_text(limited)
    flags = ["--concurrency", "1", "-l", "error", "--disable-hot-restart"]
    return {
        name: ([program, "-c", str(work / conf), *flags], side.PEER_PORT)
        for name, conf in (
            ("envoy, no limit", "envoy-plain.yaml"),
            ("envoy, local limit", "envoy-limited.yaml"),
        )
    }


def compare(words: list[str]) -> None:
    seconds, rounds = (*map(int, words), *(4, 3)[len(words) :])
    work = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    side.write_templates(work)
    with RedisServer() as server:
        subprocess.run(
            ["taskset", "-p", "-c", "0", str(server.pid)], check=True, capture_output=True
        )
        chosen = {**gateways(work, server.port), **envoys(work)}
        results = side.measure(chosen, side.Load(side.PROFILES["plain"], seconds, 64), rounds, work)
    print(f"64 connections, {rounds} rounds of {seconds} s, one core each")
    print(
        "| a plain route | CPU us a request | added by the limit | req/s | failed "
        "|\n|---|---|---|---|---|"
    )
    medians = {
        name: statistics.median(one.cpu_us for one in found)
        for name, found in results.items()
        if found
    }
    for name, cost in medians.items():
        base = medians.get(name.partition(",")[0] + ", no limit", cost)
        middle = sorted(results[name], key=lambda one: one.cpu_us)[len(results[name]) // 2]
        print(
            (
                f"| {name} | {cost:.1f} | {cost - base:+.1f} | {middle.rps:.0f} | {middle.failed} "
                f"{middle.errors} |"
            ),
            flush=True,
        )
    shutil.rmtree(work, ignore_errors=True)
