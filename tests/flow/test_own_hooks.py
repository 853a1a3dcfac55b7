"""The gateway's own hooks that wait do so without a Task: for a body, a password's hash, keys, a
store."""

from __future__ import annotations

import base64
from collections.abc import Awaitable
from typing import Any

import pytest

from gateway.core import wait
from gateway.credentials.users import user_edits, user_file
from gateway.credentials.users.user_file import User
from gateway.runtime import pipeline
from tests.flow.test_proxy import upstreams

PIPELINE = """
request = ["auth", "rate_limit", "validation"]
[auth]
methods = ["basic"]
basic.file = "../users.toml"
[rate_limit]
key = "body:user"
limit = 2
window = "1m"
[validation]
body = { schema = { type = "object" } }
[[route]]
prefix = "/"
upstream = "origin"
"""


@pytest.mark.interpreted
async def test_bodies_and_passwords(start, origin, connect, tmp_path, monkeypatch):
    tasks: list[Any] = []

    def noted(awaitable: Awaitable[Any]) -> Awaitable[Any]:
        found = wait.driven(awaitable)
        if found is not awaitable:
            tasks.append(awaitable)
        return found

    monkeypatch.setattr(pipeline, "driven", noted)
    user_edits.add(tmp_path / "users.toml", User("ann", user_file.hashed("correct horse")))
    client = await connect(await start(PIPELINE, upstreams(origin)))
    credentials = base64.b64encode(b"ann:correct horse").decode()
    lines = (f"Authorization: Basic {credentials}", "Content-Type: application/json")
    for status in (200, 200, 429):
        assert (
            await client.get("/", *lines, method="POST", body=b'{"user": "ann"}')
        ).status == status
    assert tasks == []
