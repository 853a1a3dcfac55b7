"""Pages of the origins that [admin] names may ask, those of others may not."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.admin.application import make_app
from gateway.config.tables.addresses import AdminConfig
from gateway.config.tables.schema import schema_of
from tests.unit.admin.state import State

ELSEWHERE = "https://ops.example.com"
CONFIG = AdminConfig(token="sesame", origins=(ELSEWHERE,))
ASKS = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,x-gateway-admin",
}


@pytest.mark.parametrize(
    ("origin", "status"), [(ELSEWHERE, 200), ("https://evil.example", 403), ("null", 403)]
)
async def test_a_preflight(aiohttp_client: Any, state: State, origin: str, status: int):
    client = await aiohttp_client(make_app(state, CONFIG))
    asked = ASKS | {"Origin": origin}
    async with client.options("/admin/reload", headers=asked) as response:
        assert response.status == status
        allowed = response.headers.get("Access-Control-Allow-Origin")
        assert allowed == (origin if status == 200 else None)
        assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(
    ("origin", "allowed"), [(ELSEWHERE, ELSEWHERE), ("https://evil.example", None)]
)
@pytest.mark.parametrize(("token", "status"), [("sesame", 200), ("wrong", 401)])
async def test_an_answer(
    aiohttp_client: Any, state: State, origin: str, allowed: str | None, token: str, status: int
):
    """What is refused is also readable there, so that a page can say why."""
    client = await aiohttp_client(make_app(state, CONFIG))
    headers = {"Authorization": f"Bearer {token}", "Origin": origin}
    async with client.get("/admin/live", headers=headers) as response:
        assert response.status == status
        assert response.headers.get("Access-Control-Allow-Origin") == allowed


async def test_without_origins_there_is_no_preflight(aiohttp_client: Any, state: State):
    client = await aiohttp_client(make_app(state, AdminConfig(token="sesame")))
    asked = ASKS | {"Origin": ELSEWHERE}
    async with client.options("/admin/reload", headers=asked) as response:
        assert response.status == 401
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_preflight_is_no_way_around_the_token(aiohttp_client: Any, state: State):
    client = await aiohttp_client(make_app(state, CONFIG))
    async with client.options("/admin/reload", headers={"Origin": ELSEWHERE}) as response:
        assert response.status == 401
    async with client.get("/admin/live", headers=ASKS | {"Origin": ELSEWHERE}) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    "given", ["ops.example.com", "https://ops.example.com/", "https://a.b/c", "*"]
)
def test_what_is_no_origin(given: str):
    with pytest.raises(ValidationError):
        schema_of(AdminConfig)().load({"origins": [given]})
