"""A process that has no file descriptor left: clients are told, and no endpoint is blamed."""

from __future__ import annotations

import asyncio
import json
import resource
import urllib.request
from pathlib import Path

from tests.client import Client
from tests.flow.conftest import PLAIN, write
from tests.origin import Origin
from tests.process import Process
from tests.until import until

HEALTH = 'passive_health = { max_fails = 1, fail_timeout = "60s" }\n'
GET = b"GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def limit(process: Process, more: int) -> None:
    most = open_files(process.pid) + more
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))


async def status(process: Process) -> dict[str, object]:
    url = f"http://127.0.0.1:{process.admin_port}/admin/health"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
    found: dict[str, object] = json.loads(text)
    return found


async def test_no_descriptors(tmp_path: Path) -> None:
    origin = await Origin().start()
    write(tmp_path, PLAIN, f'[upstream.origin]\nurl = "{origin.url}"\n{HEALTH}')
    async with Process(tmp_path / "gateway.toml") as process:
        first = await Client.connect(process.port)
        limit(process, 10)
        clients = [await Client.connect(process.port) for _ in range(20)]
        # The 11th and those behind it: there is no descriptor for them.
        turned_away = [one for one in clients if await answered(one)]
        assert turned_away
        # Nor for a connection to the endpoint, which is not its fault.
        await first.send(GET)
        refused = await first.read()
        assert refused.status == 503 and refused.fields["retry-after"] == "1"
        health = json.dumps(await status(process))  # The admin listener has its own.
        assert "healthy" in health and "unhealthy" not in health
        for one in clients:
            one.close()
        await first.send(GET)

        async def served() -> bool:
            client = await Client.connect(process.port)
            await client.send(GET)
            reply = await client.read()
            client.close()
            return reply.status == 200

        await until(served)
        assert not any("ejected" in line or "circuit" in line for line in process.lines)
        first.close()
    await origin.stop()


async def answered(client: Client) -> bool:
    """Whether a client that has asked for nothing is told that there is no room."""
    try:
        said = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 0.5)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return False
    assert said.startswith(b"HTTP/1.1 503 ") and b"Retry-After: 1" in said
    return True
