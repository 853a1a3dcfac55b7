"""What is seen of upstreams is applied here and told to others."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.config.tables.endpoints import EndpointConfig
from gateway.runtime.reload import Runtime
from gateway.runtime.services import Services
from gateway.upstream.connections.transport import Transport
from gateway.upstream.observer import Observer
from tests.flow.conftest import PLAIN, write
from tests.until import until

UPSTREAM = """[upstream.origin]
endpoints = [{ url = "http://127.0.0.1:1" }]
health = { path = "/", interval = "1h" }
discover = { api = true }
"""


async def test_checks_and_found_endpoints_are_told(tmp_path: Path):
    write(tmp_path, PLAIN, UPSTREAM)
    transport = Transport()
    transport.start()
    services, told = Services(transport), []
    observer = Observer(transport, {}, lambda *seen: told.append(seen))
    runtime = Runtime(tmp_path / "gateway.toml", services, {}, observer)
    await runtime.start()
    pool = runtime.snapshot.pools["origin"]
    [endpoint] = pool.endpoints
    await until(lambda: ("probed", pool, endpoint) in told)
    assert endpoint.health.checked is not None
    more = EndpointConfig("http://127.0.0.1:2")
    assert observer.discoveries["origin"].register(more)
    assert told[-1] == ("discovered", pool, (more,))
    assert {one.name for one in pool.endpoints} == {"127.0.0.1:1", "127.0.0.1:2"}
    write(tmp_path, '[[route]]\npath = "/"\nbuiltin = "health"\n')
    await runtime.reload()
    assert not observer.probers and not observer.discoveries
    runtime.stop()
    transport.close()
    await asyncio.sleep(0)
