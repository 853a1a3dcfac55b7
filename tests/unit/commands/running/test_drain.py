"""`gateway drain` and `undrain` say what became of the endpoint and what is left."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.unit.admin.state import HEALTH, State
from tests.unit.commands.running.test_reload import Command, command

__all__ = ["command"]
URL = "http://127.0.0.1:3001"


@pytest.fixture
def endpoint(state: State) -> dict[str, Any]:
    state.health_now = copy.deepcopy(HEALTH)
    found: dict[str, Any] = state.health_now["upstreams"]["becamera"]["endpoints"][0]
    return found


async def test_the_last_endpoint(command: Command, state: State, endpoint: dict[str, Any]):
    endpoint |= {"draining": True, "eligible": False}
    out, err = await command("drain", "becamera", URL)
    assert out == f"drained: becamera {URL}; it finishes 3; endpoints left: 0\n"
    assert err == "no endpoint is left: requests are answered 503\n"
    assert state.drained == [("becamera", URL, True)]


async def test_undrained(command: Command, state: State):
    out, err = await command("undrain", "becamera", URL)
    assert (out, err) == (f"undrained: becamera {URL}; endpoints that may be picked: 1\n", "")
    assert state.drained == [("becamera", URL, False)]


async def test_the_configuration_drains_it(command: Command, endpoint: dict[str, Any]):
    endpoint["draining"] = True
    assert "drains all the same" in (await command("undrain", "becamera", URL))[0]


async def test_for_programs(command: Command):
    answer = json.loads((await command("drain", "becamera", URL, "--json"))[0])
    assert (answer["service"], answer["eligible"]) == ("becamera", 1)


@pytest.mark.parametrize("words", [("none", URL), ("becamera", "http://a"), ("a/b", URL)])
async def test_what_there_is_not(command: Command, words: tuple[str, str]):
    out, err = await command("drain", *words, code=1)
    assert out == "" and err.startswith("gateway: There is no ")
