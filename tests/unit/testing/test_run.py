"""One middleware over one request."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Whole
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.runtime.operators.hooks import HookError
from gateway.testing import Clock, context, exchange, reply, run
from tests.origin import Origin, answer

RAN: list[str] = []


@table
class OwnConfig:
    """A table."""

    most: int = setting(Whole(least=1), default=5, doc="a number")


CONFIG = OwnConfig


def build(config: OwnConfig, context: Context) -> Hooks:
    RAN.clear()
    kept = context.keep(("own",), None, list)

    async def start() -> None:
        RAN.append(f"start {config.most} {kept}")

    async def close() -> None:
        RAN.append("close")

    async def request(exchange: Exchange) -> Reply | None:
        RAN.append("request")
        if exchange.path == "/own":
            return Reply(202, (), b"own")
        if exchange.path == "/refused":
            raise Failed(Failure.FORBIDDEN, "No.")
        if exchange.path == "/wrong":
            raise ZeroDivisionError
        return None

    def response(exchange: Exchange, reply: Reply) -> None:
        reply.set(b"X-Seen", b"%d" % reply.status)

    def error(exchange: Exchange, failed: Failed) -> None:
        assert exchange.reply is not None
        exchange.reply.set(b"X-Failed", failed.failure.reason.encode())

    def finish(exchange: Exchange) -> None:
        RAN.append(f"finish {exchange.bytes_out}")

    return Hooks(request, response, error, finish, start=start, close=close)


async def test_a_request_that_passes():
    got = await run(build, {"most": 7}, exchange("GET", "/a"), reply(body=[b"a", b"b"]))
    assert (got.status, got.body, got.get(b"x-seen")) == (200, b"ab", b"200")
    assert RAN == ["start 7 []", "request", "finish 2", "close"]
    assert (await run(build)).body == b""


async def test_one_that_the_middleware_answers():
    def never(exchange: Exchange) -> Reply:
        raise AssertionError

    got = await run(build, {}, exchange("GET", "/own"), never)
    assert (got.status, got.body) == (202, b"own")


async def test_failures_of_either():
    asked = exchange("GET", "/refused")
    got = await run(build, {}, asked)
    assert (got.status, got.get(b"x-failed")) == (403, b"forbidden") and b"No." in got.body
    assert asked.failed is not None and asked.failed.failure is Failure.FORBIDDEN
    got = await run(build, {}, exchange(), Failed(Failure.READ_TIMEOUT))
    assert (got.status, got.get(b"x-failed"), got.get(b"x-seen")) == (504, b"read_timeout", None)


async def test_mistakes_are_raised():
    with pytest.raises(HookError, match="ZeroDivisionError"):
        await run(build, {}, exchange("GET", "/wrong"))
    assert RAN[-2:] == ["finish 0", "close"]
    with pytest.raises(ConfigProblem, match=r"^most: must be"):
        await run(build, {"most": 0})
    with pytest.raises(ConfigProblem, match=r"^mots: Unknown"):
        await run(build, {"mots": 1})


async def test_what_it_is_built_with():
    def clocked(config: Any, context: Context) -> Hooks:
        return Hooks(response=lambda _, reply: reply.set(b"X-Now", b"%d" % context.clock.wall()))

    still = context("own", clock=Clock(wall=lambda: 5.0))
    assert (await run(clocked, context=still)).get(b"x-now") == b"5"


async def test_a_service_is_asked():
    origin = await Origin(answer(b"found")).start()

    def asking(config: Any, context: Context) -> Hooks:
        async def request(exchange: Exchange) -> Reply:
            found = await context.http.get(origin.url, exchange=exchange)
            return Reply(200, (), found.body)

        return Hooks(request=request)

    async def upstream(exchange: Exchange) -> Reply:
        raise AssertionError

    assert (await run(asking, upstream=upstream)).body == b"found"
    await origin.stop()


async def test_an_upstream_that_waits():
    async def upstream(exchange: Exchange) -> Reply:
        return Reply(203, (), exchange.path.encode())

    assert (await run(build, {}, exchange("GET", "/p"), upstream)).body == b"/p"
