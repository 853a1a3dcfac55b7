"""Reloads, upgrades and stops that come while another of them is under way."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.commands.running import client as admin
from gateway.runtime.reload import Runtime
from gateway.runtime.services import Services
from gateway.upstream.connections.transport import Transport
from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin, answer
from tests.process import Process
from tests.reload.workers import pids, started, status
from tests.until import until

ROUTE = '[[route]]\nprefix = "/"\nupstream = "origin"\n'


def configure(directory: Path, origin: Origin, workers: int, more: str = "") -> Path:
    upstream = f'[upstream.origin]\nurl = "{origin.url}"\n'
    server = f'[server]\nworkers = {workers}\nshutdown_timeout = "20s"\n{more}'
    write(directory, ROUTE, upstream, server)
    return directory / "gateway.toml"


class Held:
    """An origin that answers when it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.origin = Origin(self._respond)

    async def _respond(self, origin, head, reader, writer) -> bool:
        await self.may.wait()
        writer.write(answer(b"late"))
        await writer.drain()
        return True


@pytest.fixture
async def held():
    one = Held()
    await one.origin.start()
    yield one
    one.may.set()
    await one.origin.stop()


async def asking(gateway: Process) -> tuple[Client, asyncio.Task]:
    client = await Client.connect(gateway.port)
    return client, asyncio.create_task(client.get("/"))


async def _serving(gateway: Process, count: int, but: int) -> bool:
    """So many workers serve, none of them the process `but`."""
    serving = await pids(gateway)
    return len(serving) == count and but not in serving


async def test_workers_that_are_wanted_again_before_they_have_ended(tmp_path, held):
    path = configure(tmp_path, held.origin, 3)
    async with started(path) as gateway:
        clients = [await asking(gateway) for _ in range(12)]
        await until(lambda: len(held.origin.heads) == 12)
        third = (await pids(gateway))[2]
        configure(tmp_path, held.origin, 2)
        assert "taken" in await gateway.reload()
        assert "taken" in await gateway.reload()  # once more, while the third leaves
        configure(tmp_path, held.origin, 3)
        assert "taken" in await gateway.reload()
        held.may.set()
        for client, asked in clients:
            assert (await asked).status == 200
            client.close()
        await until(lambda: _serving(gateway, 3, but=third))
        assert not [line for line in gateway.lines if "failed" in line]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_waits_for_requests_of_the_program_before(tmp_path, held, workers):
    async with started(configure(tmp_path, held.origin, workers)) as gateway:
        client, asked = await asking(gateway)
        await until(lambda: len(held.origin.heads) == 1)
        after = len(gateway.lines)
        gateway.signal(signal.SIGUSR2)
        await gateway.logged("of the program before finish", after)
        gateway.signal(signal.SIGTERM)
        await gateway.logged("SIGTERM: draining", after)
        await asyncio.sleep(1)
        assert _runs(gateway.pid), "its end would be that of a container, and of the request"
        held.may.set()
        assert (await asked).status == 200
        client.close()
        assert await gateway.ended() == 0


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_no_worker_begins_while_all_stop(tmp_path, held):
    async with started(configure(tmp_path, held.origin, 2)) as gateway:
        client, asked = await asking(gateway)
        await until(lambda: len(held.origin.heads) == 1)
        gateway.signal(signal.SIGTERM)
        await gateway.logged("SIGTERM: draining")
        configure(tmp_path, held.origin, 4)
        url = f"http://127.0.0.1:{gateway.admin_port}/admin/reload"
        _, outcome = await asyncio.to_thread(admin.call, "POST", url)
        assert outcome["ok"]
        assert len((await status(gateway))["workers"]) == 2
        held.may.set()
        assert (await asked).status == 200
        client.close()
        assert await gateway.ended() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_stop_ends_the_program_before_too(tmp_path, held, workers):
    async with started(configure(tmp_path, held.origin, workers)) as gateway:
        before = await _processes(gateway)
        client, asked = await asking(gateway)
        await until(lambda: len(held.origin.heads) == 1)
        after = len(gateway.lines)
        gateway.signal(signal.SIGUSR2)
        await gateway.logged("of the program before finish", after)
        before |= await _processes(gateway)
        gateway.signal(signal.SIGTERM)
        await gateway.logged("SIGTERM: draining", after)
        gateway.signal(signal.SIGTERM)
        await until(lambda: not any(map(_runs, before)))
        with pytest.raises(asyncio.IncompleteReadError):
            await asked
        client.close()


async def _processes(gateway: Process) -> set[int]:
    """The gateway's process and those below it."""
    found, looked_at = {gateway.pid}, set()
    while more := found - looked_at:
        for pid in more:
            looked_at.add(pid)
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(FileNotFoundError, ProcessLookupError):  # That thread has ended.
                    found |= set(map(int, children.read_text().split()))
    return found


BUSY = """
import time
from gateway.core.exchange import Reply
from gateway.core.hooks import Hooks
from gateway.lifetime.process import Executor

THREADS = Executor(1)


def build(config, context):
    def work(exchange):
        THREADS.submit(time.sleep, 5)
        return Reply(200, (), b"")

    return Hooks(request=work)
"""


async def test_a_stop_is_heeded_while_a_new_program_is_about_to_begin(tmp_path, held):
    """It waits until no thread works, for two seconds at most. A stop may take longer than that."""
    (tmp_path / "own_busy.py").write_text(BUSY)
    path = configure(tmp_path, held.origin, 1, 'shutdown_delay = "3s"\n')
    pipeline = tmp_path / "pipelines" / "test.toml"
    pipeline.write_text('request = ["own_busy:build"]\n' + ROUTE)
    async with started(path) as gateway:
        client = await Client.connect(gateway.port)
        assert (await client.get("/")).status == 200
        client.close()
        gateway.signal(signal.SIGUSR2)
        await gateway.logged("upgrade: executing")
        gateway.signal(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert not [line for line in gateway.lines if "serves until the new program" in line]


async def test_a_service_that_registers_during_a_reload_does_not_undo_it(
    tmp_path, held, monkeypatch
):
    """What is composed for it is what was read last, once it is its turn."""
    path = configure(tmp_path, held.origin, 1)
    runtime = Runtime(path, Services(Transport()), {})
    await runtime.start()
    configure(tmp_path, held.origin, 1, 'idle_timeout = "7s"\n')
    composing, prepare = asyncio.Event(), runtime.prepare

    async def told(loaded):
        composing.set()
        await asyncio.sleep(0)
        return await prepare(loaded)

    monkeypatch.setattr(Runtime, "prepare", lambda self, loaded: told(loaded))
    reload = asyncio.create_task(runtime.reload())
    await composing.wait()
    assert runtime._lock.locked()
    await runtime.recompose()
    outcome = await reload
    assert runtime.snapshot.loaded.hash == outcome.hash
    assert runtime.snapshot.loaded.gateway.server.idle_timeout == 7
    runtime.stop()


async def test_reloads_never_overlap(tmp_path, held, monkeypatch):
    """Not even with one that is asked for just when another has ended and a third follows."""
    runtime = Runtime(configure(tmp_path, held.origin, 1), Services(Transport()), {})
    await runtime.start()
    under_way, most, judged = 0, 0, runtime._judged

    async def counted(read):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await judged(read)
        finally:
            under_way -= 1

    monkeypatch.setattr(Runtime, "_judged", lambda self, read: counted(read))
    asked = [asyncio.create_task(runtime.reload()) for _ in range(2)]
    await asyncio.sleep(0)
    runtime._running.add_done_callback(
        lambda _: asked.append(asyncio.create_task(runtime.reload()))
    )
    await asked[0]
    for one in asked:
        await one
    assert len(asked) == 3 and most == 1
    runtime.stop()
