"""`gateway explain` shows what a running gateway says. That this is true: tests/flow/test_explain.py."""

from __future__ import annotations

import json

from tests.unit.admin.state import EXPLAINED, State
from tests.unit.commands.running.test_reload import Command, command

__all__ = ["command"]

TEXT = """\
GET /cameras
  would be answered: 403 AUTH_003 forbidden
  by partner-a, from 192.0.2.7

  auth  refused  pipelines/partner.toml:13  require: GET needs cameras:read; client partner-a has none

cache key: http://localhost/cameras

limits:
  default  4 of 5 left

endpoints:
  o  http://127.0.0.1:1  healthy  eligible

127.0.0.1:1 would be sent:
  GET /cameras HTTP/1.1
  Host: localhost
  (2 bytes of body)
"""


async def test_what_would_happen(command: Command, state: State):
    given = ("explain", "GET", "/cameras", "-H", "X-A: b:c", "-H", "X-B:", "-d", "x")
    assert (await command(*given, "--client-ip", "192.0.2.7"))[0] == TEXT
    headers = (("X-A", "b:c"), ("X-B", ""))
    assert state.requests.question == ("GET", "/cameras", headers, b"x", "192.0.2.7")
    assert json.loads((await command(*given, "--json"))[0]) == EXPLAINED


async def test_an_upstream_that_answers_itself(command: Command, state: State):
    bare = {"status": None, "client": None, "cache_key": None, "limits": [], "endpoints": []}
    state.requests.explained = {**EXPLAINED, **bare, "sends": None}
    assert (await command("explain", "GET", "/cameras"))[0].splitlines()[1:4] == [
        "  would be answered: what the upstream answers",
        "  by a client without a name, from 192.0.2.7",
        "",
    ]


async def test_what_cannot_be_explained(command: Command, state: State):
    assert "is no header" in (await command("explain", "GET", "/", "-H", "x", code=1))[1]
    state.requests.explained = None
    assert (await command("explain", "GET", "/", code=1))[1] == "gateway: No worker serves.\n"
