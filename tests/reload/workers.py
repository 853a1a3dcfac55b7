"""A gateway of several workers for tests: which of them answers, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.commands.running import client
from tests.client import Client
from tests.flow.conftest import write
from tests.process import Process

Kept = Callable[[Process, int], Awaitable[list[Client]]]

OWN = """
import os
from pathlib import Path
from gateway.core.exchange import Reply
from gateway.core.hooks import ConfigProblem, Hooks

REFUSING = Path(__file__).with_name("refusing")


def build(config, context):
    if REFUSING.exists() and str(os.getpid()) in REFUSING.read_text().split():
        raise ConfigProblem("this process cannot")
    said = f"{os.getpid()} {(config or {}).get('says', '')}".encode()
    return Hooks(request=lambda exchange: Reply(200, (), said))
"""
PIPELINE = """request = ["own_of_workers:build"]
response = ["logging", "metrics"]
[logging]
file = "access.log"
["own_of_workers:build"]
says = "SAYS"
[[route]]
prefix = "/"
upstream = "none"
"""
UPSTREAMS = '[upstream.none]\nurl = "http://127.0.0.1:1"\n'


def configure(directory: Path, workers: object = 2, says: str = "first", more: str = "") -> Path:
    (directory / "own_of_workers.py").write_text(OWN)
    server = f'[server]\nworkers = {workers}\nshutdown_timeout = "5s"\n{more}'
    write(directory, PIPELINE.replace("SAYS", says), UPSTREAMS, server)
    return directory / "gateway.toml"


@contextlib.asynccontextmanager
async def started(path: Path) -> AsyncIterator[Process]:
    async with Process(path, PYTHONPATH=str(path.parent)) as gateway:
        yield gateway


async def status(gateway: Process) -> dict[str, Any]:
    url = f"http://127.0.0.1:{gateway.admin_port}/admin/status"
    _, answer = await asyncio.to_thread(client.call, "GET", url)
    return answer


async def pids(gateway: Process) -> list[int]:
    return [one["pid"] for one in (await status(gateway))["workers"] if one["serving"]]


async def ask(connection: Client) -> tuple[int, str]:
    """The pid that answers, and what it says."""
    answer = await connection.get("/")
    pid, _, says = answer.body.decode().partition(" ")
    return int(pid), says


async def fresh(gateway: Process) -> tuple[int, str]:
    """As `ask`, on a connection of its own."""
    connection = await Client.connect(gateway.port)
    try:
        return await ask(connection)
    finally:
        connection.close()
