"""Only operators get through: by token, or by what no web page can send; and no answer gives a
browser anything to work with."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.admin import guard as guard_module
from gateway.admin.application import ENDPOINTS, make_app
from gateway.admin.guard import MAX_BODY, SECURITY_HEADERS, is_own_name
from gateway.config.tables.addresses import AdminConfig, ReaderConfig
from tests.unit.admin.state import State

CLOSED = sorted({endpoint.path for endpoint in ENDPOINTS if not endpoint.open} | {"/admin/nothing"})


READERS = (ReaderConfig("prometheus", "look"), ReaderConfig("oncall", "see"))


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "/metrics", "look", 200),
        ("HEAD", "/metrics", "see", 200),
        ("GET", "/admin/status", "see", 200),
        ("GET", "/metrics", "sesame", 200),
        ("POST", "/admin/reload", "sesame", 200),
        ("POST", "/admin/reload", "look", 403),
        ("DELETE", "/admin/services/becamera", "see", 403),
        ("GET", "/metrics", "lool", 401),
        ("GET", "/admin/ready", "", 200),
    ],
)
async def test_readers_may_look_and_change_nothing(
    aiohttp_client: Any, state: State, method: str, path: str, token: str, status: int
):
    client = await aiohttp_client(make_app(state, AdminConfig(token="sesame", readers=READERS)))
    async with client.request(
        method, path, headers={"Authorization": f"Bearer {token}"}
    ) as response:
        assert response.status == status
    assert state.reloads == (path == "/admin/reload" and status == 200)


async def test_with_readers_alone_nobody_changes_anything(aiohttp_client: Any, state: State):
    client = await aiohttp_client(make_app(state, AdminConfig(readers=READERS)))
    for token, status in (("look", 403), ("", 401)):
        async with client.post(
            "/admin/reload", headers={"Authorization": f"Bearer {token}", "X-Gateway-Admin": "1"}
        ) as response:
            assert response.status == status
    assert state.reloads == 0


async def test_hosts_that_are_named_may_be_asked(aiohttp_client: Any, state: State):
    client = await aiohttp_client(make_app(state, AdminConfig(hosts=("Gateway.prod.svc",))))
    for host, status in (
        ("gateway.prod.svc:9901", 200),
        ("gateway.prod.svc.", 200),
        ("other.prod.svc", 421),
    ):
        async with client.get("/metrics", headers={"Host": host}) as response:
            assert response.status == status


# With a token.


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize(
    ("description", "credentials", "challenge"),
    [
        ("none", None, 'Bearer realm="gateway"'),
        ("wrong", "Bearer sesame2", 'Bearer realm="gateway", error="invalid_token"'),
        ("a part of it", "Bearer sesam", 'Bearer realm="gateway", error="invalid_token"'),
        ("another scheme", "Basic sesame", 'Bearer realm="gateway", error="invalid_token"'),
        ("no scheme", "sesame", 'Bearer realm="gateway", error="invalid_token"'),
        ("no credentials", "Bearer", 'Bearer realm="gateway", error="invalid_token"'),
        ("outside ASCII", "Bearer sés", 'Bearer realm="gateway", error="invalid_token"'),
    ],
)
async def test_without_the_token_nothing(
    guarded: TestClient, path: str, description: str, credentials: str | None, challenge: str
):
    headers = {} if credentials is None else {"Authorization": credentials}
    async with guarded.get(path, headers=headers) as response:
        assert response.status == 401, description
        assert response.content_type == "application/problem+json"
        assert response.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize("credentials", ["Bearer sesame", "bearer sesame", "BEARER  sesame "])
async def test_with_the_token_everything(guarded: TestClient, state: State, credentials: str):
    headers = {"Authorization": credentials}
    for endpoint in ENDPOINTS:
        async with guarded.request(
            endpoint.method, endpoint.path.replace("{service}", "becamera"), headers=headers
        ) as response:
            assert response.status in {answer.status for answer in endpoint.answers}, endpoint.path
    assert state.reloads == 1


async def test_with_the_token_any_host_will_do(guarded: TestClient):
    async with guarded.get(
        "/metrics", headers={"Authorization": "Bearer sesame", "Host": "gateway.example.com"}
    ) as response:
        assert response.status == 200


async def test_a_token_may_be_any_text(aiohttp_client, state: State):
    client = await aiohttp_client(make_app(state, AdminConfig(token="schlüssel")))
    async with client.get("/metrics", headers={"Authorization": "Bearer schlüssel"}) as response:
        assert response.status == 200


async def test_readiness_is_for_everybody(guarded: TestClient):
    async with guarded.get("/admin/ready", headers={"Host": "balancer.example.com"}) as response:
        assert response.status == 200


async def test_an_open_path_is_exactly_that(guarded: TestClient):
    for path in ("/admin/ready/", "/admin/ready/../health", "/admin//ready"):
        async with guarded.get(path) as response:
            assert response.status == 401


# Without a token.


@pytest.mark.parametrize(
    ("given", "configured", "own"),
    [
        ("127.0.0.1:9901", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("10.1.2.3:9901", "0.0.0.0", True),
        ("[::1]:9901", "::1", True),
        ("[::1]", "127.0.0.1", True),
        ("localhost:9901", "127.0.0.1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("localhost.", "127.0.0.1", True),
        ("gateway.localhost:9901", "127.0.0.1", True),
        ("gateway:9901", "0.0.0.0", True),
        ("Admin.Example.com:9901", "admin.example.com", True),
        ("", "127.0.0.1", True),
        ("evil.example", "127.0.0.1", False),
        ("evil.example:9901", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("evil.example.", "127.0.0.1", False),
        ("[evil.example]", "127.0.0.1", False),
        ("sub.admin.example.com", "admin.example.com", False),
        ("evil.example:x@127.0.0.1", "127.0.0.1", False),
        ("evillocalhost.com", "127.0.0.1", False),
    ],
)
def test_own_names(given: str, configured: str, own: bool):
    assert is_own_name(given, {configured}) is own


@pytest.mark.parametrize("path", CLOSED)
async def test_a_rebound_name_gets_nothing(admin: TestClient, path: str):
    async with admin.get(path, headers={"Host": "evil.example:9901"}) as response:
        assert response.status == 421
        assert response.content_type == "application/problem+json"


async def test_a_change_needs_what_a_page_cannot_send(admin: TestClient, state: State):
    for headers in ({}, {"Content-Type": "text/plain"}, {"Origin": "https://evil.example"}):
        async with admin.post("/admin/reload", headers=headers) as response:
            assert response.status == 403
            assert "X-Gateway-Admin" in (await response.json(content_type=None))["detail"]
    assert state.reloads == 0
    async with admin.post("/admin/reload", headers={"x-gateway-admin": ""}) as response:
        assert response.status == 200


async def test_no_preflight_is_ever_answered(admin: TestClient):
    headers = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-gateway-admin",
    }
    async with admin.options("/admin/reload", headers=headers) as response:
        assert response.status == 405
        assert not [name for name in response.headers if name.lower().startswith("access-control-")]


async def raw(admin: TestClient, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(admin.host, admin.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_without_a_host_no_browser_asks(admin: TestClient):
    assert (await raw(admin, b"GET /admin/ready HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")
    assert (await raw(admin, b"GET /admin/status HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")


async def test_two_hosts_are_none(admin: TestClient):
    request = (
        b"GET /admin/status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: "
        b"close\r\n\r\n"
    )
    assert (await raw(admin, request)).split(b" ")[1] in (b"400", b"421")


# Every answer.


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/metrics", {}),
        ("GET", "/admin/ready", {}),
        ("GET", "/nothing", {}),
        ("POST", "/admin/reload", {}),
        ("POST", "/admin/reload", {"X-Gateway-Admin": "1"}),
        ("GET", "/admin/status", {"Host": "evil.example"}),
    ],
)
async def test_every_answer_is_safe_in_a_browser(
    admin: TestClient, method: str, path: str, headers: dict[str, str]
):
    async with admin.request(method, path, headers=headers) as response:
        assert {name: response.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_are_bounded(admin: TestClient, state: State, chunked: bool):
    async def pieces() -> Any:
        for _ in range(MAX_BODY // 1024 + 1):
            yield b"x" * 1024

    data: Any = pieces() if chunked else b"x" * (MAX_BODY + 1)
    async with admin.post("/admin/reload", data=data, headers={"X-Gateway-Admin": "1"}) as response:
        assert response.status == 413
        assert response.content_type == "application/problem+json"
    assert state.reloads == 0


async def test_a_body_nobody_asked_for_is_no_harm(admin: TestClient, state: State):
    for _ in range(2):
        async with admin.post(
            "/admin/reload", data=b"x" * MAX_BODY, headers={"X-Gateway-Admin": "1"}
        ) as response:
            assert response.status == 200
    assert state.reloads == 2


async def test_a_body_that_does_not_come_is_not_waited_for(
    admin: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(guard_module, "BODY_TIMEOUT", 0.01)
    request = (
        b"POST /admin/reload HTTP/1.1\r\nHost: localhost\r\nX-Gateway-Admin: "
        b"1\r\nContent-Length: 5\r\n\r\nx"
    )
    answer = await raw(admin, request)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert state.reloads == 0


async def test_changes_and_refusals_are_on_record(
    admin: TestClient, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, logger="gateway.admin")
    async with admin.get("/admin/status") as response:
        assert response.status == 200
    async with admin.get("/admin/a%0Ab", headers={"Host": "evil.example"}):
        pass
    async with admin.post("/admin/reload", headers={"X-Gateway-Admin": "1"}):
        pass
    assert [record.getMessage() for record in caplog.records if record.name == "gateway.admin"] == [
        "127.0.0.1: GET '/admin/a\\nb' answered 421",
        "127.0.0.1: POST '/admin/reload' answered 200",
    ]
