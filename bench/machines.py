"""Two machines, as far as one can be two: gateways in network namespaces of their own, with a Redis
and a TCP balancer in others. Prints what docs/scaling.md shows.

    sudo .venv/bin/python -m bench.machines

Needs root, ip, redis-server and haproxy. Namespaces and links are gone afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

NET = "10.213.77"
HOST, REDIS, BALANCER = f"{NET}.1", f"{NET}.2", f"{NET}.3"
GATEWAYS = {"gw1": f"{NET}.11", "gw2": f"{NET}.12"}
MACHINES = {"redis": REDIS, "balancer": BALANCER, **GATEWAYS}
LIMIT = 1000
CONFIG = {
    "gateway.toml": f"""
[listen]
host = "0.0.0.0"
[admin]
host = "0.0.0.0"
[store]
url = "redis://{REDIS}:6379/0"
deadline = "1s"
[tokens]
issuer = "https://edge.example.com"
users = "users.toml"
keys = [{{ key = {{ file = "signing.pem" }} }}]
argon2 = {{ memory = "64KiB", passes = 1, lanes = 1 }}
""",
    "upstreams.toml": "",
    "pipelines/limits.toml": f"""
request = ["rate_limit"]
[rate_limit]
key = "global"
algorithm = "fixed_window"
limit = {LIMIT}
window = "1h"
[[route]]
path = "/exact"
respond = {{ status = 200, text = "yes" }}
[[route]]
path = "/leased"
rate_limit = {{ limit = {LIMIT}, window = "1h", mode = "leased" }}
respond = {{ status = 200, text = "yes" }}
""",
    "pipelines/users.toml": f"""
request = ["auth"]
[auth]
methods = ["jwt", "api_key"]
api_key = {{ store = "redis://{REDIS}:6379/0" }}
[[auth.jwt]]
issuer = "https://edge.example.com"
own = true
[[route]]
path = "/login"
builtin = "login"
auth = false
[[route]]
path = "/logout"
builtin = "logout"
[[route]]
path = "/me"
respond = {{ status = 200, text = "yes" }}
""",
}
HAPROXY = f"""
defaults
  mode tcp
  timeout connect 500ms
  timeout client 30s
  timeout server 30s
  retries 3
  option redispatch 1
listen edge
  bind *:8080
  balance roundrobin
  option httpchk GET /admin/ready
  default-server check inter 200ms fall 2 rise 2 port 9901
{"".join(f"  server {name} {address}:8080{chr(10)}" for name, address in GATEWAYS.items())}
"""


def run(*words: str) -> str:
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout


def inside(name: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a program on one machine."""
    return subprocess.Popen(
        ["ip", "netns", "exec", f"edge-{name}", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent.parent,
    )  # fmt: skip


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A switch, and a namespace with a link to it for each machine."""
    run("ip", "link", "add", "edge-br", "type", "bridge")
    try:
        run("ip", "addr", "add", f"{HOST}/24", "dev", "edge-br")
        run("ip", "link", "set", "edge-br", "up")
        for name, address in MACHINES.items():
            run("ip", "netns", "add", f"edge-{name}")
            run(
                "ip",
                "link",
                "add",
                f"edge-{name}",
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                f"edge-{name}",
            )
            run("ip", "link", "set", f"edge-{name}", "master", "edge-br", "up")
            for words in (
                ("addr", "add", f"{address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                run("ip", "-n", f"edge-{name}", *words)
        yield
    finally:
        for name in MACHINES:
            subprocess.run(["ip", "netns", "del", f"edge-{name}"], capture_output=True)
        subprocess.run(["ip", "link", "del", "edge-br"], capture_output=True)


async def ask(
    address: str, path: str, *fields: str, method: str = "GET", body: str = ""
) -> tuple[int, str]:
    """Status and body of one request on a connection of its own; 0 for one that broke."""
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(address, 8080)
            head = [f"{method} {path} HTTP/1.1", "Host: edge", "Connection: close", *fields]
            if body:
                head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
            writer.write(("\r\n".join(head) + "\r\n\r\n" + body).encode())
            answer = (await reader.read()).decode()
            writer.close()
            return (int(answer.split()[1]), answer.partition("\r\n\r\n")[2]) if answer else (0, "")
    except (OSError, TimeoutError):
        return 0, ""


async def flood(path: str, count: int, seconds: float = 0.0) -> Counter[int]:
    """Statuses of so many requests through the balancer, in no less time than that."""
    found: Counter[int] = Counter()
    left, start = iter(range(count)), time.monotonic()

    async def some() -> None:
        for number in left:
            await asyncio.sleep(start + number * seconds / count - time.monotonic())
            found[(await ask(BALANCER, path))[0]] += 1

    await asyncio.gather(*(some() for _ in range(32)))
    return found


async def at_both(path: str, *fields: str) -> list[int]:
    return [(await ask(address, path, *fields))[0] for address in GATEWAYS.values()]


async def without_store() -> int:
    """How many requests both have decided while they did not reach Redis."""
    total = 0.0
    for address in GATEWAYS.values():
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(address, 9901)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            text = (await reader.read()).decode()
            writer.close()
        for line in text.splitlines():
            if line.startswith("gateway_rate_limit_fallback_total{"):
                total += float(line.rsplit(" ", 1)[1])
    return int(total)


async def until(path: str, fields: str, expected: int) -> float:
    """Seconds until both say so."""
    start = time.monotonic()
    while await at_both(path, fields) != [expected] * 2:
        if time.monotonic() > start + 30:
            return -1
        await asyncio.sleep(0.005)
    return time.monotonic() - start


async def checks(keys: list[str]) -> None:
    while [status for status in await at_both("/login") if not status]:
        await asyncio.sleep(0.1)
    while (await ask(BALANCER, "/login"))[0] == 0:
        await asyncio.sleep(0.1)
    for path, bound in (("/exact", LIMIT), ("/leased", LIMIT * 1.1 + 4)):
        found = await flood(path, 2 * LIMIT)
        print(
            f"{path[1:]}: {found[200]} of {LIMIT} admitted, at most {bound:.0f}: {dict(found)}; "
            f"{await without_store()} decided without Redis"
        )

    body = json.dumps({"username": "alice", "password": "old password"})
    status, text = await ask(BALANCER, "/login", method="POST", body=body)
    token = f"Authorization: Bearer {json.loads(text)['access_token']}"
    print(f"login: {status}; its token at both: {await at_both('/me', token)}")
    status, _ = await ask(BALANCER, "/logout", token, method="POST")
    print(f"logout: {status}; refused at both after {await until('/me', token, 401) * 1000:.0f} ms")

    told = run(*keys, "create", "--client", "acme", "--store", f"redis://{REDIS}:6379/0")
    secret = next(word for word in told.split() if word.startswith("bec_"))
    id = next(word.strip(".,:") for word in told.split() if word.startswith("k_"))
    key = f"X-API-Key: {secret}"
    print(f"a key that is made is good at both after {await until('/me', key, 200) * 1000:.0f} ms")
    run(*keys, "revoke", id, "--store", f"redis://{REDIS}:6379/0")
    print(f"and refused at both after {await until('/me', key, 401) * 1000:.0f} ms")

    async def lost() -> None:
        await asyncio.sleep(2)
        run("ip", "link", "set", "edge-gw1", "down")
        await asyncio.sleep(4)
        run("ip", "link", "set", "edge-gw1", "up")

    losing = asyncio.create_task(lost())
    found = await flood("/login", 4000, 10)  # 405: they all come to an answer
    await losing
    print(f"a machine lost for 4 s of 10 s: of 4000 requests {found[0]} failed")
    await asyncio.sleep(3)
    print(f"afterwards both serve: {await at_both('/login')}")


def main() -> None:
    if os.geteuid():
        sys.exit("network namespaces need root")
    python = sys.executable
    with tempfile.TemporaryDirectory() as directory, network():
        path = Path(directory)
        (path / "pipelines").mkdir()
        for name, text in CONFIG.items():
            (path / name).write_text(text)
        hash = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("old password")
        (path / "users.toml").write_text(f'[[user]]\nname = "alice"\nhash = "{hash}"\n')
        (path / "signing.pem").write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (path / "haproxy.cfg").write_text(HAPROXY)
        started = [
            inside(
                "redis",
                "redis-server",
                "--bind",
                "0.0.0.0",
                "--protected-mode",
                "no",
                "--save",
                "",
                "--dir",
                directory,
            ),
            inside("balancer", "haproxy", "-f", str(path / "haproxy.cfg")),
            *(
                inside(name, python, "-m", "gateway", "run", "--config", str(path / "gateway.toml"))
                for name in GATEWAYS
            ),
        ]
        try:
            asyncio.run(checks([python, "-m", "gateway", "keys"]))
        finally:
            for one in started:
                one.terminate()
            for one in started:
                one.wait()


if __name__ == "__main__":
    main()
