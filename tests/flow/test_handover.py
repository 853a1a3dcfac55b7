"""Plain request hooks that return an awaitable: the rest of the way goes on in a task, whichever
way the request came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context, Hooks
from tests.flow.test_proxy import upstreams
from tests.origin import fields_of
from tests.until import until

PIPELINE = (
    f'request = ["{__name__}:build", "auth"]\n'
    "[auth]\noptional = true\n"
    '[[route]]\nprefix = "/"\nupstream = "origin"\n'
    '[[route]]\npath = "/info"\nbuiltin = "info"\n'
)
LEFT: list[str] = []


def build(config: Any, context: Context) -> Hooks:
    async def later(word: str) -> Reply | None:
        try:
            await asyncio.sleep(30 if word == "never" else 0)
        except asyncio.CancelledError:
            LEFT.append(word)
            raise
        if word == "refuse":
            raise Failed(Failure.FORBIDDEN, "Not today.")
        return Reply(200, (), b"by the hook") if word == "answer" else None

    def request(exchange: Exchange) -> Awaitable[Reply | None] | None:
        word = exchange.headers.get("X-Later")
        return None if word is None else later(word)

    return Hooks(request=request)


@pytest.mark.parametrize(
    ("path", "word", "status", "body"),
    [
        ("/", "", 200, b"ok"),
        ("/", "pass", 200, b"ok"),
        ("/", "answer", 200, b"by the hook"),
        ("/", "refuse", 403, b"Not today."),
        ("/info", "pass", 200, b"gateway"),
    ],
)
async def test_the_way_goes_on(start, origin, connect, path, word, status, body):
    gateway = await start(PIPELINE, upstreams(origin), keys__toml="")
    client = await connect(gateway)
    for _ in range(2):  # the connection stays usable
        reply = await client.get(path, *([f"X-Later: {word}"] if word else []))
        assert reply.status == status and body in reply.body


async def test_the_hooks_after_it_run_once(start, origin, connect):
    gateway = await start(PIPELINE, upstreams(origin), keys__toml="")
    client = await connect(gateway)
    assert (
        await client.get("/", "X-Later: pass", "X-API-Key: wrong-key-of-somebody")
    ).status == 401
    assert origin.heads == []
    assert (await client.get("/", "X-Later: pass")).status == 200
    assert "x-client-id" not in fields_of(origin.heads[0])


async def test_a_client_that_leaves_ends_the_waiting(start, origin, connect):
    gateway = await start(PIPELINE, upstreams(origin), keys__toml="")
    LEFT.clear()
    client = await connect(gateway)
    await client.send(b"GET / HTTP/1.1\r\nHost: gateway.test\r\nX-Later: never\r\n\r\n")
    await until(lambda: gateway.telemetry.in_flight.get())
    client.close()
    await until(lambda: LEFT)
