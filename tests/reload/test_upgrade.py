"""USR2: a new program in the place of the old one, with one worker and with two."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.client import Client
from tests.flow.conftest import write
from tests.origin import Origin
from tests.process import Process
from tests.reload.workers import ask, configure, fresh, pids, started
from tests.until import until
from tests.websocket import echo, speaks

WORKERS = [1, 2]


async def upgraded(gateway: Process) -> None:
    """USR2, and wait until the new program serves."""
    after = len(gateway.lines)
    gateway.signal(signal.SIGUSR2)
    await gateway.logged("serves on", after=after)
    await gateway.logged("of the program before finish", after=after)


@pytest.mark.parametrize("workers", WORKERS)
async def test_it_keeps_the_pid_the_sockets_and_the_counts(tmp_path, workers, kept):
    async with started(configure(tmp_path, workers)) as gateway:
        connections = await kept(gateway, 4)
        before = {await ask(one) for one in connections}
        configure(tmp_path, workers, says="second")
        pid = gateway.pid
        await upgraded(gateway)
        assert gateway.pid == pid and Path(f"/proc/{pid}").exists()
        assert (await fresh(gateway))[1] == "second"
        for one in connections:  # the old program answers once more, and then closes
            answer = await one.get("/")
            assert answer.fields["connection"] == "close"
            worker, _, says = answer.body.decode().partition(" ")
            assert (int(worker), says) in before and says == "first"
        assert (await fresh(gateway))[1] == "second"
        await until(lambda: _counted(gateway, 10))
        await upgraded(gateway)
        await until(lambda: _counted(gateway, 10))


async def _counted(gateway: Process, requests: int) -> bool:
    return await gateway.metric("gateway_requests_total") == requests


@pytest.mark.parametrize("workers", WORKERS)
async def test_requests_under_load_do_not_fail(tmp_path, workers):
    async with started(configure(tmp_path, workers)) as gateway:
        asked, ends = 0, False

        async def client() -> None:
            nonlocal asked
            connection = await Client.connect(gateway.port)
            while not ends:
                answer = await connection.get("/")
                assert answer.status == 200 and answer.whole
                asked += 1
                if answer.fields.get("connection") == "close" or asked % 5 == 0:
                    connection.close()
                    connection = await Client.connect(gateway.port)
            connection.close()

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for _ in range(2):
            before = asked
            await until(lambda before=before: asked > before + 50)
            await upgraded(gateway)
        before = asked
        await until(lambda: asked > before + 50)
        ends = True
        await asyncio.gather(*clients)
        await until(lambda: _counted(gateway, asked))


@pytest.mark.parametrize("workers", WORKERS)
async def test_one_whose_configuration_is_bad_is_refused(tmp_path, workers, kept):
    async with started(configure(tmp_path, workers)) as gateway:
        [one] = await kept(gateway, 1)
        before = await ask(one)
        with (tmp_path / "gateway.toml").open("a") as file:
            file.write("[unknown]\n")
        gateway.signal(signal.SIGUSR2)
        await gateway.logged("unknown: is not a known key")
        await gateway.logged(r"upgrade refused: \d+ problem")
        assert await ask(one) == before


@pytest.mark.parametrize("workers", WORKERS)
async def test_one_whose_program_does_not_start_is_refused(tmp_path, workers, kept):
    async with started(configure(tmp_path, workers)) as gateway:
        [one] = await kept(gateway, 1)
        before = await ask(one)
        (tmp_path / "own_of_workers.py").write_text("this is no Python")
        gateway.signal(signal.SIGUSR2)
        await gateway.logged("SyntaxError")
        await gateway.logged("upgrade refused")
        assert await ask(one) == before


@pytest.mark.parametrize("workers", WORKERS)
async def test_the_number_of_workers_may_change_from_and_to_one(tmp_path, workers):
    async with started(configure(tmp_path, workers)) as gateway:
        other = 3 - workers
        configure(tmp_path, other)
        await upgraded(gateway)
        if other == 2:
            await until(lambda: _two(gateway))
        assert (await fresh(gateway))[1] == "first"


async def _two(gateway: Process) -> bool:
    return len(await pids(gateway)) == 2


@pytest.mark.parametrize("workers", WORKERS)
async def test_a_websocket_stays_with_the_old_program(tmp_path, workers):
    origin = await Origin(speaks(echo)).start()
    server = f'[server]\nworkers = {workers}\nshutdown_timeout = "30s"\n'
    upstream = f'[upstream.origin]\nurl = "http://127.0.0.1:{origin.port}"\n'
    write(tmp_path, '[[route]]\nprefix = "/"\nupstream = "origin"\n', upstream, server)
    async with started(tmp_path / "gateway.toml") as gateway:
        client = await Client.connect(gateway.port)
        await client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await client.head())[0] == 101
        frame = b"\x81\x82\x00\x00\x00\x00ok"
        for _ in range(2):
            await client.send(frame)
            assert await asyncio.wait_for(client.reader.readexactly(4), 10) == b"\x81\x02ok"
            await upgraded(gateway)
        await client.send(frame)
        assert await asyncio.wait_for(client.reader.readexactly(4), 10) == b"\x81\x02ok"
        client.close()
    await origin.stop()


@pytest.mark.parametrize("workers", WORKERS)
async def test_a_unix_socket_and_a_new_address(tmp_path, workers, unused_tcp_port):
    path = configure(tmp_path, workers)
    text = path.read_text()
    socket = tmp_path / "gateway.sock"
    one = f'[listen]\naddresses = ["unix:{socket}", "127.0.0.1:0"]\n'
    path.write_text(text.replace("[listen]\nport = 0\n", one))
    async with started(path) as gateway:
        await upgraded(gateway)
        assert socket.exists()
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()
        path.write_text(text.replace("port = 0\n", f"port = {unused_tcp_port}\n", 1))
        await upgraded(gateway)
        gateway.port = unused_tcp_port
        assert (await fresh(gateway))[1] == "first"
    assert not socket.exists()


LIMITED = """request = ["rate_limit"]
[rate_limit]
key = "ip"
algorithm = "sliding_window"
limit = 7
window = "1h"
mode = "exact"
[[route]]
name = "fixed"
prefix = "/"
respond = { status = 200, json = { ok = true } }
"""


@pytest.mark.parametrize("workers", WORKERS)
async def test_what_limits_have_counted_goes_along(tmp_path, workers):
    write(tmp_path, LIMITED, "", f"[server]\nworkers = {workers}\n")
    async with started(tmp_path / "gateway.toml") as gateway:

        async def statuses(count: int) -> list[int]:
            found = []
            for _ in range(count):
                connection = await Client.connect(gateway.port)
                found.append((await connection.get("/")).status)
                connection.close()
            return found

        assert await statuses(4) == [200] * 4
        await upgraded(gateway)
        assert sorted(await statuses(5)) == [200] * 3 + [429] * 2
