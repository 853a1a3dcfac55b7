"""The command line's client says what the listener answered, or in words why there was no
answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.admin.application import make_app
from gateway.commands.running import client as client_module
from gateway.commands.running.client import AdminError, call
from gateway.config.tables.addresses import AdminConfig
from gateway.runtime.reload import Outcome
from tests.unit.admin.state import ERROR, STATUS, State


async def asked(*arguments: Any, **options: Any) -> tuple[int, dict[str, Any]]:
    return await asyncio.to_thread(call, *arguments, **options)


@pytest.fixture
async def url(aiohttp_server, state: State) -> str:
    server: TestServer = await aiohttp_server(make_app(state, AdminConfig(token="sésame")))
    return str(server.make_url("")).rstrip("/")


async def test_status_and_answer(url: str):
    assert await asked("GET", f"{url}/admin/status", "sésame") == (200, STATUS)


async def test_changes_without_a_token(aiohttp_server, state: State):
    server: TestServer = await aiohttp_server(make_app(state))
    status, answer = await asked("POST", str(server.make_url("/admin/reload")))
    assert (status, answer["ok"]) == (200, True)


async def test_a_refusal_is_an_answer(url: str, state: State):
    state.outcome = Outcome(False, "abc123", (ERROR,))
    status, answer = await asked("POST", f"{url}/admin/reload", "sésame")
    assert (status, answer["problems"][0]["message"]) == (422, "no endpoints")


async def test_a_wrong_token_is_an_answer(url: str):
    status, answer = await asked("GET", f"{url}/admin/status", "wrong")
    assert (status, answer["status"]) == (401, 401)


@pytest.fixture
async def echo(aiohttp_server) -> str:
    async def handler(request: web.Request) -> web.Response:
        kind = request.query.get("answer")
        if kind == "redirect":
            raise web.HTTPFound("/elsewhere")
        if kind is not None:
            return web.Response(text=kind)
        return web.json_response(
            {
                "target": request.raw_path,
                "body": await request.text(),
                "headers": dict(request.headers),
            }
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server: TestServer = await aiohttp_server(app)
    return str(server.make_url("")).rstrip("/")


async def test_what_is_sent(echo: str):
    _, answer = await asked("POST", f"{echo}/admin/explain?a=1%20b", "t", body={"method": "GET"})
    assert answer["target"] == "/admin/explain?a=1%20b"
    assert answer["body"] == '{"method": "GET"}'
    headers = answer["headers"]
    assert (headers["Authorization"], headers["X-Gateway-Admin"], headers["Content-Type"]) == (
        "Bearer t",
        "1",
        "application/json",
    )
    _, answer = await asked("GET", echo)
    assert (answer["target"], answer["body"]) == ("/", "")
    assert not {"Authorization", "Content-Type"} & answer["headers"].keys()


async def test_no_proxy_is_asked(echo: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert (await asked("GET", echo))[0] == 200


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("redirect", "answered 302, but no JSON object"),
        ("plain text", "answered 200, but no JSON object"),
        ("[1]", "answered 200, but no JSON object"),
        ("\udcff".encode("utf-8", "replace").decode(), "answered 200, but no JSON object"),
    ],
)
async def test_what_is_no_admin_listener(echo: str, kind: str, message: str):
    with pytest.raises(AdminError, match=message):
        await asked("GET", f"{echo}/?answer={kind.replace(' ', '+')}")


async def test_answers_are_bounded(echo: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_module, "MAX_ANSWER", 10)
    with pytest.raises(AdminError, match="more than 10 bytes"):
        await asked("GET", echo)


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[str]:
    """Somebody who answers every connection with `answer` and closes it, or who never says a
    word."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            taken.append(connection)
            if answer is not None:
                connection.recv(65536)
                connection.sendall(answer)
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/admin/status"
    finally:
        thread.join()
        listener.close()
        for connection in taken:
            connection.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"],
)
def test_what_is_no_http(answer: bytes):
    with listening(answer) as url, pytest.raises(AdminError, match=r"no HTTP answer|cannot reach"):
        call("GET", url)


def test_silence():
    with (
        listening(None) as url,
        pytest.raises(AdminError, match=r"no answer from .* within 0.05 seconds"),
    ):
        call("GET", url, timeout=0.05)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(AdminError, match=r"nothing listens at .*is the gateway running"):
        call("GET", f"http://127.0.0.1:{port}/")


def test_no_such_host(monkeypatch: pytest.MonkeyPatch):
    def resolve(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(AdminError, match=r"cannot reach .*Name or service not known"):
        call("GET", "http://gateway.invalid:9901/")


def test_tls_to_what_speaks_none():
    with (
        listening(b"HTTP/1.1 200 OK\r\n\r\n") as url,
        pytest.raises(AdminError, match="cannot reach"),
    ):
        call("GET", url.replace("http:", "https:"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:9901",
        "ftp://127.0.0.1/",
        "http://",
        "http://:9901",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://[",
    ],
)
def test_what_is_no_url(url: str):
    with pytest.raises(AdminError, match="is no URL"):
        call("GET", url)


def test_what_cannot_be_asked():
    with pytest.raises(AdminError, match="cannot ask"):
        call("GET", "http://127.0.0.1:9/a b")


@pytest.mark.parametrize(
    "token", ["s3cret\n", "s3cret\r\nX: y", "\ns3cret", "s3cret s3cret", "s3cret\x00"]
)
def test_a_token_that_cannot_be_sent_is_not_shown(token: str):
    with pytest.raises(AdminError, match="admin token holds letters that cannot be sent") as caught:
        call("GET", "http://127.0.0.1:9/", token)
    assert "s3cret" not in str(caught.value) and caught.value.__cause__ is None
