"""How a process begins and ends: signals at any time, starts that fail, descriptors that are closed
or stuck."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.commands.running import client
from tests.flow.conftest import write
from tests.process import ROOT, Process

HEALTH = '[[route]]\npath = "/health"\nbuiltin = "health"\n'
COMMAND = (sys.executable, "-m", "gateway", "run", "--config")


@contextlib.asynccontextmanager
async def started(*command: str, **options: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has to end by itself, or is killed when the test is over."""
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, **options)  # type: ignore[arg-type]
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, (errors or b"").decode()


@pytest.mark.parametrize("table", ["listen", "admin"])
async def test_a_start_that_fails_names_the_address_and_does_not_wait(
    tmp_path, table, unused_tcp_port
):
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    write(tmp_path, HEALTH, "", f'[server]\nshutdown_delay = "1h"\n[{table}]\nport = {port}\n')
    async with started(
        *COMMAND, str(tmp_path / "gateway.toml"), stderr=asyncio.subprocess.PIPE
    ) as process:
        code, said = await ended(process)
    taken.close()
    assert code == 1
    assert (
        said.splitlines()[-1]
        == f"gateway: cannot start: cannot listen on 127.0.0.1:{port}: address already in use"
    )


class Slow:
    """A configuration with a middleware whose import takes until a test lets it go on."""

    def __init__(self, directory: Path) -> None:
        self.gate = directory / "gate"
        os.mkfifo(self.gate)
        (directory / "slow_to_import.py").write_text(
            f"open({str(self.gate)!r}).read()\nfrom gateway.core.hooks import Hooks\ndef "
            f"build(config, context): return Hooks()\n"
        )
        write(directory, f'request = ["slow_to_import:build"]\n{HEALTH}')
        self.path = directory / "gateway.toml"
        self.environ = {"PYTHONPATH": str(directory)}

    async def reached(self) -> int:
        """Wait until the gateway has come to it. Closing the descriptor lets it go on."""
        async with asyncio.timeout(30):
            while True:
                try:
                    return os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK)
                except OSError:  # nothing reads it yet
                    await asyncio.sleep(0.01)


async def test_signals_while_it_starts_wait_until_it_serves(tmp_path):
    slow = Slow(tmp_path)
    process = Process(slow.path, **slow.environ)
    entering = asyncio.create_task(process.__aenter__())
    descriptor = await slow.reached()
    while process._process is None:
        await asyncio.sleep(0)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
        process.signal(number)
    os.close(descriptor)
    await entering
    try:
        await process.logged("reload taken")
        assert sum("reload taken" in line for line in process.lines) == 1
    finally:
        await process.__aexit__()


async def test_term_while_it_starts_is_heeded(tmp_path):
    slow = Slow(tmp_path)
    async with started(
        *COMMAND, str(slow.path), stderr=asyncio.subprocess.PIPE, env={**os.environ, **slow.environ}
    ) as process:
        descriptor = await slow.reached()
        process.send_signal(signal.SIGTERM)
        os.close(descriptor)
        code, said = await ended(process)
    assert code == 0 and "SIGTERM: not starting" in said and "serves on" not in said


async def test_as_the_first_process_of_a_container(tmp_path):
    """As PID 1 the kernel drops signals that have no handler."""
    if os.geteuid() != 0:
        pytest.skip("a PID namespace takes root")
    slow = Slow(tmp_path)
    unshare = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    async with started(
        *unshare,
        *COMMAND,
        str(slow.path),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **slow.environ},
    ) as process:
        descriptor = await slow.reached()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        os.close(descriptor)
        code, said = await ended(process)
    assert code == 0 and "SIGTERM: not starting" in said


async def ready(admin: int) -> None:
    """Wait until the admin listener says so, on a connection of its own."""
    async with asyncio.timeout(30):
        while True:
            try:
                status, _ = await asyncio.to_thread(
                    client.call, "GET", f"http://127.0.0.1:{admin}/admin/ready"
                )
            except client.AdminError:  # not yet
                await asyncio.sleep(0.05)
            else:
                assert status == 200
                return


@pytest.fixture
def ports(unused_tcp_port_factory) -> tuple[int, str]:
    """The admin listener's port, and the tables for both listeners."""
    port, admin = unused_tcp_port_factory(), unused_tcp_port_factory()
    return admin, f"[listen]\nport = {port}\n[admin]\nport = {admin}\n"


async def test_a_pipe_that_nothing_reads_stops_nothing(tmp_path, ports):
    admin, tables = ports
    write(tmp_path, HEALTH, "", tables)
    reader, writer = os.pipe()
    async with started(*COMMAND, str(tmp_path / "gateway.toml"), stderr=writer) as process:
        os.close(writer)
        await ready(admin)
        unknown = "".join(f"unknown_{number} = 1\n" for number in range(400))
        write(tmp_path, HEALTH, "", f"{tables}[server]\n{unknown}")
        for _ in range(3):
            status, _ = await asyncio.to_thread(
                client.call, "POST", f"http://127.0.0.1:{admin}/admin/reload"
            )
            assert status == 422
        await ready(admin)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == (0, "")
    os.close(reader)


async def test_closed_standard_descriptors(tmp_path, ports):
    admin, tables = ports
    write(tmp_path, HEALTH, "", tables)
    command = (
        "sh",
        "-c",
        'exec "$@" 0<&- 1>&- 2>&-',
        "sh",
        *COMMAND,
        str(tmp_path / "gateway.toml"),
    )
    async with started(*command) as process:
        await ready(admin)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == (0, "")
