"""Requests and replies as plugins' tests make them."""

from __future__ import annotations

import pytest

from gateway.core.failures import Failed, Failure
from gateway.testing import Body, Stream, exchange, reply, whole_body


def test_a_request():
    one = exchange(
        "POST", "/a?b", {"X-A": "ü"}, b"body", client="acme", route="r", peer="192.0.2.1"
    )
    assert (one.method, one.path, one.query, one.peer) == ("POST", "/a", "b", "192.0.2.1")
    assert one.headers["x-a"] == "ü" and one.raw_headers == [(b"X-A", "ü".encode())]
    assert one.identity is not None and one.identity.client == "acme"
    assert one.route.name == "r" and one.decisions is None
    assert exchange(explained=True).decisions == [] and exchange().identity is None


async def test_its_body():
    body = exchange(body=b"abc").body
    assert body is not None and (body.length, body.complete, body.received) == (3, None, True)
    with pytest.raises(Failed) as failed:
        await body.whole(2)
    assert failed.value.failure is Failure.BODY_TOO_LARGE
    assert await body.whole(3) == body.complete == b"abc"
    other = Body(b"abc")
    assert [await other.read(), await other.read()] == [b"abc", b""]


async def test_replies():
    plain = reply(201, "text", {"X-A": "b"})
    assert (plain.status, plain.body, plain.length, plain.get(b"x-a")) == (201, b"text", 4, b"b")
    assert await whole_body(plain) == b"text"
    streamed = reply(body=[b"a", b"b"])
    assert streamed.length is None and await whole_body(streamed) == b"ab"
    broken = Stream(b"a", ConnectionError())
    assert await broken.read() == b"a"
    with pytest.raises(ConnectionError):
        await broken.read()
    broken.abort()
    assert broken.aborted == 1
