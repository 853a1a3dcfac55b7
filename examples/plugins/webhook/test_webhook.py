"""Signatures, and what a receiver makes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from webhook import build, signature, verify

from gateway.core.exchange import Exchange, Reply
from gateway.core.hooks import ConfigProblem
from gateway.testing import Clock, context, exchange, run
from gateway.testing.edge import Edge, Origin

pytest_plugins = ["gateway.testing.plugin"]

SECRET = "0123456789abcdef"
BODY = b'{"event": "paid"}'


def test_a_signature_of_a_known_value() -> None:
    signed = signature(SECRET.encode(), 1767225600, BODY)
    assert signed == (
        "t=1767225600,v1=abdddbc967fc61df8db05425eae54745fcf233d4362c434aaf6e758c323564e6"
    )


@pytest.mark.parametrize(
    ("value", "now", "sound"),
    [
        (signature(SECRET.encode(), 1000, BODY), 1000, True),
        (signature(SECRET.encode(), 1000, BODY), 1300, True),
        (signature(SECRET.encode(), 1000, BODY), 1301, False),
        (signature(SECRET.encode(), 1000, BODY + b" "), 1000, False),
        (signature(b"another secret..", 1000, BODY), 1000, False),
        ("t=x,v1=y", 1000, False),
        ("", 1000, False),
        ("t=1000,v1=ü", 1000, False),
    ],
)
def test_a_receiver(value: str, now: float, sound: bool) -> None:
    assert verify(SECRET.encode(), value, BODY, now) is sound


def test_what_is_sent_on() -> None:
    sent: dict[bytes, bytes] = {}

    async def upstream(asked: Exchange) -> Reply:
        assert asked.body is not None and asked.body.complete == BODY
        assert asked.drop_headers == frozenset((b"x-signature",))
        sent.update(asked.forward_headers or ())
        return Reply(200)

    still = context("webhook", clock=Clock(wall=lambda: 1000.5))
    asked = exchange("POST", "/", {"X-Signature": "forged"}, BODY)
    asyncio.run(run(build, {"secret": SECRET}, asked, upstream, context=still))
    assert sent == {b"X-Signature": signature(SECRET.encode(), 1000, BODY).encode()}


def test_a_secret_that_is_too_short() -> None:
    with pytest.raises(ConfigProblem, match="16 bytes"):
        asyncio.run(run(build, {"secret": "short"}))


def test_in_a_gateway(edge: Callable[..., Edge], origin: Origin) -> None:
    pipeline = f'request = ["webhook:build"]\n["webhook:build"]\nsecret = "{SECRET}"\n'
    gateway = edge(pipeline)
    gateway.post("/hooks", BODY, {"X-Signature": "forged"})
    gateway.get("/hooks")
    for asked, body in zip(origin.requests, (BODY, b""), strict=True):
        assert verify(SECRET.encode(), asked.headers["x-signature"], body, time.time())
