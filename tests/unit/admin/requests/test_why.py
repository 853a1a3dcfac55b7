"""Requests that were refused, failed or slow, asked for one by one and as a list."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.unit.admin.state import WHY, State


async def asked(admin: TestClient, path: str) -> tuple[int, Any]:
    async with admin.get(path) as response:
        return response.status, await response.json(content_type=None)


async def test_one_request(admin: TestClient):
    assert await asked(admin, "/admin/why/42ec2af8%2F1") == (200, WHY)
    status, answer = await asked(admin, "/admin/why/other")
    assert status == 404 and "Nothing is known of request 'other'" in answer["detail"]


async def test_the_last_requests(admin: TestClient, state: State):
    assert await asked(admin, "/admin/why") == (200, {"requests": [WHY]})
    wanted = {"client": "nobody", "route": "cameras", "reason": "forbidden"}
    query = "&".join(f"{name}={value}" for name, value in wanted.items())
    assert await asked(admin, f"/admin/why?{query}&other=1") == (200, {"requests": []})
    assert state.requests.wanted == wanted


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1e3", "٣", "9" * 30])
async def test_no_such_limit(admin: TestClient, limit: str):
    assert (await asked(admin, f"/admin/why?limit={limit}"))[0] == 422


async def test_nothing_that_is_not_described(admin: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(WHY, "secret", "x")
    assert "secret" not in (await asked(admin, "/admin/why"))[1]["requests"][0]
