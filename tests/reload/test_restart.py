"""What a reload cannot change: said until a restart, or until it is taken back."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from gateway.commands.running import client
from tests.flow.conftest import write
from tests.process import Process

HEALTH = '[[route]]\npath = "/health"\nbuiltin = "health"\n'


async def test_an_admin_port_that_is_to_be_another(tmp_path):
    write(tmp_path, HEALTH)
    async with Process(tmp_path / "gateway.toml") as gateway:
        here = f"127.0.0.1:{gateway.admin_port}"
        line = f"[admin] waits for a restart; it is on {here}"

        async def asked(method: str, path: str) -> dict[str, Any]:
            status, answer = await asyncio.to_thread(client.call, method, f"http://{here}{path}")
            assert status == 200
            return answer

        status = await asked("GET", "/admin/status")
        assert (
            status["addresses"] == {"listen": f"127.0.0.1:{gateway.port}", "admin": here}
            and status["waiting"] == []
        )
        write(tmp_path, HEALTH, "", "[admin]\nport = 1\n")
        await gateway.reload()
        await gateway.logged(r"\[admin\] waits for a restart")
        assert (await asked("POST", "/admin/reload"))["waiting"] == [line], (
            "later reloads say so, too"
        )
        assert (await asked("GET", "/admin/status"))["waiting"] == [line]
        write(tmp_path, HEALTH)
        taken = await asked("POST", "/admin/reload")
        assert taken["waiting"] == [] and taken["changes"] == [
            "[admin] changed back (nothing waits for a restart)"
        ]


async def test_a_reload_that_is_refused_through_the_admin_listener_is_logged(tmp_path):
    write(tmp_path, HEALTH)
    async with Process(tmp_path / "gateway.toml") as gateway:
        write(tmp_path, HEALTH.replace("health", "unknown"))
        gateway.signal(signal.SIGHUP)
        await gateway.logged("reload refused")
        by_signal = [line.partition(" ERROR ")[2] for line in gateway.lines if " ERROR " in line]
        before = len(gateway.lines)
        status, _ = await asyncio.to_thread(
            client.call, "POST", f"http://127.0.0.1:{gateway.admin_port}/admin/reload"
        )
        assert status == 422
        await gateway.logged("reload refused", after=before)
        assert [
            line.partition(" ERROR ")[2] for line in gateway.lines[before:] if " ERROR " in line
        ] == by_signal
