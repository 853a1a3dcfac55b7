#!/usr/bin/env python3
"""HTTP/2 beside nginx and Envoy, with h2load: the partner profile over TLS, on one core each, in
one run.

    bench/setup.sh && apt-get install nghttp2-client
    bin/compiled bench/http2.py                         # 64 connections x 1 stream, and 8 x 32

The figure to quote is CPU microseconds a request, as in bench/compare.py, whose configurations and
origin these are.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compare

SHAPES = ((64, 1), (8, 32))
TARGET = compare.PROFILES["partner"]
LISTEN = """[listen]
port = 8080
http2 = true
tls = { certificate = "edge.pem", key = "edge.key" }
"""
ENVOY_TLS = compare.ENVOY_TLS.replace("[http/1.1]", "[h2, http/1.1]")


def write_configurations(work: Path) -> None:
    """The partner profile of each, with TLS and ALPN for HTTP/2."""
    compare.write_templates(work, tls=True)
    ours = work / "ours"
    shutil.copytree(compare.HERE / "partner", ours)
    for name in ("edge.pem", "edge.key"):
        shutil.copy(work / name, ours)
    table = (ours / "gateway.toml").read_text()
    (ours / "gateway.toml").write_text(table.replace("[listen]\nport = 8080\n", LISTEN))
    nginx = work / "nginx-partner.conf"
    tls = compare.PEERS["nginx"].tls.replace("{work}", str(work))
    nginx.write_text(nginx.read_text().replace("backlog=8192;", f"backlog=8192 http2{tls};"))
    envoy = work / "envoy-partner.yaml"
    tls = ENVOY_TLS.replace("{work}", str(work))
    envoy.write_text(envoy.read_text().replace("    - filters:", f"    - {tls}filters:"))


def h2load(port: int, clients: int, streams: int, seconds: int, requests: int = 0) -> str:
    """What h2load has to say."""
    command = ["taskset", "-c", "0", "h2load", f"-c{clients}", f"-m{streams}"]
    command += [f"-n{requests}"] if requests else [f"-D{seconds}"]
    for header in TARGET.headers:
        command += ["-H", header]
    command.append(f"https://127.0.0.1:{port}{TARGET.path}")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def one_round(
    command: list[str], port: int, shape: tuple[int, int], seconds: int, log: Path
) -> dict[str, float]:
    """Start a proxy on the second core, and load it."""
    if compare.answers(port):
        raise RuntimeError(f"port {port} is taken")
    with log.open("ab") as err:
        process = subprocess.Popen(
            ["taskset", "-c", "1", *command], stdout=subprocess.DEVNULL, stderr=err
        )
    try:
        compare.wait_port(port, process)
        time.sleep(1.0)
        h2load(port, *shape, seconds, 2000)
        before = compare.cpu_seconds(process.pid)
        said = h2load(port, *shape, seconds)
        used = compare.cpu_seconds(process.pid) - before
        done = int(compare.found(r"(\d+) succeeded", said))
        return {
            "cpu_us": used / max(done, 1) * 1e6,
            "rps": done / seconds,
            "failed": float(compare.found(r"(\d+) failed", said)),
            "other": float(done - int(compare.found(r"(\d+) 2xx", said))),
        }
    finally:
        compare.stop(process)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--peers-dir", default=str(compare.HERE / ".peers"))
    parser.add_argument("--json", type=Path, help="write every round to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        write_configurations(work)
        config = str(work / "ours" / "gateway.toml")
        chosen = {
            "gateway": ([sys.executable, "-m", "gateway", "run", "--config", config], 8080),
            "nginx": (["nginx", "-c", str(work / "nginx-partner.conf")], compare.PEER_PORT),
            "envoy": (
                [
                    f"{options.peers_dir}/bin/envoy",
                    *["-c", str(work / "envoy-partner.yaml"), "--concurrency", "1"],
                    *["-l", "error", "--disable-hot-restart"],
                ],
                compare.PEER_PORT,
            ),
        }
        log = work / "stderr.log"
        rounds: dict[str, dict[str, list[dict[str, float]]]] = {}
        origin = subprocess.Popen(["taskset", "-c", "0", "nginx", "-c", str(work / "origin.conf")])
        try:
            compare.wait_port(29001, origin)
            for shape in SHAPES:
                of_shape = rounds[f"{shape[0]} x {shape[1]}"] = {name: [] for name in chosen}
                for _ in range(options.rounds):
                    for name, (command, port) in chosen.items():
                        of_shape[name].append(one_round(command, port, shape, options.seconds, log))
        except RuntimeError:
            print(log.read_text()[-2000:], file=sys.stderr)
            raise
        finally:
            compare.stop(origin)
        show(rounds)
        if options.json:
            options.json.write_text(json.dumps(rounds, indent=1))
    return 0


def show(rounds: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    print(f"{'':22} {'cpu us/req':>10} {'gateway/it':>10} {'req/s':>9}  failed")
    for shape, measured in rounds.items():
        ours = statistics.median(one["cpu_us"] for one in measured["gateway"])
        for name, of_it in measured.items():
            middle = sorted(of_it, key=lambda one: one["cpu_us"])[len(of_it) // 2]
            failed = sum(one["failed"] + one["other"] for one in of_it)
            print(
                f"{shape:>10} {name:11} {middle['cpu_us']:10.1f} "
                f"{ours / middle['cpu_us']:10.2f} {middle['rps']:9.0f}  {failed:.0f}"
            )


if __name__ == "__main__":
    raise SystemExit(main())
