"""The dashboard's page and sessions: what a browser gets, and what it may do with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient

from gateway.admin.application import make_app
from gateway.config.tables.addresses import AdminConfig, ReaderConfig, TlsConfig
from gateway.pages.assets import POLICY
from tests.unit.admin.state import State

CHANGES = {"X-Gateway-Admin": "1"}
CONFIG = AdminConfig(token="sesame", readers=(ReaderConfig("oncall", "look"),), port=9)


@pytest.fixture
async def browser(aiohttp_client: Any, state: State) -> TestClient:
    """A client with cookies."""
    return await aiohttp_client(make_app(state, CONFIG), cookie_jar=CookieJar(unsafe=True))


async def begin(browser: TestClient, token: str) -> dict[str, Any]:
    async with browser.post("/admin/session", json={"token": token}, headers=CHANGES) as response:
        assert response.status == 200
        cookie = response.headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
        assert token not in cookie
        return dict(json.loads(await response.text()))


def origin(browser: TestClient) -> str:
    return f"http://{browser.host}:{browser.port}"


async def test_the_page_is_for_anybody_and_says_nothing(browser: TestClient):
    async with browser.get("/") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert response.headers["Content-Security-Policy"] == POLICY
        tag = response.headers["ETag"]
    async with browser.get("/", headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with browser.get("/", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200
    async with browser.get("/pages/kit.js") as response:
        assert (response.status, response.content_type) == (200, "text/javascript")
    for name in ("assets.py", "..%2fguard.py", "portal.html", "none"):
        async with browser.get(f"/pages/{name}") as response:
            assert response.status == 404


async def test_a_writers_session(browser: TestClient, state: State):
    async with browser.get("/admin/live") as response:
        assert response.status == 401
    said = await begin(browser, "sesame")
    assert said == {"known": True, "writes": True, "name": "operator", "needed": True}
    async with browser.get("/admin/session") as response:
        assert json.loads(await response.text()) == said
    async with browser.get("/admin/live") as response:
        assert response.status == 200
    own = {"Origin": origin(browser)}
    for headers, status in (
        (CHANGES | own, 200),
        (CHANGES, 403),  # no page of ours says so
        (own, 403),
        (CHANGES | {"Origin": "http://evil.example"}, 403),
        (CHANGES | {"Origin": "null"}, 403),
        (CHANGES | {"Origin": ""}, 403),
    ):
        async with browser.post("/admin/reload", headers=headers) as response:
            assert response.status == status, headers
    assert state.reloads == 1


async def test_a_readers_session_changes_nothing(browser: TestClient, state: State):
    assert await begin(browser, "look") == {
        "known": True, "writes": False, "name": "oncall", "needed": True
    }  # fmt: skip
    async with browser.get("/admin/live") as response:
        assert response.status == 200
    headers = CHANGES | {"Origin": origin(browser)}
    async with browser.post("/admin/reload", headers=headers) as response:
        assert response.status == 403
    assert state.reloads == 0


async def test_a_session_ends(browser: TestClient):
    await begin(browser, "sesame")
    async with browser.delete("/admin/session") as response:
        assert response.status == 403
    async with browser.delete("/admin/session", headers=CHANGES) as response:
        assert response.status == 200
    async with browser.get("/admin/session") as response:
        assert json.loads(await response.text())["known"] is False
    async with browser.get("/admin/live") as response:
        assert response.status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"token": "wrong"}', 401),
        ('{"token": ""}', 401),
        ('{"token": "\\ud800"}', 422),
        ('{"token": 1}', 422),
        ("{}", 422),
        ("[]", 422),
        ("", 422),
    ],
)
async def test_no_session_without_a_token(browser: TestClient, body: str, status: int):
    async with browser.post("/admin/session", data=body, headers=CHANGES) as response:
        assert response.status == status
        assert "Set-Cookie" not in response.headers


async def test_no_page_of_another_origin_begins_one(browser: TestClient):
    async with browser.post("/admin/session", json={"token": "sesame"}) as response:
        assert response.status == 403
        assert "Set-Cookie" not in response.headers


async def test_a_session_does_not_stand_in_for_a_wrong_token(browser: TestClient):
    await begin(browser, "sesame")
    async with browser.get("/admin/live", headers={"Authorization": "Bearer wrong"}) as response:
        assert response.status == 401


async def test_without_tokens_everybody_is_let_in(admin: TestClient):
    async with admin.get("/admin/session") as response:
        assert json.loads(await response.text()) == {
            "known": True, "writes": True, "name": "", "needed": False
        }  # fmt: skip


async def test_over_tls_the_cookie_is_for_tls_alone(aiohttp_client: Any, state: State):
    tls = TlsConfig(certificate="a", key="b")
    client = await aiohttp_client(make_app(state, AdminConfig(token="sesame", port=9, tls=tls)))
    async with client.post("/admin/session", json={"token": "sesame"}, headers=CHANGES) as response:
        cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("__Host-gateway-admin-9=") and "Secure" in cookie
