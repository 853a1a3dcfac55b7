from __future__ import annotations

from typing import Any

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import BreakerConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.failures import Failed, Failure
from gateway.upstream.connections.checks import Answer
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.http1.switched import Switched
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool
from tests.transport import AtOnce
from tests.websocket import KEY, frame, handshake, switching

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HEAD = switching(handshake(key=KEY), "X-Own: 1", "Keep-Alive: 5", "X-Hop: 1").replace(
    b"n: Upgrade", b"n: Upgrade, X-Hop"
)


class Socket:
    def __init__(self) -> None:
        self.sent = b""
        self.reading = True
        self.aborted = False
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.reading = False

    def abort(self) -> None:
        self.aborted = True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Handler(Answer):
    def __init__(self, accept: bytes) -> None:
        super().__init__()
        self.accept = accept
        self.endings: list[Failed | None] = []

    def ended(self, failed: Failed | None) -> None:
        self.endings.append(failed)


class World:
    def __init__(self, accept: bytes = ACCEPT) -> None:
        self.transport = AtOnce()
        self.endpoint = Endpoint("origin", EndpointConfig("http://127.0.0.1:1"))
        self.connection = Connection(self.transport, self.endpoint, 10)
        self.socket = Socket()
        self.connection.connection_made(self.socket)  # type: ignore[arg-type]
        self.handler = Handler(accept)
        self.connection.start(handshake(), self.handler, TimeoutsConfig(tunnel=77.0), limit=1e12)

    def switched(self, data: bytes = HEAD) -> Switched:
        self.connection.data_received(data)
        reply = self.handler._value
        assert isinstance(reply, Switched)
        return reply


async def test_an_answer_to_hooks_and_a_socket_to_serving():
    world = World()
    early = frame(b"early")
    reply = world.switched(HEAD + early)
    assert (reply.status, reply.body, reply.length, reply.idle, reply.rest) == (
        101,
        b"",
        None,
        77.0,
        early,
    )
    assert reply.headers == [(b"Sec-WebSocket-Accept", ACCEPT), (b"X-Own", b"1")], (
        "hop-by-hop fields are written anew"
    )
    assert not world.socket.reading, "until somebody listens"
    assert not world.transport.open and world.connection.limit == float("inf"), (
        "no deadline of an exchange's is left"
    )
    protocol = object()
    assert reply.take_over(protocol) is world.socket  # type: ignore[arg-type,comparison-overlap]
    assert world.socket.protocol is protocol
    assert world.connection.closed and world.endpoint.idle == []
    assert world.handler.endings == []
    reply.over()
    reply.over()
    reply.abort()
    assert world.handler.endings == [None]
    assert not world.socket.aborted, "it is no longer this one's to close"


async def test_a_head_in_pieces():
    world = World()
    for place in range(len(HEAD) - 1):
        world.connection.data_received(HEAD[place : place + 1])
    assert world.switched(HEAD[-1:] + b"rest").rest == b"rest"


async def test_given_up_it_is_closed_and_let_go_of_once():
    world = World()
    reply = world.switched()
    reply.abort()
    reply.abort()
    assert world.socket.aborted and world.handler.endings == [None]
    assert reply.take_over(object()) is None  # type: ignore[arg-type]


async def test_lost_before_it_was_taken_over():
    world = World()
    reply = world.switched()
    world.connection.connection_lost(None)
    assert reply.take_over(object()) is None  # type: ignore[arg-type]
    assert world.socket.protocol is None


@pytest.mark.parametrize(
    ("accept", "data"),
    [
        (b"", HEAD),
        (b"another", HEAD),
        (ACCEPT, HEAD.replace(b"Upgrade: websocket", b"Upgrade: chat")),
        (ACCEPT, HEAD.replace(b"Upgrade: websocket\r\n", b"")),
    ],
)
async def test_what_was_not_asked_for_is_no_answer(accept, data):
    world = World(accept)
    world.connection.data_received(data)
    error = world.handler._error
    assert isinstance(error, Failed) and error.failure is Failure.BAD_RESPONSE
    assert world.socket.aborted and not world.transport.open


async def test_an_interim_answer_may_come_first():
    world = World()
    assert (
        world.switched(b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n" + HEAD).get(b"x-early")
        is None
    )


def pool(**settings: Any) -> Pool:
    return Pool("origin", UpstreamConfig(url="http://127.0.0.1:1", **settings))


def test_a_tunnel_is_in_flight_until_it_ends_and_a_success_at_once():
    one = pool(circuit_breaker=BreakerConfig(failure_threshold=3))
    breaker = one.breaker
    assert breaker is not None
    one.release(one.pick(""), False, "no")
    endpoint = one.pick("")
    one.switched(endpoint)
    assert (one.in_flight, one.tunnels, breaker.failures) == (1, 1, 0)
    one.release(one.pick(""), False, "no")
    one.release_tunnel(endpoint)
    assert (one.in_flight, one.tunnels, breaker.failures) == (0, 0, 1), (
        "nothing was said about health"
    )


def test_without_a_breaker_it_only_counts():
    one = pool()
    endpoint = one.pick("")
    one.switched(endpoint)
    one.release_tunnel(endpoint)
    assert (one.in_flight, one.tunnels) == (0, 0)
