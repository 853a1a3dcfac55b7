"""A request to be explained is taken apart, and what is said of it is shown."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.unit.admin.state import EXPLAINED, State

CHANGES = {"X-Gateway-Admin": "1"}


async def asked(admin: TestClient, body: Any) -> tuple[int, Any]:
    async with admin.post("/admin/explain", json=body, headers=CHANGES) as response:
        return response.status, await response.json(content_type=None)


async def test_a_request(admin: TestClient, state: State):
    body = {
        "method": "POST", "url": "/a?b=c", "headers": [["X-A", "b"]], "body": "é",
        "client_ip": "2001:db8::1",
    }  # fmt: skip
    assert await asked(admin, body) == (200, EXPLAINED)
    given = ("POST", "/a?b=c", (("X-A", "b"),), "é".encode(), "2001:db8::1")
    assert state.requests.question == given
    assert (await asked(admin, {"method": "GET", "url": "/"}))[0] == 200
    assert state.requests.question == ("GET", "/", (), None, "127.0.0.1")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"method": "GET /", "url": "/"},
        {"method": "GET", "url": ""},
        {"method": "GET", "url": "http://[a"},
        {"method": "GET", "url": "/" * 20_000},
        {"method": "GET", "url": "/", "headers": [["a"]]},
        {"method": "GET", "url": "/", "headers": [["a", "b"]] * 1001},
        {"method": "GET", "url": "/", "client_ip": "me"},
        {"method": "GET", "url": "/", "other": 1},
    ],
)
async def test_what_is_no_request(admin: TestClient, body: Any):
    assert (await asked(admin, body))[0] == 422


async def test_while_no_worker_serves(admin: TestClient, state: State):
    state.requests.explained = None
    assert (await asked(admin, {"method": "GET", "url": "/"}))[0] == 503
