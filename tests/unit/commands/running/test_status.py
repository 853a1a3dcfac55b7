"""`gateway status` shows what a running gateway is doing."""

from __future__ import annotations

import json

from tests.unit.admin.state import STATUS, State
from tests.unit.commands.running.test_reload import Command, command

__all__ = ["command"]


async def test_all_of_it(command: Command):
    assert json.loads((await command("status"))[0]) == STATUS


async def test_whether_it_is_ready(command: Command, state: State):
    assert json.loads((await command("status", "--ready"))[0]) == {"ready": True}
    state.is_ready = False
    assert json.loads((await command("status", "--ready", code=1))[0]) == {"ready": False}
