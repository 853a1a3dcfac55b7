"""A process under a service manager: what it reports, and sockets that it is given."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.flow.conftest import write
from tests.process import ROOT, Process

HEALTH = '[[route]]\npath = "/health"\nbuiltin = "health"\n'

HAND_OVER = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
for number, descriptor in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(descriptor, 3 + number)
os.execv(sys.executable, [sys.executable, "-m", "gateway", "run", "--config", sys.argv[2]])
"""
"""Becomes a gateway with these descriptors at the places where a service manager puts them."""


@pytest.fixture
def hears(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "notify"))
        one.setblocking(False)
        yield one


async def said(hears: socket.socket) -> str:
    """The next state; signs of life are passed over."""
    while True:
        state = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(hears, 200), 30)
        if state != b"WATCHDOG=1":
            return state.decode().partition("\n")[0]


async def test_what_a_process_reports(tmp_path, hears):
    write(tmp_path, HEALTH)
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
    async with Process(tmp_path / "gateway.toml", **environ) as process:
        assert await said(hears) == "READY=1"
        receive = asyncio.get_running_loop().sock_recv
        assert await asyncio.wait_for(receive(hears, 200), 30) == b"WATCHDOG=1"
        assert "taken" in await process.reload()
        assert [await said(hears), await said(hears)] == ["RELOADING=1", "READY=1"]
        (tmp_path / "pipelines" / "test.toml").write_text("nonsense")
        assert "refused" in await process.reload()
        assert [await said(hears), await said(hears)] == ["RELOADING=1", "READY=1"]
        process.signal(signal.SIGTERM)
        assert await said(hears) == "STOPPING=1"
        assert await process.ended() == 0


@asynccontextmanager
async def given(
    config: Path, names: str, *sockets: socket.socket
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway that is handed these sockets."""
    high = [os.dup2(one.fileno(), 100 + number) for number, one in enumerate(sockets)]
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HAND_OVER, ",".join(map(str, high)), str(config),
            cwd=ROOT, pass_fds=high, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": names},
        )  # fmt: skip
    finally:
        for descriptor in high:
            os.close(descriptor)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), 30)


async def get(port: int, path: str) -> int:
    """The status of one request; the start of a process may be waited for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    try:
        return int((await asyncio.wait_for(reader.readline(), 30)).split()[1])
    finally:
        writer.close()


async def test_sockets_by_name_and_by_address(tmp_path):
    """Clients connect before it starts, and wait; one restart later they are served again."""
    with (
        socket.create_server(("127.0.0.1", 0)) as data,
        socket.create_server(("127.0.0.1", 0)) as admin,
    ):
        port, admin_port = data.getsockname()[1], admin.getsockname()[1]
        table = f"[listen]\nport = 1\n[admin]\nport = {admin_port}\n"
        write(tmp_path, HEALTH, "", table)
        for _ in range(2):
            async with given(tmp_path / "gateway.toml", "listen:gateway.socket", data, admin):
                assert await get(port, "/health") == 200
                assert await get(admin_port, "/admin/ready") == 200


async def test_a_socket_of_no_listener_ends_the_start(tmp_path):
    write(tmp_path, HEALTH)
    with socket.create_server(("127.0.0.1", 0)) as stray:
        port = stray.getsockname()[1]
        async with given(tmp_path / "gateway.toml", "gateway.socket", stray) as process:
            _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert errors.decode().splitlines()[-1] == (
        f"gateway: cannot start: descriptor 3 (named 'gateway.socket', 127.0.0.1:{port}) "
        "belongs to no listener: give it the address of one, or one of the names listen, "
        "redirect, admin, metrics"
    )
