"""The fixtures, used as a plugin's tests use them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.core.exchange import Exchange, Reply
from gateway.core.hooks import Context, Hooks
from gateway.testing.edge import Message
from gateway.testing.plugin import ROUTE, edge, origin

fixtures = edge, origin
OWN = f"{__name__}:build"


def build(config: dict[str, Any], context: Context) -> Hooks:
    word = config["word"].encode()
    counts = context.metric("seen", "Requests seen", labels=("method",))

    def response(exchange: Exchange, reply: Reply) -> None:
        counts.add(exchange.method)
        reply.set(b"X-Word", word)

    return Hooks(response=response)


def pipeline(word: str) -> str:
    return f'response = ["{OWN}"]\n["{OWN}"]\nword = "{word}"\n'


def test_a_gateway_and_an_origin(edge, origin):
    origin.answer = lambda asked: (201, {"X-Method": asked.method}, asked.body)
    gateway = edge(pipeline("one"), "[server]\nmax_header_size = 4096\n", other__txt="text")
    got = gateway.post("/a?b", b'{"a": 1}', {"X-A": "b"})
    assert (got.status, got.json(), got.headers["x-word"]) == (201, {"a": 1}, "one")
    assert gateway.request("HEAD", "/").headers["x-method"] == "HEAD"
    first, second = origin.requests
    assert (first.method, first.target, first.headers["x-a"]) == ("POST", "/a?b", "b")
    assert second.body == b"" and gateway.url.endswith(gateway.url.rpartition(":")[2])
    assert gateway.metric("gateway_plugin_seen_total", method="POST") == 1
    assert gateway.metric("gateway_plugin_seen_total", method="PUT") == 0
    assert (gateway.directory / "other.txt").read_text() == "text"
    with pytest.raises(LookupError):
        gateway.metric("gateway_nothing")


def test_a_reload(edge, origin):
    gateway = edge(pipeline("one"))
    assert gateway.reload(pipeline("two") + ROUTE) == ()
    assert gateway.get("/").headers["x-word"] == "two"
    [problem] = gateway.reload(f'response = ["{OWN}"]\n{ROUTE}')
    assert "build failed: KeyError" in problem
    assert gateway.get("/").headers["x-word"] == "two"


def test_what_is_wrong_is_raised(edge):
    with pytest.raises(ConfigErrors, match="nowhere"):
        edge('request = ["nowhere:build"]\n')


def test_messages():
    one = Message((200,), {}, b"[1]")
    assert one.status == 200 and one.json() == [1]
