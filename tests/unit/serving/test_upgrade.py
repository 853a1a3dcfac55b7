"""From a 101 to a tunnel: what is kept, what is let go of, and what becomes of bytes that came
early."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.hooks import Hooks
from gateway.protocols.websocket import LINES
from gateway.runtime.pipeline import flatten
from gateway.runtime.snapshot import Route
from gateway.serving.http1.write import make_head
from gateway.serving.tunnel import Tunnels
from gateway.serving.upgrade import join
from gateway.upstream.connections.http1.codec import Upgraded
from gateway.upstream.connections.http1.switched import Switched
from tests.exchange import exchange
from tests.unit.serving.test_tunnel import GOING_AWAY, Socket
from tests.websocket import frame

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
EARLY = frame(b"hello")
MASKED = frame(b"early", mask=b"\0\0\0\0")


class World:
    """A handshake that an endpoint has answered.

    early: what the client has sent behind it; rest: what the endpoint has behind its answer.
    """

    def __init__(
        self,
        *,
        early: bytes = b"",
        rest: bytes = b"",
        congested: bool = False,
        gone: bool = False,
    ) -> None:
        self.log: list[str] = []
        self.early, self.congested, self.gone = early, congested, gone
        self.client, self.origin = Socket(), Socket()
        self.origin.reading = False
        self.endpoint = SimpleNamespace(name="origin")
        self.route = self.routed("old")
        self.current: Any = SimpleNamespace(
            route=lambda name: self.routed("new") if name == "chat" else None,
            unrouted=self.pipeline("unrouted"),
        )
        self.runtime = SimpleNamespace(snapshot=self.current)
        self.in_flight = SimpleNamespace(level=1)
        self.tunnels = Tunnels()
        self.draining = False
        self.snapshot: Any = SimpleNamespace(leave=lambda: self.log.append("left"))
        self.exchange = exchange()
        self.exchange.route = self.route
        pairs = [(b"Sec-WebSocket-Accept", ACCEPT), (b"Upgrade", b"websocket")]
        pairs.append((b"Connection", b"Upgrade"))
        handler: Any = SimpleNamespace(accept=ACCEPT, ended=lambda failed: self.log.append("over"))
        self.reply = Switched(self, handler, Upgraded(pairs, rest), 60.0)  # type: ignore[arg-type]

    def pipeline(self, name: str) -> Any:
        def noted(what: str) -> Any:
            return lambda exchange: self.log.append(f"{what} {name}")

        log = Hooks(finish=noted("log"))
        return flatten(name, [Hooks(release=noted("release"))], [log], [log])

    def routed(self, name: str) -> Route:
        return Route("chat", SimpleNamespace(name="chat"), self.pipeline(name), None)  # type: ignore[arg-type]

    def join(self) -> World:
        join(self.exchange, self, self.reply, self)  # type: ignore[arg-type]
        return self

    # A Detachable: the connection to the endpoint.

    def hand_over(self, protocol: Any) -> Any:
        self.upstream = protocol
        return None if self.gone else self.origin

    def close(self) -> None:
        self.log.append("closed")

    # An Outlet: the connection of the client.

    def give_away(self, exchange: Any, reply: Any, rest: bytes, protocol: Any) -> Any:
        self.head = make_head(exchange, reply, LINES, close=False) + rest
        self.downstream = protocol
        return self.client, self.early, self.congested

    def taken_back(self) -> None:
        self.log.append("taken back")


async def test_the_client_gets_the_answer_and_what_came_behind_it():
    world = World(rest=EARLY).join()
    head, _, rest = world.head.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ") and b"Sec-WebSocket-Accept: " + ACCEPT in head
    assert rest == EARLY and world.reply.rest == b""
    assert world.exchange.written and len(world.tunnels) == 1


async def test_bytes_of_the_client_that_came_early_reach_the_endpoint():
    world = World(early=MASKED).join()
    assert world.origin.sent == MASKED and world.origin.reading


async def test_the_endpoint_is_not_read_while_the_client_is_congested():
    world = World(congested=True).join()
    assert not world.origin.reading
    world.downstream.resume_writing()
    assert world.origin.reading


async def test_the_configuration_is_let_go_of_at_once():
    world = World().join()
    assert world.log == ["left"] and world.snapshot is None
    assert world.exchange.route.pipeline.name == "old"
    assert world.exchange.route.target is not world.route.target, "nothing of it is kept alive"
    assert world.in_flight.level == 1, "it is still under way"


@pytest.mark.parametrize(
    ("name", "logged"),
    [("chat", "log new"), ("gone", "log unrouted")],
    ids=["a route", "no route any more"],
)
async def test_the_end_is_logged_by_what_is_in_force_then(name, logged):
    world = World(rest=EARLY)
    world.exchange.route = Route(name, SimpleNamespace(name=name), world.route.pipeline, None)  # type: ignore[arg-type]
    world.join()
    world.downstream.data_received(MASKED)
    world.downstream.connection_lost(None)
    assert world.log == ["left"], "the other side is still open"
    world.upstream.connection_lost(None)
    assert world.log == ["left", "over", logged, "release old", "taken back"]
    assert world.in_flight.level == 0 and len(world.tunnels) == 0
    assert (world.exchange.bytes_in, world.exchange.bytes_out) == (len(MASKED), len(EARLY))


async def test_an_endpoint_that_has_gone_meanwhile_ends_it():
    world = World(early=MASKED, gone=True).join()
    assert world.client.state == "closed" and world.origin.sent == b""
    world.downstream.connection_lost(None)
    assert world.log[-1] == "taken back" and world.in_flight.level == 0


async def test_a_tunnel_that_begins_while_the_gateway_stops_is_told_so():
    world = World()
    world.draining = True
    world.join()
    assert world.client.sent == GOING_AWAY
    assert world.origin.sent[:1] == GOING_AWAY[:1]
