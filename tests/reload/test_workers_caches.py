"""Caches of several workers: what is purged or written through one is gone at all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway.commands.running import client
from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin
from tests.process import Process
from tests.until import until

ANSWER = (
    b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nCache-Tag: cameras\r\n"
    b"Content-Length: 2\r\n\r\nok"
)
PIPELINE = """request = ["caching"]
response = ["caching"]
[[route]]
path = "/cameras/{id}"
upstream = "origin"
methods = ["GET", "PUT"]
caching = { invalidate = ["/lists/{id}"] }
[[route]]
prefix = "/"
upstream = "origin"
"""


def configure(directory: Path, origin: Origin) -> Path:
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    write(directory, PIPELINE, upstreams, "[server]\nworkers = 2\n")
    return directory / "gateway.toml"


async def purge(gateway: Process, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{gateway.admin_port}/admin/purge"
    return await asyncio.to_thread(client.call, "POST", url, body=body)


async def test_purges_and_writes_reach_all_workers(tmp_path: Path):
    origin = await Origin(ANSWER).start()
    async with Process(configure(tmp_path, origin)) as gateway:
        connections = [await Client.connect(gateway.port) for _ in range(8)]

        async def asked(target: str) -> int:
            """How often the origin is asked when every connection asks once."""
            before = len(origin.heads)
            for one in connections:
                assert (await one.get(target)).status == 200
            return len(origin.heads) - before

        assert [await asked("/x"), await asked("/x"), await asked("/lists/5")] == [2, 0, 2]
        status, said = await purge(gateway, {"tag": "cameras"})
        assert (status, said["purged"]) == (200, [{"kind": "tag", "value": "cameras"}])
        assert [await asked("/x"), await asked("/x"), await asked("/lists/5")] == [2, 0, 2]
        assert (await connections[0].get("/cameras/5", method="PUT", body=b"{}")).status == 200
        assert await connections[0].get("/lists/5")

        def lists() -> int:
            return sum(head.startswith(b"GET /lists/5") for head in origin.heads)

        async def taken() -> bool:
            await asked("/lists/5")
            return lists() == 6

        await until(taken)
        assert [await asked("/lists/5"), await asked("/x")] == [0, 0]
        for one in connections:
            one.close()
    await origin.stop()
