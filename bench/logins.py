"""Logins a second through a whole gateway, against plain argon2id verifications a second on the
same cores. No peers needed.

python -m bench.logins [ROUNDS [KIB PASSES LANES]]      a round is two seconds of each, one after
the other; 4 when left out

A login is a request with a name and a password, the verification, a session, a signed access token,
a refresh token and an event in the audit log. Argon2 is what `[tokens]` has by default, 64 MiB, 3
passes, 4 lanes, unless something else is said. As many verifications run at a time as there are
cores, in both; what the client needs is part of the gateway's share. CPU is of the gateway's
process alone, and does not depend on what else the machine does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from tests.client import Client
from tests.process import Process

SECONDS = 2.0
PASSWORD = "correct horse battery staple"
CORES = len(os.sched_getaffinity(0))

GATEWAY = """
include = ["pipeline.toml"]
[listen]
port = 0
[admin]
port = 0
[tokens]
issuer = "https://edge.example.com"
audience = "edge"
keys = [{ key = { file = "signing.pem" } }]
audit = { file = "audit.log" }
argon2 = { memory = "%dKiB", passes = %d, lanes = %d }
"""
PIPELINE = """
request = []
error = ["error_handler"]
[[route]]
path = "/auth/login"
builtin = "login"
"""


def configuration(directory: Path, hash: str, cost: tuple[int, int, int]) -> Path:
    """A gateway that lets users u0, u1, ... log in: two a core."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "signing.pem").write_bytes(pem)
    (directory / "pipeline.toml").write_text(PIPELINE)
    (directory / "gateway.toml").write_text(GATEWAY % cost)
    for number in range(2 * CORES):
        user_edits.add(directory / "users.toml", User(f"u{number}", hash))
    return directory / "gateway.toml"


async def raw(hash: str) -> tuple[int, float, float]:
    """Verifications, their seconds, and their CPU seconds."""
    loop = asyncio.get_running_loop()
    cpu, start = time.process_time(), time.perf_counter()

    async def worker() -> int:
        count = 0
        while not count or time.perf_counter() - start < SECONDS:
            assert await loop.run_in_executor(pool, user_file.verifies, hash, PASSWORD)
            count += 1
        return count

    with ThreadPoolExecutor(CORES) as pool:
        count = sum(await asyncio.gather(*(worker() for _ in range(CORES))))
    return count, time.perf_counter() - start, time.process_time() - cpu


async def through(gateway: Process) -> tuple[int, float, float]:
    """The same for logins; the CPU is the gateway's."""
    cpu, start = spent(gateway.pid), time.perf_counter()

    async def worker(name: str) -> int:
        client = await Client.connect(gateway.port)
        body = json.dumps({"username": name, "password": PASSWORD}).encode()
        count = 0
        while not count or time.perf_counter() - start < SECONDS:
            reply = await client.get(
                "/auth/login", "Content-Type: application/json", method="POST", body=body
            )
            assert reply.status == 200, reply
            count += 1
        client.close()
        return count

    # Two a core, so that one waits where another has just been verified.
    count = sum(await asyncio.gather(*(worker(f"u{number}") for number in range(2 * CORES))))
    return count, time.perf_counter() - start, spent(gateway.pid) - cpu


def spent(pid: int) -> float:
    """CPU seconds of a process so far, to the nanosecond: a tick of /proc/PID/stat may be all."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in threads) / 1e9


async def run(rounds: int, cost: tuple[int, int, int], say: Callable[[str], None] = print) -> float:
    """Prints what was measured; returns logins per verification. cost: KiB, passes, lanes."""
    hash = PasswordHasher(memory_cost=cost[0], time_cost=cost[1], parallelism=cost[2]).hash(
        PASSWORD
    )
    with tempfile.TemporaryDirectory() as directory:
        async with Process(configuration(Path(directory), hash, cost)) as gateway:
            await through(gateway)  # connections, threads, first hashes
            figures = [(await raw(hash), await through(gateway)) for _ in range(rounds)]
    plain, logins = (
        [sum(column) for column in zip(*side, strict=True)] for side in zip(*figures, strict=True)
    )  # (count, seconds, CPU seconds) each
    for what, (count, seconds, cpu) in (("argon2id verifications", plain), ("logins", logins)):
        say(f"{what:24}{count / seconds:8.1f} a second{cpu / count * 1000:10.1f} ms of CPU each")
    rate = (logins[0] / logins[1]) / (plain[0] / plain[1])
    by_cpu = (plain[2] / plain[0]) / (logins[2] / logins[0])
    say(f"{'ratio':24}{rate:8.2f} by rate{by_cpu:15.2f} by CPU, {CORES} cores, {rounds} rounds")
    return rate


def main() -> int:
    given = [int(word) for word in sys.argv[1:]]
    memory, passes, lanes = given[1:] or (64 * 1024, 3, 4)
    asyncio.run(run(given[0] if given else 4, (memory, passes, lanes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
