"""`gateway why` shows what was decided about a request, for people and for programs."""

from __future__ import annotations

import json

import pytest

from gateway.commands.running.why import columns, told
from tests.unit.admin.state import WHY
from tests.unit.commands.running.test_reload import Command, command

__all__ = ["command"]

TEXT = """\
GET /cameras
  403 AUTH_003 forbidden, after 1.897 ms, at 2026-11-30T18:41:27.968Z
  by partner-a, from 192.0.2.7; request 42ec2af8/1
  the client was told: This needs the permission cameras:read.

  auth  refused  pipelines/partner.toml:13  require: GET needs cameras:read; client partner-a has none

attempts at None:
  127.0.0.1:3001  12.5 ms  connect_failed: refused
"""


async def test_one_request(command: Command):
    assert (await command("why", "42ec2af8/1"))[0] == TEXT
    assert json.loads((await command("why", "42ec2af8/1", "--json"))[0]) == WHY


async def test_a_request_that_is_not_known(command: Command):
    out, err = await command("why", "other", code=1)
    assert not out and err.startswith("gateway: Nothing is known of request 'other'")


async def test_the_last_requests(command: Command):
    assert (await command("why"))[0].split() == [
        "2026-11-30T18:41:27.968Z", "403", "forbidden", "partner-a", "GET", "/cameras", "42ec2af8/1",
    ]  # fmt: skip
    shown = (await command("why", "--client", "nobody", "--limit", "5"))[0]
    assert shown == "no request was refused, failed or slow lately\n"
    assert json.loads((await command("why", "--json"))[0]) == {"requests": [WHY]}


def test_what_is_not_known_is_left_out():
    bare = {**WHY, "client": None, "code": None, "reason": None, "detail": None, "attempts": []}
    assert told(bare)[1:4] == [
        "  403, after 1.897 ms, at 2026-11-30T18:41:27.968Z",
        "  by a client without a name, from 192.0.2.7; request 42ec2af8/1",
        "",
    ]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [([("a", "b")], ["  a  b"]), ([("a", ""), ("bbb", "c")], ["  a", "  bbb  c"])],
)
def test_columns(rows: list[tuple[str, str]], lines: list[str]):
    assert columns(rows) == lines
