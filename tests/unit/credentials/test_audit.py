from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.failures import Failed
from gateway.core.hooks import ConfigProblem
from gateway.lifetime.logs.logfile import LogFile
from tests.unit.middlewares.auth.bearers import NOW, Bearers, asked, bearing, token


def written(world: Bearers) -> list[dict[str, Any]]:
    world.reload()
    [file] = [kept for kept in world.kept if isinstance(kept, LogFile)]
    file.close()
    assert file.wait(10)
    return [json.loads(line) for line in (world.directory / "audit.log").read_text().splitlines()]


async def test_every_decision(tmp_path: Path):
    world = Bearers(tmp_path)
    hook = world.auth(
        audit={"file": "audit.log"}, require={"GET": [], "*": ["cameras:write"]}, optional=True
    )
    good = bearing(token(), target="/cameras?api_key=hidden")
    good.request_id, good.client_ip = "r1", "192.0.2.1"
    hook(good)
    hook(asked())
    for exchange in (bearing("a.b.c"), bearing(token(), method="DELETE")):
        with pytest.raises(Failed):
            hook(exchange)
    hook(bearing(token(), explained=True))
    lines = written(world)
    assert lines[0] == {
        "timestamp": "2023-11-14T22:13:20.000Z", "event": "authentication", "outcome": "allowed", "result": "ok",
        "auth_method": "jwt", "client": "acme", "user": "acme", "key": None,
        "client_ip": "192.0.2.1", "request_id": "r1", "method": "GET",
        "path": "/cameras", "route": None, "pipeline": "partner", "hook": "auth", "why": None,
    }  # fmt: skip
    assert [
        (line["outcome"], line["auth_method"], line["result"], line["client"]) for line in lines[1:]
    ] == [
        ("allowed", "none", "anonymous", None),
        ("denied", "jwt", "malformed", None),
        ("denied", "jwt", "forbidden", "acme"),
    ]
    assert lines[3]["why"] == "require: DELETE needs cameras:write; client acme has none"
    text = (tmp_path / "audit.log").read_text()
    assert token().rpartition(".")[2] not in text and "hidden" not in text


async def test_only_what_was_refused(tmp_path: Path):
    world = Bearers(tmp_path)
    hook = world.auth(audit={"file": "audit.log", "allowed": False}, optional=True)
    hook(bearing(token()))
    hook(asked())
    odd = bearing("a.b.c", target="/\udcff")
    with pytest.raises(Failed):
        hook(odd)
    [line] = written(world)
    assert line["outcome"] == "denied" and line["path"] == "/?"
    assert world.now == NOW


def test_a_file_that_cannot_be_opened(tmp_path: Path):
    with pytest.raises(ConfigProblem, match="cannot open") as caught:
        Bearers(tmp_path).auth(audit={"file": "none/audit.log"})
    assert caught.value.at == ("audit", "file")
