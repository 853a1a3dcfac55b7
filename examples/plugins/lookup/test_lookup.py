"""The lookup with a service that answers, is slow, and is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import lookup
import pytest

from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Answer, Context, Hooks
from gateway.testing import Clock, context, exchange, run
from gateway.testing.edge import Edge, Origin

pytest_plugins = ["gateway.testing.plugin"]

PIPELINE = """
request = ["test_lookup:known", "lookup:build"]
["lookup:build"]
url = "{url}/clients/"
"""


def known(config: Any, context: Context) -> Hooks:
    """In place of `auth`: every caller is acme."""

    def request(exchange: Exchange) -> None:
        exchange.identity = Identity("acme", "test")

    return Hooks(request=request)


class Service:
    """In place of context.http: answers from a list."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def get(self, url: str, **more: Any) -> Answer:
        self.asked.append(url)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Answer(200, {}, answer)

    request = post = get


class Times:
    now = 0.0


@pytest.fixture
def times() -> Times:
    return Times()


def around(service: Service, times: Times) -> Context:
    clock = Clock(lambda: times.now, lambda: times.now)
    return context("lookup", http=service, clock=clock)


def plan_of(world: Context, client: str = "acme", **config: Any) -> str | None:
    """What the upstream is told of a client's plan."""
    asked = exchange("GET", "/", {"X-Plan": "mine"}, client=client)
    told: list[str] = []

    def upstream(one: Exchange) -> Reply:
        assert one.drop_headers is not None and b"x-plan" in one.drop_headers
        told.extend(value.decode() for _, value in one.forward_headers or ())
        return Reply(200)

    config = {"url": "http://plans.test/", **config}
    reply = asyncio.run(run(lookup.build, config, asked, upstream, context=world))
    return None if reply.status != 200 else (told or [""])[0]


def test_an_answer_holds_for_a_while(times: Times) -> None:
    service = Service(b'{"plan": "gold"}', b'{"plan": "lead"}', b'{"plan": "tin"}')
    world = around(service, times)
    assert [plan_of(world), plan_of(world)] == ["gold", "gold"]
    assert plan_of(world, "a/b") == "lead"
    times.now = 61.0
    assert plan_of(world) == "tin"
    assert service.asked == [f"http://plans.test/{name}" for name in ("acme", "a%2Fb", "acme")]


def test_an_older_answer_serves_while_the_service_is_away(times: Times) -> None:
    away = Failed(Failure.TIMEOUT)
    world = around(Service(b'{"plan": "gold"}', away, b"no JSON", away, away), times)
    assert plan_of(world) == "gold"
    times.now = 61.0
    assert [plan_of(world), plan_of(world)] == ["gold", "gold"]
    assert plan_of(world, "new") is None
    assert plan_of(world, "new", on_failure="open") == ""


def test_memory_is_bounded(times: Times, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "MOST", 1)
    service = Service(*[b'{"plan": "gold"}'] * 3)
    world = around(service, times)
    for client in ("a", "b", "a"):
        assert plan_of(world, client) == "gold"
    assert len(service.asked) == 3


def test_in_a_gateway(edge: Callable[..., Edge], origin: Origin) -> None:
    def answer(asked: Any) -> Any:
        found = b'{"plan": "gold"}' if asked.target.startswith("/clients/") else b"ok"
        return 200, {}, found

    origin.answer = answer
    gateway = edge(PIPELINE.format(url=origin.url))
    for _ in range(2):
        assert gateway.get("/a", {"X-Plan": "mine"}).status == 200
    targets = [one.target for one in origin.requests]
    assert targets == ["/clients/acme", "/a", "/a"]
    assert [one.headers.get("x-plan") for one in origin.requests] == [None, "gold", "gold"]
    assert gateway.metric("gateway_plugin_lookup_total", result="asked") == 1
