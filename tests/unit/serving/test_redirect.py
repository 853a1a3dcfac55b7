"""Redirects to https: where they lead, and which configuration they follow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.tables.addresses import RedirectConfig
from gateway.config.tables.server import RoutingConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.runtime.pipeline import flatten
from gateway.serving.redirect import NAME, Redirects
from tests.exchange import exchange


def snapshot(number: int, finished: list[str]) -> Any:
    """A configuration whose requests without a route are noted when they are over."""
    note = Hooks(finish=lambda exchange: finished.append(f"{exchange.route.name} {number}"))
    return SimpleNamespace(
        number=number,
        loaded=SimpleNamespace(gateway=SimpleNamespace(routing=RoutingConfig())),
        unrouted=flatten("unrouted", (), (), (note,)),
    )


class World:
    def __init__(self, config: RedirectConfig | None = None, port: int = 443) -> None:
        self.finished: list[str] = []
        self.runtime: Any = SimpleNamespace(
            snapshot=snapshot(1, self.finished), services="services"
        )
        self.redirects = Redirects(self.runtime, config or RedirectConfig(80), port)

    def answer(self, asked: Exchange) -> Reply:
        """What a request gets, by the way of every other."""
        route = asked.route = self.redirects.snapshot.router.match(asked)
        asked.reply = reply = route.target(asked)
        route.pipeline.done(asked)
        return reply


def asked(target: str = "/a?b=c", host: str = "a.test", **facts: Any) -> Exchange:
    made = exchange(target=target, **facts)
    made.host = host
    return made


@pytest.mark.parametrize(
    ("config", "port", "target", "status", "location"),
    [
        (RedirectConfig(80), 443, "/a?b=c", 308, b"https://a.test/a?b=c"),
        (RedirectConfig(80), 8443, "/", 308, b"https://a.test:8443/"),
        (RedirectConfig(80, status=301), 443, "/%2F//x", 301, b"https://a.test/%2F//x"),
        (RedirectConfig(80, https_port=443), 8443, "/a", 308, b"https://a.test/a"),
        (RedirectConfig(80, https_port=4443), 8443, "/a", 308, b"https://a.test:4443/a"),
    ],
)
def test_where_it_leads(config, port, target, status, location):
    reply = World(config, port).answer(asked(target))
    assert (reply.status, reply.headers) == (status, [(b"Location", location)])


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "FOO"])
def test_all_methods_are_redirected(method):
    assert World().answer(asked(method=method)).status == 308


def test_a_request_that_names_no_host_has_nowhere_to_go():
    with pytest.raises(Failed) as caught:
        World().answer(asked(host=""))
    assert caught.value.failure is Failure.MALFORMED


def test_a_redirect_is_logged_and_counted_as_a_route_of_its_own():
    world = World()
    world.answer(asked())
    assert world.finished == [f"{NAME} 1"]
    assert world.redirects.services == "services"


def test_it_follows_the_configuration_in_force():
    world = World()
    first = world.redirects.snapshot
    assert world.redirects.snapshot is first, "composed once"
    world.runtime.snapshot = snapshot(2, world.finished)
    second = world.redirects.snapshot
    assert second is not first and second.number == 2
    world.answer(asked())
    assert world.finished == [f"{NAME} 2"]
