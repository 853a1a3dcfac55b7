"""Several workers under one supervisor: what clients and operators see when a worker ends, when
configurations come, and when the number of workers changes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.process import Process
from tests.reload.workers import OWN, ask, configure, fresh, pids, started, status
from tests.until import until


async def test_connections_are_spread_and_a_killed_worker_is_replaced(tmp_path, kept):
    async with started(configure(tmp_path)) as gateway:
        connections = await kept(gateway, 20)
        answered = [(await ask(one))[0] for one in connections]
        first, second = await pids(gateway)
        assert min(answered.count(first), answered.count(second)) >= 7
        before = await gateway.metric("gateway_requests_total")
        os.kill(first, signal.SIGKILL)
        for one, pid in zip(connections, answered, strict=True):
            if pid == second:
                assert await ask(one) == (second, "first"), "others' connections go on"
        await gateway.logged(r"worker 0 \(pid \d+\) was ended by SIGKILL")
        await gateway.logged(r"worker 0 serves, pid")
        third = next(pid for pid in await pids(gateway) if pid != second)
        assert third != first
        await until(lambda: _answers(gateway, third))
        assert (await gateway.metric("gateway_requests_total") or 0) >= (before or 0) + 7


async def _answers(gateway: Process, pid: int) -> bool:
    return (await fresh(gateway))[0] == pid


async def test_no_queued_connection_is_lost_with_a_worker(tmp_path, kept):
    """Clients connect while both workers stand still, and then one is killed."""
    async with started(configure(tmp_path)) as gateway:
        both = await pids(gateway)
        for pid in both:
            os.kill(pid, signal.SIGSTOP)
        connections = await kept(gateway, 30)
        asked = [asyncio.create_task(ask(one)) for one in connections]
        os.kill(both[0], signal.SIGKILL)
        os.kill(both[1], signal.SIGCONT)
        answered = await asyncio.wait_for(asyncio.gather(*asked), 20)
        assert both[0] not in {pid for pid, _ in answered}


async def test_a_reload_is_taken_by_all_or_by_none(tmp_path, kept):
    path = configure(tmp_path)
    async with started(path) as gateway:
        first, second = await pids(gateway)
        hash_before = (await status(gateway))["configuration"]
        (tmp_path / "refusing").write_text(str(second))
        configure(tmp_path, says="second")
        assert "refused" in await gateway.reload()
        await gateway.logged("this process cannot")
        connections = await kept(gateway, 8)
        assert {await ask(one) for one in connections} == {(first, "first"), (second, "first")}
        assert (await status(gateway))["configuration"] == hash_before
        (tmp_path / "refusing").unlink()
        assert "taken" in await gateway.reload()
        assert {await ask(one) for one in connections} == {(first, "second"), (second, "second")}
        os.kill(first, signal.SIGKILL)
        await gateway.logged("worker 0 serves")
        await until(lambda: _says(gateway, first, second, "second"))


async def _says(gateway: Process, first: int, second: int, says: str) -> bool:
    """A third process answers, and has what the others have."""
    pid, said = await fresh(gateway)
    assert said == says
    return pid not in (first, second)


async def test_term_drains_all_and_ends_with_0(tmp_path, kept):
    async with started(configure(tmp_path)) as gateway:
        workers = await pids(gateway)
        connections = await kept(gateway, 4)
        assert {(await ask(one))[0] for one in connections} == set(workers)
        gateway.signal(signal.SIGTERM)
        assert await gateway.ended() == 0
        assert not any(_runs(pid) for pid in workers)


async def test_a_second_term_ends_all_at_once_with_1(tmp_path):
    async with started(configure(tmp_path, more='shutdown_delay = "1h"\n')) as gateway:
        workers = await pids(gateway)
        gateway.signal(signal.SIGTERM)
        await gateway.logged("SIGTERM: draining")
        gateway.signal(signal.SIGTERM)
        assert await gateway.ended() == 1
        await until(lambda: not any(_runs(pid) for pid in workers))


async def test_workers_of_a_killed_supervisor_drain_and_end(tmp_path):
    async with started(configure(tmp_path)) as gateway:
        workers = await pids(gateway)
        gateway.signal(signal.SIGKILL)
        await gateway.logged("the supervisor is gone: draining")
        await gateway.ended()
        await until(lambda: not any(_runs(pid) for pid in workers))


def _runs(pid: int) -> bool:
    """Return True if the process has not ended; nothing may have fetched its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_usr1_reopens_the_log_of_all(tmp_path, kept):
    async with started(configure(tmp_path)) as gateway:
        log = tmp_path / "pipelines" / "access.log"
        connections = await kept(gateway, 4)
        for one in connections:
            await ask(one)
        await until(lambda: log.read_text().count("\n") == 4)
        log.rename(tmp_path / "old.log")
        gateway.signal(signal.SIGUSR1)

        def lines(path: Path) -> int:
            return path.read_text().count("\n") if path.exists() else 0

        async def all_go_to_the_new_one() -> bool:
            before, total = lines(old), lines(old) + lines(log)
            for one in connections:
                await ask(one)
            await until(lambda: lines(old) + lines(log) == total + 4)
            return lines(old) == before

        old = tmp_path / "old.log"
        await until(all_go_to_the_new_one)


async def test_a_reload_changes_the_number_of_workers_and_loses_nothing(tmp_path, kept):
    async with started(configure(tmp_path)) as gateway:
        connections = await kept(gateway, 12)
        first = {await ask(one) for one in connections}
        configure(tmp_path, workers=4)
        await gateway.reload()
        await until(lambda: _serving(gateway, 4))
        assert {await ask(one) for one in connections} == first, "kept connections stay"
        more = await kept(gateway, 12)
        assert len({(await ask(one))[0] for one in more}) >= 2
        configure(tmp_path, workers=2)
        await gateway.reload()
        await until(lambda: _serving(gateway, 2))
        assert {await ask(one) for one in connections} == first
        last = set(await pids(gateway))
        for _ in range(10):
            assert (await fresh(gateway))[0] in last


async def _serving(gateway: Process, count: int) -> bool:
    workers = (await status(gateway))["workers"]
    return len(workers) == count and all(one["serving"] for one in workers)


async def test_a_worker_that_stands_still_gets_no_connections(tmp_path, kept):
    async with started(configure(tmp_path)) as gateway:
        first, second = await pids(gateway)
        os.kill(first, signal.SIGSTOP)
        connections = await kept(gateway, 20)
        # Some were handed to it; after three seconds they are dealt again.
        answered = await asyncio.gather(*(ask(one) for one in connections))
        assert {pid for pid, _ in answered} == {second}
        await gateway.logged("worker 0 does not answer: others get its connections")
        os.kill(first, signal.SIGCONT)
        await gateway.logged("worker 0 answers again")
        await until(lambda: _answers(gateway, first))


async def test_from_several_to_one_takes_a_restart(tmp_path):
    async with started(configure(tmp_path)) as gateway:
        configure(tmp_path, workers=1)
        assert "taken" in await gateway.reload()
        await gateway.logged(r"\[server.workers\] waits for a restart")
        assert await _serving(gateway, 2)


async def test_a_start_that_a_worker_cannot_take_ends_with_1(tmp_path):
    path = configure(tmp_path)
    refusing = "if REFUSING.exists() and str(os.getpid()) in REFUSING.read_text().split():"
    assert refusing in OWN
    own = OWN.replace(refusing, "if os.getppid() != int(os.environ['STARTER']):")
    (tmp_path / "own_of_workers.py").write_text(own)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        "run",
        "--config",
        str(path),
        env={**os.environ, "PYTHONPATH": str(tmp_path), "STARTER": str(os.getpid())},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1 and said.count(b"this process cannot") >= 1


async def test_without_the_process_that_forks_the_program_begins_again(tmp_path, kept):
    path = configure(tmp_path)
    async with started(path) as gateway:
        workers = await pids(gateway)
        [one] = await kept(gateway, 1)
        before = await ask(one)
        good = path.read_text()
        path.write_text(good + "[unknown]\n")
        os.kill(_parent(workers[0]), signal.SIGKILL)
        await gateway.logged("the process that workers are forked from has ended")
        await gateway.logged("upgrade refused")
        assert await ask(one) == before, "workers go on"
        os.kill(next(pid for pid in workers if pid != before[0]), signal.SIGKILL)
        await gateway.logged("did not start")
        path.write_text(good)
        after = len(gateway.lines)
        await gateway.logged("serves on", after)
        await gateway.logged("finish what they have", after)
        assert await ask(one) == before
        renewed = await pids(gateway)
        assert len(renewed) == 2 and not set(renewed) & set(workers)
        os.kill(renewed[0], signal.SIGKILL)
        await gateway.logged("worker 0 serves, pid", after)
        assert not [line for line in gateway.lines if "work on a worker failed" in line]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
