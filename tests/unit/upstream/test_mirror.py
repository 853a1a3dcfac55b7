"""Copies of requests: which are made, what they hold, and that the client's request is as before."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.config.tables.targets import MirrorConfig
from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.core.wait import Wait
from gateway.protocols.websocket import UPGRADE
from gateway.upstream.mirror import ANSWER_MAX, Mirrored, _Kept
from tests.exchange import Stream, exchange
from tests.until import until


class Arriving:
    """A RequestBody that comes in chunks."""

    limit: int | None = None
    length = None
    complete = None
    received = False

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    async def read(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    async def whole(self, at_most: int) -> bytes:
        raise NotImplementedError


class Shadow:
    """A second upstream that keeps what it was asked, and answers once it may."""

    def __init__(self, answer: Reply | Exception | None = None, *, waits: bool = False) -> None:
        self.asked: list[Exchange] = []
        self.answer = answer or Reply(200)
        self.go: Wait[None] = Wait()
        if not waits:
            self.go.wake()

    async def __call__(self, request: Exchange) -> Reply:
        self.asked.append(request)
        if not self.go.done:
            await self.go
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def reads(request: Exchange) -> Reply:
    """The first upstream: takes the body as it comes."""
    while request.body is not None and await request.body.read():
        pass
    return Reply(201)


@pytest.fixture
async def turn() -> AsyncIterator[Any]:
    async def one() -> None:
        await asyncio.sleep(0)

    yield one


def mirrored(shadow: Shadow, first: Any = reads, **config: Any) -> tuple[Mirrored, Telemetry]:
    telemetry = Telemetry()
    settings = MirrorConfig("shadow", **config)
    return Mirrored(first, shadow, settings, telemetry.mirror_dropped, random.Random(1)), telemetry


def post(*chunks: bytes, **facts: Any) -> Exchange:
    return exchange(
        "POST", "/a?b=1", {"X-A": "1"}, route="cameras", body=Arriving(*chunks), **facts
    )


async def test_the_copy_is_the_request_with_its_body(turn):
    shadow = Shadow()
    mirror, _ = mirrored(shadow)
    identity = Identity("acme", "api_key")
    request = post(b"ab", b"c", peer="192.0.2.1", identity=identity, request_id="r1")
    request.forward_headers = [(b"X-B", b"2")]
    assert (await mirror(request)).status == 201
    assert shadow.asked == []
    await turn()
    (copy,) = shadow.asked
    assert copy.body is not None and copy.body.complete == b"abc"
    assert (copy.method, copy.target, copy.raw_headers) == ("POST", "/a?b=1", request.raw_headers)
    assert (copy.identity, copy.client_ip, copy.request_id) == (identity, "192.0.2.1", "r1")
    assert copy.forward_headers == [(b"X-B", b"2")]


async def test_what_the_first_fails_at_is_mirrored_too(turn):
    async def fails(request: Exchange) -> Reply:
        raise Failed(Failure.NO_ENDPOINT)

    shadow = Shadow()
    mirror, _ = mirrored(shadow, fails)
    with pytest.raises(Failed):
        await mirror(exchange(route="cameras"))
    await turn()
    assert len(shadow.asked) == 1


async def test_a_client_that_left_is_not_mirrored(turn):
    async def cancelled(request: Exchange) -> Reply:
        raise asyncio.CancelledError

    shadow = Shadow()
    mirror, _ = mirrored(shadow, cancelled)
    with pytest.raises(asyncio.CancelledError):
        await mirror(exchange(route="cameras"))
    await turn()
    assert shadow.asked == []


async def test_bounds(turn):
    shadow = Shadow(waits=True)
    mirror, telemetry = mirrored(shadow, max_body=3, limit=2)
    for chunks in ((b"abc",), (b"abcd",), (b"ab", b"cd", b"ef"), (b"",), (b"abc",)):
        assert (await mirror(post(*chunks))).status == 201
        await turn()
    assert [copy.body and copy.body.complete for copy in shadow.asked] == [b"abc", b""]
    assert dict(telemetry.mirror_dropped.values) == {
        ("cameras", "body"): 2,
        ("cameras", "limit"): 1,
    }
    shadow.go.wake()
    await turn()
    await mirror(post(b"x"))
    await turn()
    assert len(shadow.asked) == 3


async def test_a_body_that_was_not_read_to_its_end_is_not_mirrored(turn):
    async def early(request: Exchange) -> Reply:
        assert request.body is not None
        await request.body.read()
        return Reply(403)

    shadow = Shadow()
    mirror, telemetry = mirrored(shadow, early)
    await mirror(post(b"ab", b"c"))
    await turn()
    assert shadow.asked == []
    assert telemetry.mirror_dropped.get(("cameras", "body")) == 1


async def test_only_a_share_and_no_websocket(turn):
    shadow = Shadow()
    mirror, _ = mirrored(shadow, share=0.25)
    for _ in range(400):
        await mirror(exchange(route="cameras"))
    await turn()
    assert 70 < len(shadow.asked) < 130
    whole, _ = mirrored(shadow := Shadow())
    await whole(exchange(route="cameras", notes={UPGRADE: b"x"}))
    await turn()
    assert shadow.asked == []


async def test_answers_are_dropped(turn, caplog):
    short, long = Stream(b"ab", b"cd"), Stream(*[bytes(ANSWER_MAX // 2)] * 4)
    broken = Stream(b"ab", Failed(Failure.CONNECTION_RESET))
    for stream, left in ((short, 0), (long, 2), (broken, 0)):
        mirror, _ = mirrored(Shadow(Reply(200, body=stream)))
        await mirror(exchange(route="cameras"))
        await until(lambda stream=stream: stream.aborted)
        assert len(stream.chunks) == left
    mirror, _ = mirrored(Shadow(Failed(Failure.NO_ENDPOINT)))
    await mirror(exchange(route="cameras"))
    await turn()
    assert not caplog.records
    mirror, _ = mirrored(Shadow(RuntimeError("odd")))
    await mirror(exchange(route="cameras"))
    await turn()
    assert "mirroring a request went wrong" in caplog.text


async def test_a_body_in_crumbs_does_not_take_many_times_its_size_until_it_is_copied():
    """64 KiB took more than a MB."""
    count = 20_000
    crumbs = [b"%d" % (10 + place % 90) for place in range(count)]
    body = _Kept(Arriving(*crumbs), count * 2)  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        while await body.read():
            pass
        assert tracemalloc.get_traced_memory()[0] < 8 * count
    finally:
        tracemalloc.stop()
    copy = body.copied()
    assert copy is not None and copy.complete == b"".join(crumbs)
