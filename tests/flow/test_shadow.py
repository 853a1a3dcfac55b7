"""Everything that refuses, in shadow: requests pass as if it were not there, and what would have been
refused is counted by route, middleware, reason and client, logged, and remembered."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from time import time

from gateway.cli import main
from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.new_keys import Wish
from tests.origin import Origin, answer
from tests.until import until

LATE = "a-key-that-has-expired"

HEAD = 'response = ["logging"]\n'
WITHOUT = """
[logging]
file = "../access.log"
[[route]]
name = "all"
prefix = "/"
upstream = "origin"
"""
SHADOWED = """
request = ["cors", "auth", "forward_auth", "rate_limit", "validation"]
[cors]
origins = ["https://app.example.com"]
reject = true
shadow = true
[auth]
methods = ["api_key"]
api_key.file = "../keys.toml"
shadow = true
[forward_auth]
url = "{judge}/check"
timeout = "20s"
shadow = true
keep = ["X-User"]
[rate_limit]
limit = 1
window = "1h"
key = "ip"
shadow = true
[validation]
max_body = 3
report = true
body.schema = {{ type = "object", required = ["id"] }}
"""
REQUEST = (
    b"POST /a?api_key=x HTTP/1.1\r\nHost: gateway.test\r\nOrigin: https://evil.example\r\n"
    b"X-API-Key: a-key-that-has-expired\r\nX-User: me\r\nX-Request-ID: the-first\r\n"
    b'Content-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}'
)


async def test_nothing_changes_and_everything_is_told(
    start, origin: Origin, origin_of, connect, tmp_path: Path, capsys
):
    key_edits.create(tmp_path / "keys.toml", Wish("late", expires=1.0), time(), existing=LATE)
    judge = await origin_of(answer(b"no", "403 Forbidden", X_User="judge"))
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    answers = []
    for more in ("", SHADOWED.format(judge=judge.url)):
        gateway = await start(HEAD + more + WITHOUT, upstreams)
        client = await connect(gateway)
        for _ in range(2):
            await client.send(REQUEST)
            answers.append(await client.read())
    assert [(one.status, one.body) for one in answers] == [(200, b"ok")] * 4
    first, *others = origin.heads
    assert all(one == first for one in others) and origin.bodies == [b'{"a": 1}'] * 4

    counted = dict(gateway.telemetry.shadow_refusals.values)
    assert counted == {
        ("all", "cors", "forbidden"): 2,
        ("all", "auth", "expired"): 2,
        ("all", "forward_auth", "403"): 2,
        ("all", "rate_limit", "rate_limited"): 1,
        ("all", "validation", "body_too_large"): 2,
    }
    assert dict(gateway.telemetry.client_shadow_refusals.values) == {("late",): 2}

    admin = f"http://127.0.0.1:{gateway.admin_port}"
    given = ["why", "--shadow", "--json", "--admin", admin]
    assert await asyncio.to_thread(main, given) == 0
    last, _ = json.loads(capsys.readouterr().out)["requests"]
    assert [(one["hook"], one["outcome"]) for one in last["decisions"][1:-1]] == [
        (name, "would refuse (shadow)")
        for name in ("cors", "auth", "forward_auth", "rate_limit", "validation")
    ]
    text = (tmp_path / "pipelines" / "test.toml").read_text().splitlines()
    lines = [text[int(one["at"].rpartition(":")[2]) - 1] for one in last["decisions"][1:-1]]
    assert [line.partition(" ")[0] for line in lines] == [
        "origins", "api_key.file", "[forward_auth]", "[rate_limit]", "max_body",
    ]  # fmt: skip
    assert (last["status"], last["client"], last["request"]["id"]) == (200, "late", "the-first")
    assert await asyncio.to_thread(main, ["why", "--json", "--admin", admin]) == 0
    assert json.loads(capsys.readouterr().out) == {"requests": []}

    log = tmp_path / "access.log"
    await until(lambda: log.exists() and log.read_text().count("\n") == 4)
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["client"], line["reason"]) == ("late", "shadow:validation")
    assert "of late expired" in line["why"] and "answers 403" in line["why"]
