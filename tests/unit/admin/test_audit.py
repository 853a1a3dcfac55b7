"""The audit log of the admin listener: what was changed, by whom, and who was refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import CookieJar

from gateway.admin.application import make_app
from gateway.admin.audit import AdminAudit
from gateway.config.tables.addresses import AdminConfig, ReaderConfig
from gateway.core.hooks import ConfigProblem
from gateway.lifetime.registry import Registry
from tests.unit.admin.state import State
from tests.until import until

CONFIG = AdminConfig(token="sesame", readers=(ReaderConfig("oncall", "look"),))


async def test_lines(aiohttp_client: Any, state: State, tmp_path: Path):
    registry = Registry()
    draft = registry.draft()
    audit = AdminAudit.of("audit.log", tmp_path, draft.keep)
    app = make_app(state, CONFIG, audit=audit)
    client = await aiohttp_client(app, cookie_jar=CookieJar(unsafe=True))
    changing = {"X-Gateway-Admin": "1"}
    asked = (
        ("POST", "/admin/reload?a=1", {"Authorization": "Bearer sesame"}),
        ("POST", "/admin/reload", {"Authorization": "Bearer look"}),
        ("GET", "/admin/status", {"Authorization": "Bearer look"}),
        ("GET", "/admin/status", {"Authorization": "Bearer s3cr3t"}),
        ("DELETE", "/admin/session", changing),
        ("POST", "/admin/circuit-breaker/plain/reset", {"Authorization": "Bearer sesame"}),
    )
    for method, path, headers in asked:
        async with client.request(method, path, headers=headers):
            pass
    async with client.post("/admin/session", json={"token": "look"}, headers=changing):
        pass
    draft.release()
    await until(lambda: (tmp_path / "audit.log").read_text().count("\n") == 6)
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(one["by"], one["outcome"], one["path"], one["query"], one["status"]) for one in lines] == [
        ("operator", "allowed", "/admin/reload", "a=1", 200),
        ("oncall", "denied", "/admin/reload", None, 403),
        (None, "denied", "/admin/status", None, 401),
        (None, "allowed", "/admin/session", None, 200),
        ("operator", "allowed", "/admin/circuit-breaker/plain/reset", None, 409),
        ("oncall", "allowed", "/admin/session", None, 200),
    ]  # fmt: skip
    assert {one["event"] for one in lines} == {"admin"}
    assert {one["client_ip"] for one in lines} == {"127.0.0.1"}
    text = (tmp_path / "audit.log").read_text()
    assert "sesame" not in text and "s3cr3t" not in text and '"look"' not in text


def test_a_log_that_cannot_be_opened(tmp_path: Path):
    with pytest.raises(ConfigProblem, match="cannot open"):
        AdminAudit.of("none/audit.log", tmp_path, Registry().draft().keep)
