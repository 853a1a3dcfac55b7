#!/usr/bin/env python3
"""Measure the gateway side by side with other proxies, on one core each, in one run.

    bench/setup.sh                          # once a machine
    bin/bench --profile partner

The figure to quote is CPU microseconds per request of the proxy under test (user + system time of
its process and children, divided by requests answered), as a ratio to each peer: it hardly moves
with the load on the machine. Requests a second, p50 and p99 are printed beside it. Rounds are
interleaved (A B C A B C ...) and the median round is taken.

The origin (nginx serving 1.2 kB of JSON) listens on 127.0.0.1:29001 and :29002 and, with wrk, is
pinned to core 0; whatever is measured runs on core 1, one worker.

bin/bench measures the compiled gateway; the peer `python` is the same in plain Python.

Profiles: plain      no middlewares: GET /api/v1/cameras
          partner    API key, limit by key, CORS, JSON access log to a file, metrics, request id,
                     health checks, retries and circuit breaker configured; the client accepts no
                     compression
          gzip       the same with Accept-Encoding: gzip
          cached     partner on GET /cacheable/list, which the origin marks max-age=600 (nginx, the
                     only peer here that can cache)
          varied     partner, with fields that no other request and no other answer has: nothing
                     can be remembered of either
          post       partner on POST /orders with 1 kB of JSON; postplain: no middlewares
          download   plain on GET /big of 1 MiB
          upload     plain on POST /orders with 1 MiB of JSON
          tls        plain over https, connections kept
          handshake  plain over https, a new connection for every request; wrk resumes its session
                     wherever the proxy issues tickets
          close      handshake without TLS
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
KEY = "bec_" + "0123456789abcdef" * 4
HEADERS = (
    f"X-API-Key: {KEY}",
    "Origin: https://app.example.com",
    "User-Agent: partner-sdk/1.4",
    "Accept: application/json",
    "X-Client-Version: 3.2",
)
PEER_PORT = 28080
PYTHON = "python"
"""The peer that is this gateway, not compiled."""
SOURCES = os.environ.get("PLAIN", str(HERE.parent))
"""Where it is imported from; bin/bench says so."""


@dataclass(frozen=True)
class Profile:
    """`kind` names the configuration files, of ours and of the peers'."""

    kind: str
    path: str
    headers: tuple[str, ...] = ()
    script: str = ""
    """What wrk makes its requests with, a file beside this one."""
    body: int = 0
    """Bytes that post.lua posts."""
    tls: bool = False


POST = "post.lua"
CLOSE = ("Connection: close",)
PROFILES = {
    "plain": Profile("plain", "/api/v1/cameras"),
    "partner": Profile("partner", "/api/v1/cameras", HEADERS),
    "gzip": Profile("partner", "/api/v1/cameras", (*HEADERS, "Accept-Encoding: gzip")),
    "cached": Profile("partner", "/cacheable/list", HEADERS),
    "varied": Profile("partner", "/varied/cameras", HEADERS, "varied.lua"),
    "post": Profile("partner", "/orders", HEADERS, POST, body=1000),
    "postplain": Profile("plain", "/orders", script=POST, body=1000),
    "download": Profile("plain", "/big"),
    "upload": Profile("plain", "/orders", script=POST, body=2**20),
    "tls": Profile("plain", "/api/v1/cameras", tls=True),
    "handshake": Profile("plain", "/api/v1/cameras", CLOSE, tls=True),
    "close": Profile("plain", "/api/v1/cameras", CLOSE),
}


@dataclass(frozen=True)
class Peer:
    """How to start one: `{conf}` in the command is its configuration file, `{kind}` in that file's
    name the profile's kind. `tls` replaces `{tls}` in its plain file; without, it is measured
    without TLS only."""

    conf: str
    command: tuple[str, ...]
    tls: str = ""


ENVOY_TLS = (
    'transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/'
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, "
    "common_tls_context: {alpn_protocols: [http/1.1], tls_certificates: "
    "[{certificate_chain: {filename: {work}/edge.pem}, "
    "private_key: {filename: {work}/edge.key}}]}}}"
    "\n      "
)


PEERS = {
    "nginx": Peer(
        "nginx-{kind}.conf",
        ("nginx", "-c", "{conf}"),
        " ssl; ssl_protocols TLSv1.2 TLSv1.3; "
        "ssl_certificate {work}/edge.pem; ssl_certificate_key {work}/edge.key",
    ),
    "haproxy": Peer(
        "haproxy-{kind}.cfg", ("haproxy", "-f", "{conf}"), " ssl crt {work}/both.pem alpn http/1.1"
    ),
    "envoy": Peer(
        "envoy-{kind}.yaml",
        (
            "envoy",
            "-c",
            "{conf}",
            "--concurrency",
            "{workers}",
            "-l",
            "error",
            "--disable-hot-restart",
        ),
        ENVOY_TLS,
    ),
    "traefik": Peer("traefik-{kind}.yml", ("traefik", "--configfile={conf}")),
    "caddy": Peer(
        "caddy-{kind}.caddyfile",
        ("caddy", "run", "--config", "{conf}", "--adapter", "caddyfile"),
        "\n tls {work}/edge.pem {work}/edge.key",
    ),
}


@dataclass(frozen=True)
class Round:
    """One measurement; `p50` and `p99` as wrk words them, `errors` its socket errors."""

    cpu_us: float
    rps: float
    p50: str
    p99: str
    rss_mib: float
    failed: int
    errors: str


@dataclass(frozen=True)
class Load:
    """What is asked of a proxy."""

    profile: Profile
    seconds: int
    connections: int
    workers: int = 1

    def wrk(self, port: int, seconds: int) -> list[str]:
        command = ["taskset", "-c", "0", "wrk", "-t1", f"-c{self.connections}", "--latency"]
        command.append(f"-d{seconds}s")
        for header in self.profile.headers:
            command += ["-H", header]
        if self.profile.script:
            command += ["-s", str(HERE / self.profile.script)]
        scheme = "https" if self.profile.tls else "http"
        command.append(f"{scheme}://127.0.0.1:{port}{self.profile.path}")
        return [*command, "--", str(self.profile.body)] if self.profile.body else command


def tree(pid: int) -> list[int]:
    """A process and everything below it."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            pids += tree(int(child))
    return pids


def cpu_seconds(pid: int) -> float:
    ticks = 0
    for one in tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def wait_port(port: int, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"exited with {process.returncode}")
        if answers(port):
            return
        time.sleep(0.1)
    raise RuntimeError(f"port {port} did not open")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def one_round(command: list[str], port: int, load: Load, work: Path, log: IO[bytes]) -> Round:
    """Start a proxy on the second core, or on all where it has several workers, and load it."""
    if answers(port):
        raise RuntimeError(f"port {port} is taken")
    env = {
        **os.environ,
        "GOMAXPROCS": str(load.workers),
        "GATEWAY_ACCESS_LOG": str(work / "gateway-access.log"),
        "BENCH_CERTIFICATE": str(work / "edge.pem"),
        "BENCH_KEY": str(work / "edge.key"),
    }
    cores = "1" if load.workers == 1 else f"0-{load.workers - 1}"
    process = subprocess.Popen(
        ["taskset", "-c", cores, *command], stdout=subprocess.DEVNULL, stderr=log, env=env
    )
    try:
        wait_port(port, process)
        time.sleep(1.0)
        subprocess.run(load.wrk(port, 1), capture_output=True, check=True)
        before = cpu_seconds(process.pid)
        out = subprocess.run(
            load.wrk(port, load.seconds), capture_output=True, text=True, check=True
        ).stdout
        used = cpu_seconds(process.pid) - before
        return Round(
            cpu_us=used / max(int(found(r"(\d+) requests in", out)), 1) * 1e6,
            rps=float(found(r"Requests/sec:\s+([\d.]+)", out)),
            p50=found(r"^\s+50%\s+(\S+)", out),
            p99=found(r"^\s+99%\s+(\S+)", out),
            rss_mib=rss_mib(process.pid),
            failed=int(found(r"Non-2xx or 3xx responses: (\d+)", out) or 0),
            errors=found(r"Socket errors: (.*)", out),
        )
    finally:
        stop(process)


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else ""


def write_certificate(work: Path) -> None:
    """edge.pem and edge.key, P-256 and self-signed; both.pem is the two in one file."""
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", str(work / "edge.key"), "-out", str(work / "edge.pem")]
    subprocess.run([*request.split(), *names, *files], check=True, capture_output=True)
    both = (work / "edge.pem").read_text() + (work / "edge.key").read_text()
    (work / "both.pem").write_text(both)


def write_templates(work: Path, tls: bool = False, workers: int = 1) -> None:
    """The peers' configuration files with their ports and paths filled in, what the origin serves
    and, with `tls`, a certificate."""
    work.chmod(0o755)
    (work / "www").mkdir()
    cameras = [
        {"id": i, "name": f"camera-{i}", "status": "active", "count": i * 7} for i in range(18)
    ]
    (work / "www/data.json").write_text(json.dumps(cameras))
    (work / "www/big.bin").write_bytes(os.urandom(2**20))
    if tls:
        write_certificate(work)
    ports = {"port": PEER_PORT, "origin1": 29001, "origin2": 29002, "admin": 28090}
    values = {
        **ports,
        "scheme": "https" if tls else "http",
        "work": work,
        "key": KEY,
        "workers": workers,
    }
    for template in (HERE / "peers").iterdir():
        peer = PEERS.get(template.name.partition("-")[0])
        text = template.read_text().replace("{tls}", peer.tls if peer and tls else "")
        for name, value in values.items():
            text = text.replace("{" + name + "}", str(value))
        (work / template.name).write_text(text)


def commands(options: argparse.Namespace, work: Path) -> dict[str, tuple[list[str], int]]:
    """Command and port of everything to be measured; peers that are not installed are left out,
    aloud."""
    profile = PROFILES[options.profile]
    kind = profile.kind
    file = HERE / kind / ("tls.toml" if profile.tls else "gateway.toml")
    ours = [sys.executable, "-m", "gateway", "run", "--config", str(file)]
    if options.gateway:
        ours = shlex.split(options.gateway)
    chosen = {"gateway": (ours, options.port)}
    if options.workers > 1:
        one, several = (["env", f"BENCH_WORKERS={count}", *ours] for count in (1, options.workers))
        chosen = {"gateway": (several, options.port), "one worker": (one, options.port)}
    search = f"{options.peers_dir}/bin{os.pathsep}{os.environ.get('PATH', '')}"
    for name in filter(None, options.peers.split(",")):
        if name == PYTHON:
            chosen[name] = (["env", f"PYTHONPATH={SOURCES}", *ours], options.port)
            continue
        program = shutil.which(PEERS[name].command[0], path=search)
        if program is None:
            print(f"{name} is not installed: bench/setup.sh", file=sys.stderr)
            continue
        if profile.tls and not PEERS[name].tls:
            print(f"{name} is measured without TLS only", file=sys.stderr)
            continue
        conf = str(work / PEERS[name].conf.format(kind=kind))
        chosen[name] = (
            [
                program,
                *(
                    part.replace("{conf}", conf).replace("{workers}", str(options.workers))
                    for part in PEERS[name].command[1:]
                ),
            ],
            PEER_PORT,
        )
    return chosen


def measure(
    chosen: dict[str, tuple[list[str], int]], load: Load, rounds: int, work: Path
) -> dict[str, list[Round]]:
    results: dict[str, list[Round]] = {name: [] for name in chosen}
    with (work / "stderr.log").open("wb") as log:
        origin = subprocess.Popen(
            ["taskset", "-c", "0", "nginx", "-c", str(work / "origin.conf")], stderr=log
        )
        try:
            wait_port(29001, origin)
            for _ in range(rounds):
                for name, (command, port) in chosen.items():
                    try:
                        results[name].append(one_round(command, port, load, work, log))
                    except (RuntimeError, subprocess.CalledProcessError) as error:
                        print(f"{name}: {error}; see {work}/stderr.log", file=sys.stderr)
        finally:
            stop(origin)
    return results


def show(results: dict[str, list[Round]], options: argparse.Namespace) -> None:
    rounds = f"{options.rounds} rounds of {options.seconds} s"
    cores = "one core each" if options.workers == 1 else f"{options.workers} workers each"
    print(f"profile {options.profile}, {options.connections} connections, {rounds}, {cores}")
    print(
        f"{'':10} {'cpu us/req':>10} {'gateway/it':>10} {'req/s':>9} {'p50':>9} {'p99':>9} "
        f"{'RSS MiB':>8}  failed"
    )
    ours = (
        statistics.median(one.cpu_us for one in results["gateway"]) if results["gateway"] else None
    )
    for name, measured in results.items():
        if measured:
            middle = sorted(measured, key=lambda one: one.cpu_us)[len(measured) // 2]
            ratio = f"{ours / middle.cpu_us:.2f}" if ours else "-"
            print(
                f"{name:10} {middle.cpu_us:10.1f} {ratio:>10} {middle.rps:9.0f} {middle.p50:>9} "
                f"{middle.p99:>9} "
                f"{middle.rss_mib:8.0f}  {middle.failed} {middle.errors}"
            )


def options_of(description: str | None) -> argparse.ArgumentParser:
    """The options that every comparison has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument(
        "--workers", type=int, default=1, help="of the gateway, nginx and Envoy, on as many cores"
    )
    parser.add_argument("--port", type=int, default=8080, help="the port the gateway listens on")
    parser.add_argument("--peers-dir", default=os.environ.get("PEERS", str(HERE / ".peers")))
    parser.add_argument("--json", type=Path, help="write every round to this file")
    return parser


def lacking() -> bool:
    """Whether something is missing that every comparison needs, having said what."""
    missing = [program for program in ("wrk", "nginx", "taskset") if shutil.which(program) is None]
    if missing or (os.cpu_count() or 1) < 2:
        print(
            f"missing: {', '.join(missing) or 'a second core'}; see bench/setup.sh", file=sys.stderr
        )
        return True
    return False


def arguments() -> argparse.Namespace:
    parser = options_of(__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="partner")
    parser.add_argument(
        "--peers",
        default=",".join(PEERS),
        help="comma-separated, `python` is one more; empty for the gateway alone",
    )
    parser.add_argument(
        "--gateway", help="another command that starts a gateway, one worker (default: this one)"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if lacking():
        return 1
    work = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    profile = PROFILES[options.profile]
    write_templates(work, profile.tls, options.workers)
    load = Load(profile, options.seconds, options.connections, options.workers)
    results = measure(commands(options, work), load, options.rounds, work)
    show(results, options)
    if options.json:
        options.json.write_text(
            json.dumps(
                {name: [asdict(one) for one in rounds] for name, rounds in results.items()},
                indent=1,
            )
        )
    if not all(results.values()):
        return 1
    shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
