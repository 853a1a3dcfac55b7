"""What the admin API answers, and that it shows no more than its schemas name."""

from __future__ import annotations

import json

import pytest
from aiohttp.test_utils import TestClient

from tests.unit.admin.state import CONFIG, HEALTH, STATUS, State
from tests.unit.admin.test_application import asked


async def test_health(admin: TestClient, state: State):
    assert await asked(admin, "/admin/health") == (200, HEALTH)


@pytest.mark.parametrize(
    ("condition", "status"), [("healthy", 200), ("degraded", 200), ("unhealthy", 503)]
)
async def test_health_is_a_status_too(admin: TestClient, state: State, condition: str, status: int):
    state.health_now = {"status": condition, "upstreams": {}}
    assert await asked(admin, "/admin/health") == (status, {"status": condition, "upstreams": {}})


@pytest.mark.parametrize(("is_ready", "status"), [(True, 200), (False, 503)])
async def test_ready(admin: TestClient, state: State, is_ready: bool, status: int):
    state.is_ready = is_ready
    assert await asked(admin, "/admin/ready") == (status, {"ready": is_ready})


async def test_config(admin: TestClient):
    assert await asked(admin, "/admin/config") == (200, CONFIG)


async def test_what_no_schema_names_is_not_shown(admin: TestClient, state: State):
    state.config_now = CONFIG | {
        "token": "s3cr3t",
        "pipelines": {"a": CONFIG["pipelines"]["partner"] | {"auth": "s3cr3t"}},
    }
    state.health_now = {
        "status": "healthy",
        "secret": "s3cr3t",
        "upstreams": {"a": {"status": "healthy", "key": "s3cr3t"}},
    }
    for path in ("/admin/config", "/admin/health"):
        assert "s3cr3t" not in json.dumps(await asked(admin, path))


async def test_status(admin: TestClient):
    assert await asked(admin, "/admin/status") == (200, STATUS)


async def test_services(admin: TestClient):
    status, found = await asked(admin, "/admin/services")
    assert (status, [one["name"] for one in found["services"]]) == (200, ["becamera", "plain"])
    assert found["services"][0] == HEALTH["upstreams"]["becamera"]
