"""A client's usage for operators."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.unit.admin.state import State
from tests.unit.admin.test_application import asked_any

FIGURES = {"requests": 3, "errors": 1, "avgResponseTime": 2.5, "bytesIn": 0, "bytesOut": 9}
USAGE: dict[str, Any] = {
    "totalRequests": 3,
    "failedRequests": 1,
    "averageResponseTime": 2.5,
    "bytesIn": 0,
    "bytesOut": 9,
    "byStatus": {"2xx": 2, "4xx": 1},
    "endpoints": [{"route": "cameras", "path": "/cameras", "method": "GET", **FIGURES}],
    "hours": [{"start": "2026-11-30T10:00:00Z", **FIGURES}],
    "days": [{"start": "2026-11-30T00:00:00Z", **FIGURES}],
}


@pytest.mark.parametrize(
    ("usage", "status", "said"),
    [
        (USAGE, 200, ""),
        ({**USAGE, "totalRequests": 0}, 404, "Nothing is known of a client 'acme/one'."),
        (None, 409, "Usage is not counted here"),
        (OSError("late"), 503, "Usage cannot be looked up: late"),
    ],
)
async def test_a_client(admin: TestClient, state: State, usage: Any, status: int, said: str):
    state.usage_now = usage
    found = await asked_any(admin, "/admin/clients/acme%2Fone", "GET")
    assert found[0] == status
    if status == 200:
        assert found[1] == {"client": "acme/one", **USAGE}
    else:
        assert said in found[1]["detail"]
