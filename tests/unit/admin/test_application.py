"""The admin API answers what the gateway's state says, with the status for it, and nothing the
schemas do not name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from prometheus_client import REGISTRY

from gateway.config.tables.endpoints import EndpointConfig
from gateway.runtime.reload import Outcome
from tests.unit.admin.state import ERROR, WARNING, State

CHANGES = {"X-Gateway-Admin": "1"}


async def asked(
    client: TestClient, path: str, method: str = "GET", **options: Any
) -> tuple[int, dict[str, Any]]:
    async with client.request(method, path, **options) as response:
        assert response.content_type in ("application/json", "application/problem+json")
        assert (response.content_type == "application/problem+json") == (
            response.status not in (200, 503)
        )
        return response.status, json.loads(await response.text())


@pytest.mark.parametrize(
    ("name", "status", "answer"),
    [
        ("becamera", 200, {"service": "becamera", "state": "closed"}),
        ("plain", 409, "Upstream 'plain' has no circuit breaker."),
        ("other", 404, "There is no upstream 'other'."),
    ],
)
async def test_a_circuit_is_reset(admin: TestClient, name: str, status: int, answer: Any):
    found = await asked(admin, f"/admin/circuit-breaker/{name}/reset", "POST", headers=CHANGES)
    assert (found[0], found[1] if status == 200 else found[1]["detail"]) == (status, answer)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (
            '{"service": "becamera", "url": "http://127.0.0.1:9", "weight": 3, "zone": "a"}',
            201,
            None,
        ),
        ('{"service": "plain", "url": "http://127.0.0.1:9"}', 409, "takes no endpoints here"),
        ('{"service": "other", "url": "http://127.0.0.1:9"}', 404, "There is no upstream 'other'."),
        ('{"service": "becamera", "url": "ftp://a"}', 422, "must be a URL such as"),
        ('{"service": "becamera", "url": "http://a", "weight": 70000}', 422, "weight"),
        ('{"service": "becamera"}', 422, "url"),
        ('{"service": "becamera", "url": "http://a", "color": 1}', 422, "color"),
        (
            '{"service": "becamera", "url": "http://a", "weight": -1}',
            422,
            "weight: must be from 0 to 65535",
        ),
        (
            '{"service": "becamera", "url": "http://a", "weight": "x", "zone": 1}',
            422,
            "weight: Not a valid integer.; zone: Not",
        ),
        ("[]", 422, "Invalid input type."),
        ("{", 422, "unexpected end of data"),
    ],
)
async def test_a_service_is_registered(
    admin: TestClient, state: State, body: str, status: int, said: str | None
):
    found = await asked_any(
        admin,
        "/admin/services",
        "POST",
        data=body,
        headers=CHANGES | {"Content-Type": "application/json"},
    )
    assert found[0] == status
    if said is None:
        assert found[1] == {
            "service": "becamera", "name": "becamera", "url": "http://127.0.0.1:9", "kept": False
        }  # fmt: skip
        assert state.registered == [EndpointConfig("http://127.0.0.1:9", weight=3, zone="a")]
    else:
        assert said in found[1]["detail"]
        assert not state.registered


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("becamera?url=http://a", 200),
        ("becamera?url=http://b", 404),
        ("plain?url=http://a", 404),
        ("becamera", 422),
    ],
)
async def test_a_service_is_taken_out(admin: TestClient, state: State, path: str, status: int):
    state.registered.append(EndpointConfig("http://a"))
    assert (await asked_any(admin, f"/admin/services/{path}", "DELETE", headers=CHANGES))[
        0
    ] == status


async def asked_any(
    client: TestClient, path: str, method: str, **options: Any
) -> tuple[int, dict[str, Any]]:
    async with client.request(method, path, **options) as response:
        assert (response.content_type == "application/problem+json") == (response.status >= 400)
        return response.status, json.loads(await response.text())


async def test_reload_taken(admin: TestClient, state: State):
    status, answer = await asked(admin, "/admin/reload", "POST", headers=CHANGES)
    assert status == 200
    assert state.reloads == 1
    assert answer == {
        "ok": True,
        "hash": "def456",
        "changes": ["upstream becamera changed: weight"],
        "waiting": [],
        "problems": [
            {
                "file": "/etc/gateway/pipelines/a.toml",
                "line": 3,
                "column": 5,
                "severity": "warning",
                "message": "caching before auth",
                "hint": "move it",
            }
        ],
    }


@pytest.mark.parametrize(
    ("problems", "detail"),
    [
        ((ERROR,), "1 error; the configuration in force stays as it is"),
        ((ERROR, WARNING, ERROR), "2 errors; the configuration in force stays as it is"),
    ],
)
async def test_reload_refused(
    admin: TestClient, state: State, problems: tuple[Any, ...], detail: str
):
    state.outcome = Outcome(False, "abc123", problems)
    status, answer = await asked(admin, "/admin/reload", "POST", headers=CHANGES)
    assert status == answer["status"] == 422
    assert (answer["type"], answer["title"], answer["detail"]) == (
        "about:blank",
        "Unprocessable Content",
        detail,
    )
    assert answer["hash"] == "abc123"
    assert len(answer["problems"]) == len(problems)
    assert answer["problems"][0] == {
        "file": "/etc/gateway/upstreams.toml",
        "line": 1,
        "column": 2,
        "severity": "error",
        "message": "no endpoints",
        "hint": "",
    }


async def test_what_fails_inside_stays_inside(
    admin: TestClient, state: State, caplog: pytest.LogCaptureFixture
):
    state.outcome = RuntimeError("s3cr3t")
    status, answer = await asked(admin, "/admin/reload", "POST", headers=CHANGES)
    assert status == 500
    assert "s3cr3t" not in json.dumps(answer)
    assert "s3cr3t" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/pages/none.js", 404),
        ("GET", "/admin/nothing", 404),
        ("GET", "/admin/reload", 405),
        ("POST", "/admin/health", 405),
    ],
)
async def test_what_is_not_there_is_a_problem(
    admin: TestClient, method: str, path: str, status: int
):
    got, answer = await asked(admin, path, method, headers=CHANGES)
    assert got == answer["status"] == status
    assert answer["detail"]


async def test_a_wrong_method_says_which_are_right(admin: TestClient):
    async with admin.get("/admin/reload") as response:
        assert response.headers["Allow"] == "POST"


async def test_calls_are_timed(admin: TestClient):
    def calls() -> float:
        return (
            REGISTRY.get_sample_value(
                "gateway_admin_request_duration_seconds_count", {"endpoint": "/admin/status"}
            )
            or 0.0
        )

    before = calls()
    await asked(admin, "/admin/status")
    assert calls() == before + 1


@pytest.mark.parametrize(("condition", "status"), [("healthy", 200), ("unhealthy", 503)])
async def test_head_is_get_without_the_body(
    admin: TestClient, state: State, condition: str, status: int
):
    state.health_now = {"status": condition, "upstreams": {}}
    async with admin.head("/admin/health") as response:
        assert (response.status, await response.read()) == (status, b"")
        assert int(response.headers["Content-Length"]) == len(json.dumps(state.health_now))
