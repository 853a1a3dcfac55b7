"""What middlewares ask services with, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.clock import Clock
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.runtime.operators import http
from gateway.runtime.operators.http import Client, HttpClients
from tests.exchange import exchange
from tests.origin import Origin, answer, fields_of


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.telemetry = Telemetry()
        self.shared = HttpClients(self.telemetry, Clock(lambda: self.now, lambda: self.now))
        self.client: Client = self.shared.of("lookup")

    def counted(self) -> dict[str, float]:
        counts = self.telemetry.plugin_requests.values
        assert {name for name, _ in counts} <= {"lookup"}
        return {code: count for (_, code), count in counts.items()}


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.shared.close()
    await made.shared.close()


async def answering(*respond) -> Origin:
    return await Origin(*respond).start()


async def test_an_answer(world: World):
    origin = await answering(answer(b'{"a": 1}', "201 Created", X_Word="yes"))
    asked = exchange(request_id="id-1", traceparent="00-1-2-01")
    got = await world.client.post(f"{origin.url}/x?y", json=[1], exchange=asked)
    assert (got.status, got.headers["x-word"], got.json()) == (201, "yes", {"a": 1})
    fields = fields_of(origin.heads[0])
    assert origin.heads[0].startswith(b"POST /x?y ") and origin.bodies == [b"[1]"]
    assert (fields["x-request-id"], fields["traceparent"]) == ("id-1", "00-1-2-01")
    await world.client.get(origin.url, headers={"X-Request-ID": "own"}, exchange=exchange())
    assert fields_of(origin.heads[1])["x-request-id"] == "own"
    assert "traceparent" not in fields_of(origin.heads[1])
    assert origin.connections == 1 and world.counted() == {"201": 2}
    assert sum(world.telemetry.plugin_duration.cell(("lookup",)).counts) == 2
    await origin.stop()


async def test_redirects_and_cookies_are_left_alone(world: World):
    origin = await answering(answer(b"", "302 Found", Location="/b", Set_Cookie="a=b"))
    assert (await world.client.get(origin.url)).status == 302
    await world.client.get(origin.url)
    assert len(origin.heads) == 2 and "cookie" not in fields_of(origin.heads[1])
    await origin.stop()


async def failing(world: World, url: str, **more) -> Failed:
    with pytest.raises(Failed) as failed:
        await world.client.get(url, **more)
    assert failed.value.by == "lookup"
    return failed.value


async def test_an_answer_that_is_late(world: World):
    async def never(origin, head, reader, writer):
        await asyncio.Event().wait()
        return False

    origin = await answering(never)
    failed = await failing(world, origin.url, timeout=0.05)
    assert failed.failure is Failure.TIMEOUT and "0.05 s" in failed.why
    assert world.counted() == {"timeout": 1}
    await origin.stop()


async def test_an_answer_that_is_too_long_or_none(world: World):
    origin = await answering(answer(b"x" * 100))
    assert (await failing(world, origin.url, at_most=99)).failure is Failure.BAD_RESPONSE
    origin.respond = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    await origin.stop()
    assert (await failing(world, origin.url)).failure is Failure.CONNECT_FAILED
    assert (await failing(world, "no:url")).failure is Failure.CONNECTION_RESET


async def test_a_service_that_fails_is_left_alone_for_a_while(world: World):
    origin = await answering(answer(b"", "503 Busy"))
    for _ in range(http.BREAKER.failure_threshold):
        assert (await world.client.get(origin.url)).status == 503
    failed = await failing(world, origin.url)
    assert failed.failure is Failure.CIRCUIT_OPEN and failed.headers == ((b"Retry-After", b"5"),)
    assert len(origin.heads) == http.BREAKER.failure_threshold
    other = await answering(answer(b"ok"))
    assert (await world.client.get(other.url)).status == 200
    world.now += 5
    origin.respond = answer(b"ok")
    assert (await world.client.get(origin.url)).status == 200
    assert world.counted() == {"503": 5, "circuit_open": 1, "200": 2}
    await origin.stop()
    await other.stop()


async def test_one_that_is_cancelled_says_nothing_about_the_service(world: World):
    began = asyncio.Event()

    async def never(origin, head, reader, writer):
        began.set()
        await asyncio.Event().wait()
        return False

    origin = await answering(never)
    asking = asyncio.create_task(world.client.get(origin.url, timeout=30))
    await began.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    [breaker] = world.shared._breakers.values()
    assert breaker.failures == 0 and world.counted() == {"cancelled": 1}
    await origin.stop()


def test_breakers_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "SERVICES_MAX", 2)
    world = World()
    for name in "abca":
        world.shared.allow(name)
    assert list(world.shared._breakers) == ["c", "a"]
