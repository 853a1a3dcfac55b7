"""Redaction: the pure part, whole requests, and a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random

import pytest
from redact import Redactor, build, hidden, luhn

from gateway.core.exchange import Exchange, Reply
from gateway.testing import exchange, reply, run
from gateway.testing.edge import Edge, Origin

pytest_plugins = ["gateway.testing.plugin"]

CARD, SHOWN = b"4111111111111111", b"************1111"
JSON = {"Content-Type": "application/json"}


def test_check_digits() -> None:
    assert luhn(CARD) and luhn(b"378282246310005") and not luhn(b"4111111111111112")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"card " + CARD + b".", b"card " + SHOWN + b"."),
        (b"4111111111111112", b"4111111111111112"),
        (b"1" + CARD * 2, b"1" + CARD * 2),
        (b"", b""),
    ],
)
def test_numbers(text: bytes, shown: bytes) -> None:
    assert hidden(text) == shown


def test_wherever_chunks_end() -> None:
    random = Random(1)
    parts = [CARD, b" ", b"x", b"4" * 25, b"12", CARD[:8]]
    for _ in range(500):
        text = b"".join(random.choices(parts, k=random.randrange(8)))
        cuts = sorted(random.choices(range(len(text) + 1), k=3))
        redactor, out = Redactor(), b""
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            out += redactor.change(text[start:end])
        assert out + redactor.end() == hidden(text), (text, cuts)


def test_a_request_with_json() -> None:
    body = {"card_number": "x", "a": [{"cvc": 1, "text": CARD.decode()}]}
    sent: list[bytes] = []

    async def upstream(asked: Exchange) -> Reply:
        assert asked.body is not None and asked.drop_headers is not None
        sent.append(await asked.body.read())
        assert asked.body.length == len(sent[0]) and b"range" in asked.drop_headers
        return reply()

    asked = exchange("POST", "/", JSON, json.dumps(body).encode())
    asyncio.run(run(build, {}, asked, upstream))
    assert json.loads(sent[0]) == {
        "card_number": "***",
        "a": [{"cvc": "***", "text": SHOWN.decode()}],
    }


def test_a_request_that_is_no_json() -> None:
    asked = exchange("POST", "/", JSON, b"{")
    assert asyncio.run(run(build, {}, asked)).status == 400
    large = exchange("POST", "/", JSON, b"1" * 100)
    assert asyncio.run(run(build, {"max_body": 50}, large)).status == 413


def test_an_answer_that_arrives_in_chunks() -> None:
    answer = reply(200, [b"a " + CARD[:5], CARD[5:], b" b"], {"Content-Type": "text/plain"})
    assert asyncio.run(run(build, {}, exchange(), answer)).body == b"a " + SHOWN + b" b"
    other = reply(200, [CARD], {"Content-Type": "image/png"})
    assert asyncio.run(run(build, {}, exchange(), other)).body == CARD


def test_in_a_gateway(edge: Callable[..., Edge], origin: Origin) -> None:
    text = CARD + b" and " * 40_000 + CARD
    origin.answer = 200, {"Content-Type": "text/plain", "ETag": '"1"'}, text
    gateway = edge('request = ["redact:build"]\nresponse = ["redact:build"]\n')
    answer = gateway.get("/", {"Range": "bytes=0-3", "Accept-Encoding": "gzip"})
    assert answer.body == text.replace(CARD, SHOWN) and answer.headers["etag"] == 'W/"1"'
    assert not origin.requests[0].headers.keys() & {"range", "accept-encoding"}
    gateway.post("/", b'{"cvc": 123}', JSON)
    assert origin.requests[1].body == b'{"cvc":"***"}'
