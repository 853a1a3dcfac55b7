"""`gateway purge` hands on what is to be purged, and says what was."""

from __future__ import annotations

import json

from gateway.store.purges import Purge
from tests.unit.admin.state import State
from tests.unit.commands.running.test_reload import Command, command

__all__ = ["command"]


async def test_by_url_prefix_and_tag(command: Command, state: State):
    out, _ = await command(
        "purge", "--url", "/a", "--url", "/b?x", "--prefix", "https://h/", "--tag", "t"
    )
    assert out.splitlines() == [
        "purged: url /a",
        "purged: url /b?x",
        "purged: prefix https://h/",
        "purged: tag t",
    ]
    assert state.purged[-1] == Purge("tag", "t")


async def test_everything_softly(command: Command, state: State):
    assert (await command("purge", "--all", "--soft"))[0] == "stale from now on: all\n"
    assert state.purged == [Purge("all", soft=True)]


async def test_for_programs(command: Command, state: State):
    said = json.loads((await command("purge", "--tag", "t", "--json"))[0])
    assert said == {"purged": [{"kind": "tag", "value": "t"}], "soft": False}


async def test_nothing_to_purge(command: Command, state: State):
    _, err = await command("purge", code=1)
    assert err == "gateway: One of url, prefix, tag and all must say what to purge.\n"
