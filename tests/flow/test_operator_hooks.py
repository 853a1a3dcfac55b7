"""Hooks of an operator's own that do wrong: an error at once for their request, and nothing
else."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context, Hooks

OWN = f"{__name__}:build"
PIPELINE = f"""
request = ["{OWN}"]
error = ["error_handler", "{OWN}"]
["{OWN}"]
does = "DOES"
[[route]]
prefix = "/"
upstream = "origin"
timeout = "100ms"
"""


async def chunks() -> Any:
    yield b"never sent"


async def wait(exchange: Exchange) -> None:
    await asyncio.Event().wait()


def fail(exchange: Exchange) -> None:
    raise Failed(Failure.FORBIDDEN)


def leave(exchange: Exchange) -> None:
    sys.exit(3)


DOES: dict[str, Any] = {
    "a body of text": {"request": lambda exchange: Reply(200, body="text")},  # type: ignore[arg-type]
    "a generator for a body": {"request": lambda exchange: Reply(200, body=chunks())},  # type: ignore[arg-type]
    "text for a reply": {"request": lambda exchange: "text"},
    "text for an error": {"request": fail, "error": lambda exchange, failed: "text"},
    "an exit": {"request": leave},
    "no end": {"request": wait},
}


def build(config: dict[str, Any], context: Context) -> Hooks:
    return Hooks(**DOES[config["does"]])


@pytest.mark.parametrize(
    ("does", "status"), [(does, 504 if does == "no end" else 500) for does in DOES]
)
async def test_each_is_an_error_at_once(start, connect, origin, caplog, does: str, status: int):
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    client = await connect(await start(PIPELINE.replace("DOES", does), upstreams))
    for _ in range(2):
        reply = await client.get("/")
        assert reply.status == status and reply.whole
    assert f"hook of {OWN}" in caplog.text
