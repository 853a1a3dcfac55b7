"""`gateway status` shows what a running gateway is doing, once or again and again."""

from __future__ import annotations

import json

import pytest

from gateway.commands.running import status as module
from tests.unit.admin.state import State
from tests.unit.commands.running.test_reload import Command, command

__all__ = ["command"]


async def test_for_people(command: Command):
    out, err = await command("status")
    assert err == ""
    assert out.startswith("gateway 1.2.3 serves: pid 42, up 12 s")
    assert "http://127.0.0.1:3001" in out and "configuration abc123" in out


async def test_for_programs_it_is_what_the_dashboard_shows(command: Command):
    answer = json.loads((await command("status", "--json"))[0])
    assert answer["status"]["pid"] == 42
    assert {"health", "routes", "warnings", "failures", "series"} <= answer.keys()


async def test_whether_it_is_ready(command: Command, state: State):
    assert (await command("status", "--ready"))[0] == "ready\n"
    state.is_ready = False
    assert (await command("status", "--ready", code=1))[0] == "not ready\n"
    assert json.loads((await command("status", "--ready", "--json", code=1))[0]) == {"ready": False}


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_watching_goes_on_while_the_gateway_is_away(
    command: Command, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "wrong" if len(slept) == 1 else "sesame")
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", sleep)
    out, err = await command("status", "--watch", *words)
    assert (slept, err) == ([module.EVERY] * 3, "")
    assert out.count("1.2.3") == 2 and out.count("This is not a token of [admin].") == 1
    if words:
        assert [len(json.loads(line)) > 1 for line in out.splitlines()] == [True, False, True]


async def test_who_may_not_look(command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "wrong")
    assert (await command("status", code=1))[
        1
    ] == "gateway: This is not a token of [admin]. Put one into $GATEWAY_ADMIN_TOKEN.\n"
