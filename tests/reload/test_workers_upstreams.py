"""What several workers know of upstreams together: checks are made once, and what one of them
learns the others know."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway.commands.running import client
from tests.flow.conftest import write
from tests.origin import OK, Origin
from tests.process import Process
from tests.reload.workers import started
from tests.until import until

PIPELINE = """response = ["metrics"]
error = ["metrics"]
[[route]]
prefix = "/"
upstream = "origin"
"""
GATEWAY = '[server]\nworkers = 3\nshutdown_timeout = "5s"\n'
BROKEN = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


def configure(directory: Path, upstream: str) -> Path:
    write(directory, PIPELINE, f"[upstream.origin]\n{upstream}", GATEWAY)
    return directory / "gateway.toml"


def endpoints(*origins: Origin) -> str:
    urls = ", ".join(f'{{ url = "http://127.0.0.1:{one.port}" }}' for one in origins)
    return f"endpoints = [{urls}]\n"


async def admin(gateway: Process, method: str, path: str, body: Any = None) -> Any:
    url = f"http://127.0.0.1:{gateway.admin_port}{path}"
    _, answer = await asyncio.to_thread(client.call, method, url, body=body)
    return answer


async def upstream(gateway: Process) -> dict[str, Any]:
    return (await admin(gateway, "GET", "/admin/health"))["upstreams"]["origin"]


async def test_checks_are_made_once(tmp_path, origin_of):
    one = await origin_of(OK)
    health = 'health = { path = "/alive", interval = "1h" }\n'
    async with started(configure(tmp_path, endpoints(one) + health)) as gateway:
        # All of them know: the metric is the worst that any of them says.
        await until(lambda: _statuses(gateway, "healthy"))
        assert len(one.heads) == 1


async def test_what_checks_find_is_known_to_all(tmp_path, origin_of, kept):
    state = {"status": b"200 OK"}

    async def respond(origin, head, reader, writer) -> bool:
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % state["status"])
        return True

    well, checked = await origin_of(OK), await origin_of(respond)
    health = 'health = { path = "/alive", interval = "200ms", unhealthy_threshold = 1 }\n'
    async with started(configure(tmp_path, endpoints(well, checked) + health)) as gateway:
        connections = await kept(gateway, 9)
        await until(lambda: _statuses(gateway, "healthy", "healthy"))
        state["status"] = b"503 Service Unavailable"
        await until(lambda: _statuses(gateway, "healthy", "unhealthy"))
        for one in connections * 3:
            assert (await one.get("/asked")).status == 200
        assert not [head for head in checked.heads if b"/asked" in head]
        state["status"] = b"200 OK"
        await until(lambda: _statuses(gateway, "healthy", "healthy"))


async def _statuses(gateway: Process, *expected: str) -> bool:
    """Return True if the endpoints are as expected, by every worker's own metric."""
    found = await upstream(gateway)
    healthy = [
        await gateway.metric("gateway_upstream_endpoint_healthy", endpoint=one["name"])
        for one in found["endpoints"]
    ]
    wanted = [float(status == "healthy") for status in expected]
    return healthy == wanted and [one["status"] for one in found["endpoints"]] == list(expected)


async def test_an_ejection_by_one_is_known_to_all_and_to_one_that_begins(tmp_path, origin_of, kept):
    well, broken = await origin_of(OK), await origin_of(BROKEN)
    passive = 'passive_health = { max_fails = 1, fail_timeout = "1h", on = ["500"] }\n'
    path = configure(tmp_path, endpoints(well, broken) + passive)
    async with started(path) as gateway:
        connections = await kept(gateway, 9)
        while (await connections[0].get("/")).status != 500:
            pass
        await until(lambda: _ejected(gateway))
        for one in connections:
            assert (await one.get("/")).status == 200
        assert len(broken.heads) == 1
        (tmp_path / "gateway.toml").write_text(
            (tmp_path / "gateway.toml").read_text().replace("workers = 3", "workers = 4")
        )
        await gateway.reload()
        await until(lambda: _serving(gateway, 4))
        for one in await kept(gateway, 12):
            assert (await one.get("/")).status == 200
        assert len(broken.heads) == 1


async def test_an_endpoint_is_drained_in_all_workers_and_through_a_reload(
    tmp_path, origin_of, kept
):
    well, drained = await origin_of(OK), await origin_of(OK)
    path = configure(tmp_path, endpoints(well, drained))
    body = {"url": f"http://127.0.0.1:{drained.port}"}
    async with started(path) as gateway:
        connections = await kept(gateway, 9)
        answer = await admin(gateway, "POST", "/admin/services/origin/drain", body)
        assert (answer["draining"], answer["eligible"]) == (True, 1)
        text = (tmp_path / "gateway.toml").read_text().replace("workers = 3", "workers = 4")
        for _ in range(2):  # before a reload that adds a worker, and after it
            connections += await kept(gateway, 6)
            for one in connections:
                assert (await one.get("/")).status == 200
            assert len(drained.heads) == 0
            (tmp_path / "gateway.toml").write_text(text)
            await gateway.reload()
            await until(lambda: _serving(gateway, 4))
        answer = await admin(gateway, "POST", "/admin/services/origin/undrain", body)
        assert (answer["draining"], answer["eligible"]) == (False, 2)
        await until(lambda: _asked(connections, drained))


async def _asked(connections: list[Any], origin: Origin) -> bool:
    for one in connections:
        assert (await one.get("/")).status == 200
    return len(origin.heads) > 0


async def _ejected(gateway: Process) -> bool:
    """Return True if all workers have taken it out: the metric is the worst of theirs."""
    states = (await admin(gateway, "GET", "/admin/status"))["workers"]
    assert all(one["serving"] for one in states)
    return "ejected" in [one["status"] for one in (await upstream(gateway))["endpoints"]]


async def _serving(gateway: Process, count: int) -> bool:
    workers = (await admin(gateway, "GET", "/admin/status"))["workers"]
    return len(workers) == count and all(one["serving"] for one in workers)


async def test_a_circuit_that_one_opens_is_open_everywhere_until_it_is_reset(
    tmp_path, origin_of, kept
):
    broken = await origin_of(BROKEN)
    breaker = 'circuit_breaker = { failure_threshold = 1, recovery_timeout = "1h", on = ["500"] }\n'
    async with started(configure(tmp_path, endpoints(broken) + breaker)) as gateway:
        connections = await kept(gateway, 9)
        assert (await connections[0].get("/")).status == 500
        await until(lambda: _circuit(gateway, "open"))
        for one in connections:
            assert (await one.get("/")).status == 503
        assert await gateway.metric("gateway_circuit_state", upstream="origin") == 1
        await admin(gateway, "POST", "/admin/circuit-breaker/origin/reset")
        await until(lambda: _metric(gateway, 0))
        assert (await connections[0].get("/")).status == 500


async def _circuit(gateway: Process, state: str) -> bool:
    return (await upstream(gateway))["circuit"]["state"] == state


async def _metric(gateway: Process, state: int) -> bool:
    return await gateway.metric("gateway_circuit_state", upstream="origin") == state


async def test_an_endpoint_that_is_registered_serves_in_all_workers(tmp_path, origin_of, kept):
    first = await origin_of(OK)
    listed = tmp_path / "endpoints.txt"
    listed.write_text("")
    discover = f'discover = {{ file = "{listed}", every = "50ms" }}\n'
    async with started(configure(tmp_path, discover)) as gateway:
        connections = await kept(gateway, 9)
        assert {(await one.get("/")).status for one in connections} == {503}
        listed.write_text(f"http://127.0.0.1:{first.port}\n")

        async def all_have_it() -> bool:
            return {(await one.get("/")).status for one in connections} == {200}

        await until(all_have_it)
        for one in await kept(gateway, 3):
            assert (await one.get("/")).status == 200
