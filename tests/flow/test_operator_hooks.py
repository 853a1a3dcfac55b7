"""Hooks of an operator's own that do wrong: an error at once for their request, and nothing
else."""

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar
from typing import Any

import pytest

from gateway.core.content.replies import ReplyStream
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context, Hooks
from gateway.testing import Stream
from tests.origin import fields_of

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


CALLER: ContextVar[str] = ContextVar("CALLER", default="nobody")


def remember(exchange: Exchange) -> None:
    exchange.forward_headers = [(b"X-Before", CALLER.get().encode())]
    CALLER.set("somebody")


def tell(exchange: Exchange, reply: Reply) -> None:
    reply.add(b"X-Caller", CALLER.get().encode())


DOES: dict[str, Any] = {
    "a body of text": {"request": lambda exchange: Reply(200, body="text")},  # type: ignore[arg-type]
    "a generator for a body": {"request": lambda exchange: Reply(200, body=chunks())},  # type: ignore[arg-type]
    "text for a reply": {"request": lambda exchange: "text"},
    "text for an error": {"request": fail, "error": lambda exchange, failed: "text"},
    "an exit": {"request": leave},
    "no end": {"request": wait},
}


class Broken(Stream):
    """A body that stops wrongly; `read` is no coroutine."""

    def read(self) -> Any:
        raise StopIteration


class Once(ReplyStream):
    """A body that says what it is."""

    def __init__(self) -> None:
        self._left = [b"once", b""]

    async def read(self) -> bytes:
        return self._left.pop(0)

    def abort(self) -> None:
        self._left = [b""]


def spoil(exchange: Exchange) -> None:
    exchange.reply = None


def quit_early(exchange: Exchange) -> None:
    raise GeneratorExit


async def render_slowly(exchange: Exchange, failed: Failed) -> None:
    WAITING.set()
    await RELEASED.wait()


def fail_or_look(exchange: Exchange) -> Reply:
    if exchange.path == "/fails":
        raise Failed(Failure.FORBIDDEN)
    return Reply(200, body=repr(sys.exc_info()[1]).encode())


WAITING, RELEASED = asyncio.Event(), asyncio.Event()
MORE: dict[str, Any] = {
    "keeps": {"request": remember, "response": tell},
    "a broken body": {"request": lambda exchange: Reply(200, body=Broken())},
    "a body of its own": {"request": lambda exchange: Reply(200, body=Once())},
    "spoils": {"finish": spoil},
    "quits": {"finish": quit_early},
    "fails slowly": {"request": fail_or_look, "error": render_slowly},
}


def build(config: dict[str, Any], context: Context) -> Hooks:
    return Hooks(**(DOES | MORE)[config["does"]])


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


async def test_a_stream_may_inherit_what_it_has_to_have(start, connect, origin):
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    text = PIPELINE.replace("DOES", "a body of its own")
    client = await connect(await start(text, upstreams))
    for _ in range(2):
        reply = await client.get("/")
        assert (reply.status, reply.body) == (200, b"once")


async def test_a_context_variable_lasts_as_long_as_its_request(start, connect, origin):
    """Also across the endpoint's answer, which comes in another callback; and no longer."""
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    lists = f'request = ["{OWN}"]\nresponse = ["{OWN}"]\n'
    text = lists + PIPELINE.partition("\n")[2].partition("\n")[2].replace("DOES", "keeps")
    client = await connect(await start(text.replace('"100ms"', '"5s"'), upstreams))
    for _ in range(3):
        reply = await client.get("/")
        assert reply.fields["x-caller"] == "somebody"
        assert fields_of(origin.heads[-1])["x-before"] == "nobody"


async def test_a_body_that_stops_wrongly_never_looks_complete(start, connect, origin, caplog):
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    client = await connect(await start(PIPELINE.replace("DOES", "a broken body"), upstreams))
    reply = await client.get("/")
    assert reply.status == 200 and not reply.whole
    assert "failed inside the gateway" in caplog.text


@pytest.mark.parametrize("does", ["spoils", "quits"])
async def test_a_finish_hook_that_does_wrong_holds_on_to_nothing(
    start, connect, origin, caplog, does: str
):
    """Its snapshot is let go of, and the hooks behind it run."""
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    gateway = await start(PIPELINE.replace("DOES", does), upstreams)
    client = await connect(gateway)
    assert (await client.get("/")).status == 200
    assert gateway.runtime.snapshot.active == 0 and (
        does == "spoils" or "finish hook" in caplog.text
    )


async def test_an_error_that_waits_is_nobody_elses(start, connect, origin):
    """What is being handled for one request is not the current exception of others."""
    WAITING.clear()
    RELEASED.clear()
    upstreams = f'[upstream.origin]\nurl = "{origin.url}"\n'
    text = PIPELINE.replace("DOES", "fails slowly").replace('timeout = "100ms"', "")
    gateway = await start(text, upstreams)
    client, other = await connect(gateway), await connect(gateway)
    slow = asyncio.create_task(client.get("/fails"))
    await WAITING.wait()
    assert sys.exc_info() == (None, None, None)
    assert (await other.get("/looks")).body == b"None"
    RELEASED.set()
    assert (await slow).status == 403
    assert (await other.get("/looks")).body == b"None"
