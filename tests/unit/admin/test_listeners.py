"""Both listeners of a process: where they are, and what they do with a table that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import ClientSession

from gateway.app import Gateway
from gateway.config.toml.problems import ConfigErrors
from tests.flow.conftest import write
from tests.until import until

PLAIN = '[[route]]\npath = "/"\nrespond = { text = "ok" }\n'


async def test_metrics_apart_and_an_audit_log(tmp_path: Path):
    write(
        tmp_path,
        PLAIN,
        gateway='[admin]\nport = 0\ntoken = "sesame"\naudit = "audit.log"\n[admin.metrics]\nport = 0\n',
    )
    gateway = Gateway(tmp_path / "gateway.toml", {})
    await gateway.start()
    async with ClientSession(headers={"Authorization": "Bearer sesame"}) as client:
        for port, path, status in (
            (gateway.admin_port, "/", 200),
            (gateway.admin_port, "/admin/live", 200),
            (gateway.metrics_port, "/metrics", 200),
            (gateway.metrics_port, "/", 404),
            (gateway.metrics_port, "/admin/live", 404),
        ):
            async with client.get(f"http://127.0.0.1:{port}{path}") as response:
                assert response.status == status, path
        async with client.post(f"http://127.0.0.1:{gateway.admin_port}/admin/reload") as response:
            assert response.status == 200
        async with client.get(f"http://127.0.0.1:{gateway.admin_port}/admin/status") as response:
            past = (await response.json())["reloads"]
    assert [(one["ok"], one["hash"]) for one in past] == [
        (True, gateway.runtime.snapshot.loaded.hash)
    ] * 2
    await gateway.close()
    assert gateway.admin.port == 0
    await until(lambda: '"path":"/admin/reload"' in (tmp_path / "audit.log").read_text())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('audit = "none/audit.log"', "admin.audit: cannot open"),
        ('tls = { certificate = "none.pem", key = "none.key" }', "admin.tls: "),
    ],
)
async def test_a_table_that_cannot_be(tmp_path: Path, table: str, said: str):
    write(tmp_path, PLAIN, gateway=f"[admin]\nport = 0\n{table}\n")
    gateway = Gateway(tmp_path / "gateway.toml", {})
    with pytest.raises(ConfigErrors, match=said):
        await gateway.start()
    await gateway.close()
