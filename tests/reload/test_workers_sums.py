"""What is counted over all workers: limits of connections, and operators' own metrics."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from gateway.commands.running import client
from tests.process import Process
from tests.reload.workers import OWN, ask, configure, pids, started
from tests.until import until

COUNTED = OWN.replace(
    "REFUSING =",
    """from prometheus_client import Counter

ORDERS = Counter("orders", "Orders of this middleware")
REFUSING =""",
).replace(
    "return Hooks(request=lambda exchange: Reply(200, (), said))",
    """def request(exchange):
        ORDERS.inc()
        return Reply(200, (), said)

    return Hooks(request=request)""",
)


async def test_metrics_of_operators_own_are_sums_over_workers_and_their_lives(tmp_path, kept):
    path = configure(tmp_path)
    (tmp_path / "own_of_workers.py").write_text(COUNTED)
    async with started(path) as gateway:
        connections = await kept(gateway, 6)
        for one in connections:
            await ask(one)
        assert await gateway.metric("orders_total") == 6
        assert await gateway.metric("gateway_worker_restarts_total") == 0
        assert await gateway.metric("python_info") == 1
        [first, _] = await pids(gateway)
        os.kill(first, signal.SIGKILL)
        await gateway.logged("worker 0 serves, pid")
        for one in await kept(gateway, 6):
            await ask(one)
        await until(lambda: _orders(gateway, 12))
        assert await gateway.metric("gateway_worker_restarts_total") == 1


async def _orders(gateway: Process, expected: float) -> bool:
    return await gateway.metric("orders_total") == expected


@pytest.mark.parametrize(
    ("limit", "status"), [("max_connections = 5", 503), ("max_connections_per_ip = 5", 429)]
)
async def test_limits_of_connections_hold_over_all_workers(tmp_path, kept, limit, status):
    async with started(configure(tmp_path, more=f"{limit}\n")) as gateway:
        for one in await kept(gateway, 5):
            await ask(one)
        [more] = await kept(gateway, 1)
        assert (await more.read()).status == status


async def test_why_is_asked_of_all_workers(tmp_path, kept):
    path = configure(tmp_path)
    pipeline = tmp_path / "pipelines" / "test.toml"
    pipeline.write_text(pipeline.read_text().replace('prefix = "/"', 'path = "/known"'))
    async with started(path) as gateway:
        replies = [await one.get("/nowhere") for one in await kept(gateway, 6)]
        asked = [reply.fields["x-request-id"] for reply in replies]
        url = f"http://127.0.0.1:{gateway.admin_port}/admin/why"
        for known in asked:
            code, answer = await asyncio.to_thread(client.call, "GET", f"{url}/{known}")
            assert (code, answer["request"]["id"], answer["reason"]) == (200, known, "no_route")
        assert (await asyncio.to_thread(client.call, "GET", f"{url}/never"))[0] == 404
        code, answer = await asyncio.to_thread(client.call, "GET", url)
        assert {one["request"]["id"] for one in answer["requests"]} == set(asked)
        times = [one["time"] for one in answer["requests"]]
        assert times == sorted(times, reverse=True)
        code, answer = await asyncio.to_thread(client.call, "GET", f"{url}?limit=4")
        assert [one["time"] for one in answer["requests"]] == times[:4]
