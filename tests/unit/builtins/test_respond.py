"""Fixed answers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.builtins.respond import respond
from gateway.config.tables.targets import RespondConfig
from tests.exchange import exchange


@pytest.mark.parametrize(
    ("keys", "headers", "body"),
    [
        ({"json": {"ok": True, "n": [1]}}, [(b"Content-Type", b"application/json")], b'{"ok":true,"n":[1]}'),
        ({"json": False}, [(b"Content-Type", b"application/json")], b"false"),
        ({"text": "gr\u00fcn"}, [(b"Content-Type", b"text/plain; charset=utf-8")], b"gr\xc3\xbcn"),
        ({"status": 204}, [], b""),
        (
            {"text": "<p>", "headers": {"content-type": "text/html", "X-A": "1"}},
            [(b"content-type", b"text/html"), (b"X-A", b"1")],
            b"<p>",
        ),
    ],
)  # fmt: skip
def test_answers(keys: dict[str, Any], headers: list[Any], body: bytes) -> None:
    reply = respond(RespondConfig(**keys))(exchange())
    assert (reply.status, reply.headers, reply.body) == (keys.get("status", 200), headers, body)


def test_each_request_has_a_reply_of_its_own() -> None:
    answer = respond(RespondConfig(text="x"))
    answer(exchange()).add(b"X-Only-Here", b"1")
    assert answer(exchange()).get(b"x-only-here") is None
