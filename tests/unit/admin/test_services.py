"""Services by the admin API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.config.tables.targets import ServiceConfig
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.upstream.discovery.kept import Unkept
from gateway.upstream.discovery.registered import Unregistered
from tests.unit.admin.state import HEALTH, State
from tests.unit.admin.test_application import CHANGES, asked_any

CONCIERGE = {
    "name": "ai-concierge", "url": "http://ai-concierge:8000", "health_endpoint": "/health"
}  # fmt: skip


async def post(admin: TestClient, body: Any) -> tuple[int, dict[str, Any]]:
    headers = CHANGES | {"Content-Type": "application/json"}
    return await asked_any(admin, "/admin/services", "POST", data=json.dumps(body), headers=headers)


async def test_a_service_of_its_own(admin: TestClient, state: State):
    status, found = await post(admin, CONCIERGE)
    assert (status, found) == (
        201,
        {
            "service": "ai-concierge",
            "name": "ai-concierge",
            "url": "http://ai-concierge:8000",
            "kept": True,
        },
    )
    assert state.services == [ServiceConfig(**CONCIERGE)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({**CONCIERGE, "name": "Has Blanks"}, 422, "name: must be of a-z"),
        ({**CONCIERGE, "name": ".."}, 422, "name: must be of a-z"),
        ({**CONCIERGE, "url": "file:///etc/passwd"}, 422, "url: must be a URL"),
        ({**CONCIERGE, "url": "http://u:p@a"}, 422, "url: must have no user"),
        ({**CONCIERGE, "health_endpoint": "//x y"}, 422, "health_endpoint: must be a path"),
        ({**CONCIERGE, "weight": -1}, 422, "weight: must be from 0"),
        ({**CONCIERGE, "timeout": "long"}, 422, "timeout: must be a duration"),
        ({**CONCIERGE, "extra": 1}, 422, "extra: Unknown field."),
        ({"url": "http://a"}, 422, "name: Missing data"),
        ({**CONCIERGE, "name": "plain"}, 409, "Upstream 'plain' is one of the configuration's."),
    ],
)
async def test_refusals(admin: TestClient, state: State, body: Any, status: int, said: str):
    found = await post(admin, body)
    assert found[0] == status and said in found[1]["detail"]
    assert state.services == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (Unregistered("'a' is not among [services] allow"), 422, "not among"),
        (Unkept("the store has not taken it: late"), 503, "has not taken it"),
        (ConfigErrors([Problem(Path("a.toml"), 1, 1, "gone")]), 409, "gone"),
    ],
)
async def test_what_cannot_be_taken(
    admin: TestClient, state: State, error: Exception, status: int, said: str
):
    state.unable = error
    found = await post(admin, CONCIERGE)
    assert found[0] == status and said in found[1]["detail"]


async def test_one_service(admin: TestClient):
    status, found = await asked_any(admin, "/admin/services/becamera", "GET")
    assert (status, found) == (200, HEALTH["upstreams"]["becamera"])  # type: ignore[index]
    assert (await asked_any(admin, "/admin/services/none", "GET"))[0] == 404


async def test_a_service_goes(admin: TestClient, state: State):
    state.services.append(ServiceConfig(**CONCIERGE))  # type: ignore[arg-type]
    state.health_now = {
        "status": "healthy",
        "upstreams": {"ai-concierge": {"status": "healthy", "registered": True, "endpoints": []}},
    }
    path = "/admin/services/ai-concierge"
    assert (await asked_any(admin, path, "DELETE", headers=CHANGES))[0] == 200
    other = f"{path}?url=http://other"
    assert (await asked_any(admin, other, "DELETE", headers=CHANGES))[0] == 404
    bad = f"{path}?url=nothing"
    assert (await asked_any(admin, bad, "DELETE", headers=CHANGES))[0] == 422
    state.unable = Unkept("the disk is full")
    assert (await asked_any(admin, path, "DELETE", headers=CHANGES))[0] == 503


@pytest.mark.parametrize("what", ["drain", "undrain"])
async def test_an_endpoint_is_drained_and_undrained(admin: TestClient, state: State, what: str):
    body = {"url": "http://127.0.0.1:3001"}
    answer = await admin.post(f"/admin/services/becamera/{what}", json=body, headers=CHANGES)
    assert (answer.status, await answer.json()) == (
        200,
        {
            "service": "becamera",
            "url": "http://127.0.0.1:3001",
            "draining": False,
            "in_flight": 3,
            "eligible": 1,
        },
    )
    assert state.drained == [("becamera", "http://127.0.0.1:3001", what == "drain")]


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("none", '{"url": "http://a"}', 404, "There is no upstream 'none'."),
        ("becamera", '{"url": "http://a"}', 404, "There is no endpoint 'http://a' in the upstream"),
        ("becamera", '{"url": "a"}', 422, "url: "),
        ("becamera", '{"url": 5}', 422, "url: "),
        ("becamera", "[]", 422, "Invalid input type."),
        ("becamera", "{}", 422, "url: "),
        ("becamera", "{", 422, "The body is not JSON: "),
    ],
)
async def test_what_cannot_be_drained(
    admin: TestClient, state: State, path: str, body: str, status: int, detail: str
):
    answer = await admin.post(f"/admin/services/{path}/drain", data=body, headers=CHANGES)
    assert answer.status == status
    assert (await answer.json())["detail"].startswith(detail)
    assert state.drained == []
