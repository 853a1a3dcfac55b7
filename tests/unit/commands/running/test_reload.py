"""`gateway reload` says what has changed, or prints what the configuration is refused for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from gateway.admin.application import make_app
from gateway.cli import main
from gateway.config.tables.addresses import AdminConfig
from gateway.runtime.reload import Outcome
from tests.unit.admin.state import ERROR, WARNING, State

Command = Callable[..., Awaitable[tuple[str, str]]]


@pytest.fixture
async def command(
    aiohttp_server, state: State, capsys: pytest.CaptureFixture[str], monkeypatch
) -> Command:
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "sesame")
    server = await aiohttp_server(make_app(state, AdminConfig(token="sesame")))

    async def run(*words: str, code: int = 0) -> tuple[str, str]:
        given = [*words, "--admin", str(server.make_url(""))]
        assert await asyncio.to_thread(main, given) == code
        return capsys.readouterr()

    return run


async def test_what_has_changed(command: Command, state: State):
    state.outcome = Outcome(
        True, "def456", (WARNING,), ("upstream becamera changed: weight",), ("[listen] waits",)
    )
    assert (await command("reload"))[0].splitlines() == [
        "/etc/gateway/pipelines/a.toml:3:5: warning: caching before auth (hint: move it)",
        "reloaded: configuration def456",
        "  upstream becamera changed: weight",
        "  [listen] waits",
    ]


async def test_nothing_has_changed(command: Command, state: State):
    state.outcome = Outcome(True, "def456")
    assert (await command("reload"))[0] == "reloaded: configuration def456, no change\n"


async def test_a_refusal_is_printed_as_check_prints_it(command: Command, state: State):
    state.outcome = Outcome(False, "abc123", (ERROR, WARNING))
    out, err = await command("reload", code=1)
    assert out.splitlines() == [str(ERROR), str(WARNING)]
    assert err == "1 error, 1 warning\n"


async def test_for_programs(command: Command, state: State):
    assert json.loads((await command("reload", "--json"))[0])["hash"] == "def456"
    state.outcome = Outcome(False, "abc123", (ERROR,))
    answer = json.loads((await command("reload", "--json", code=1))[0])
    assert (answer["ok"], answer["problems"][0]["message"]) == (False, "no endpoints")


async def test_who_may_not(command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "wrong")
    out, err = await command("reload", code=1)
    assert (out, err) == (
        "",
        "gateway: This is not a token of [admin]. Put one into $GATEWAY_ADMIN_TOKEN.\n",
    )
