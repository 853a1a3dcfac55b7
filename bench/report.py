#!/usr/bin/env python3
"""Measures everything that docs/performance.md states and writes that page, plot included.

    bin/bench --report [--rounds 3] [--seconds 1] [--peers python,nginx,haproxy,envoy,traefik,caddy]

It takes about nine minutes and wants two quiet cores; a figure from a busy machine is no figure.
plain and partner are measured beside every peer and in plain Python, the other profiles beside
nginx and Envoy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import budget  # noqa: E402
import scale  # noqa: E402

Rounds = dict[str, list[dict[str, Any]]]

EVERYONE = ("python", "nginx", "haproxy", "envoy", "traefik", "caddy")
TWO = ("nginx", "envoy")
PROFILES = {
    "plain": EVERYONE,
    "partner": EVERYONE,
    "gzip": TWO,
    "cached": ("nginx",),
    "varied": TWO,
    "post": TWO,
    "postplain": TWO,
    "download": TWO,
    "upload": TWO,
    "tls": TWO,
    "handshake": TWO,
    "close": TWO,
}
"""The peers that each profile is measured beside."""

UNDRAWN = ("download", "upload", "handshake")
"""What the plot leaves out: beside these all other bars would be stubs."""

METHOD = """# Performance

What a request costs here, beside other proxies with the same features. Everything on this page was
written by one command, `bin/bench --report`, on the machine named below; run it on yours.

**Method.** Each proxy is pinned to one core, with one worker; wrk and the origin (nginx, two ports,
1.2 kB of JSON) share the other. Rounds are interleaved, and the median round counts. The figure is
CPU time of the proxy per request answered, user and system, its children included: it says what a
core can carry, and moves less with the machine's mood than requests a second. Only ratios within
one run mean anything; absolute figures differ from machine to machine and from hour to hour. Ratios
differ as well, with how much of the processor's caches a proxy has to itself: neighbours and many
connections cost some proxies a quarter more and others twice as much (1,000 connections, below).

**The build.** *gateway* is the compiled one, which the image has
([deploy.md](deploy.md#the-compiled-build)); *python* is the same in plain Python, as it is installed
without a compiler and as operators' own middlewares run in both.

**What is compared.** *plain*: routing and balancing alone. *partner*: API key, limit by key, CORS,
JSON access log, metrics, security headers, request id, health checks, retries and a breaker.
*gzip*: the same, for a client that accepts gzip. *cached*: the same, for an answer that may be
cached (of the peers only nginx caches here). *varied*: partner with a target, a request id and an
answer's field that occur once and never again. Each table names the peers that were measured. What
a peer lacks is in `bench/README.md`.

**Bodies and connections.** *post* sends 1 kB of JSON through partner and *postplain* through plain,
where the origin answers with 60 bytes; *download* takes 1 MiB from the origin through plain and
*upload* sends it 1 MiB of JSON. *tls* is plain over TLS with a P-256 certificate and connections
that are kept, *handshake* the same with a new connection for each request (wrk resumes its session
wherever the proxy issues tickets), and *close* is *handshake* without TLS. The plot leaves
*download*, *upload* and *handshake* out, which would dwarf the rest.

**What repeats.** wrk sends the same request over and over, as many clients do, and the gateway
makes use of it: fields that a connection repeats byte for byte are not parsed, judged and copied
again, towards the client and towards the endpoint; a small body that was compressed lately is not
compressed again. *varied* is what it costs when every request and every answer is new; most traffic
lies between the two.
"""


def compare(
    profile: str, options: argparse.Namespace, connections: int, peers: str, work: Path
) -> Rounds:
    """One run of compare.py: every round by proxy."""
    out = work / f"{profile}-{connections}.json"
    command = [
        sys.executable, str(HERE / "compare.py"), "--profile", profile, "--peers", peers,
        "--connections", str(connections), "--rounds", str(options.rounds),
        "--seconds", str(options.seconds), "--json", str(out),
    ]  # fmt: skip
    if options.peers_dir:
        command += ["--peers-dir", options.peers_dir]
    subprocess.run(command, check=True, cwd=HERE.parent)
    rounds: Rounds = json.loads(out.read_text())
    return rounds


def chosen(peers: tuple[str, ...], wanted: str) -> str:
    """Those of a profile's peers that `--peers` wants, as compare.py takes them."""
    return ",".join(name for name in peers if name in wanted.split(","))


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return sorted(rounds, key=lambda one: one["cpu_us"])[len(rounds) // 2]


def side_by_side(results: Rounds) -> list[str]:
    ours = statistics.median(one["cpu_us"] for one in results["gateway"])
    lines = [
        "| | CPU us a request | gateway / it | requests a second | p50 | p99 | RSS MiB | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in results.items():
        if rounds:
            one = middle(rounds)
            lines.append(
                f"| {name} | {one['cpu_us']:.1f} | {ours / one['cpu_us']:.2f} | {one['rps']:.0f} "
                f"| {one['p50']} | {one['p99']} "
                f"| {one['rss_mib']:.0f} | {one['failed']} {one['errors']} |"
            )
    return lines


def plot(results: dict[str, Rounds]) -> str:
    """Bars of CPU time by profile and proxy, as SVG."""
    results = {name: found for name, found in results.items() if name not in UNDRAWN}
    names = list(results["partner"])
    colours = dict(
        zip(
            names,
            ("#d6336c", "#f783ac", "#868e96", "#868e96", "#495057", "#adb5bd", "#ced4da"),
            strict=False,
        )
    )
    parts, top = [], 20
    most = max(
        middle(rounds)["cpu_us"]
        for by_name in results.values()
        for rounds in by_name.values()
        if rounds
    )
    for profile, by_name in results.items():
        parts.append(f'<text x="10" y="{top + 12}" font-weight="bold">{profile}</text>')
        for name, rounds in by_name.items():
            if not rounds:
                continue
            cost = middle(rounds)["cpu_us"]
            width = cost / most * 520
            parts.append(f'<text x="150" y="{top + 12}" text-anchor="end">{name}</text>')
            parts.append(
                f'<rect x="158" y="{top}" width="{width:.1f}" height="15" fill="{colours[name]}"/>'
            )
            parts.append(f'<text x="{164 + width:.1f}" y="{top + 12}">{cost:.1f}</text>')
            top += 19
        top += 12
    title = "CPU microseconds per request, one core, less is better"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{top + 10}" '
        f'font-family="sans-serif" font-size="12">'
        f'<title>{title}</title><text x="10" y="12" fill="#495057">{title}</text>'
        f'<g transform="translate(0 12)">{"".join(parts)}</g></svg>\n'
    )


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, Python "
        f"{platform.python_version()}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--peers", default=",".join(EVERYONE), help="leave the other peers out")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs", help="where to write")
    parser.add_argument("--peers-dir", default=os.environ.get("PEERS", ""))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        results = {
            name: compare(name, options, 64, chosen(peers, options.peers), work)
            for name, peers in PROFILES.items()
        }
        crowd = compare("partner", options, 1000, chosen(("envoy",), options.peers), work)
    today = datetime.now(UTC).date()
    page = [
        METHOD,
        (
            f"**Machine.** {machine()}; {today}, {options.rounds} rounds of {options.seconds} s, "
            "64 connections.\n"
        ),
    ]
    page += ["![CPU time per request](performance.svg)\n"]
    for profile, by_name in results.items():
        page += [f"## {profile}\n", *side_by_side(by_name), ""]
    page += ["## partner at 1,000 connections\n", *side_by_side(crowd), ""]
    page += ["## What each middleware adds\n"]
    page += [
        (
            "In memory, without system calls, the best of 40 runs: `bench/budget.py each`. The "
            "first "
            "row is the way without any.\n"
        )
    ]
    page += ["| middleware | us |", "|---|---|"]
    page += [f"| {name} | {micros:.2f} |" for name, micros, _ in budget.each()]
    page += [
        "",
        "## What grows with size\n",
        (
            "`bench/scale.py`; nothing on a request's way grows with the number of routes or of "
            "limited clients.\n"
        ),
    ]
    page += [
        "| what | ns |",
        "|---|---|",
        *(f"| {what} | {cost:.0f} |" for what, cost in scale.table()),
    ]
    page += ["", "## The guard\n"]
    page += [
        (
            "CI counts function calls and bytecodes of a request in plain Python (`bench/budget.py check`) and "
            "fails "
            "when a profile gets more than"
        )
    ]
    page += [
        "5 % dearer than `bench/budget.json` records. The counts do not depend on the machine.",
        "",
    ]
    (options.docs / "performance.md").write_text("\n".join(page))
    (options.docs / "performance.svg").write_text(plot(results))
    print(f"written: {options.docs / 'performance.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
