"""Connections of a listener: which are one too many, what they begin with, what ends them."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.tables.server import RoutingConfig, ServerConfig
from gateway.core.hooks import Hooks
from gateway.core.problems import render
from gateway.core.telemetry import Telemetry
from gateway.runtime.pipeline import flatten
from gateway.serving.http1.connection import Http1Connection
from gateway.serving.net.listener import Listener
from gateway.serving.net.tls import GOODBYE, TlsTransport
from tests.exchange import exchange
from tests.unit.serving.memory import Transport


class World:
    """A listener without sockets, under the [server] table that `settings` make."""

    def __init__(self, tls: Any = None, **settings: Any) -> None:
        self.finished: list[str] = []
        self.telemetry = Telemetry()
        self.runtime: Any = SimpleNamespace(services=SimpleNamespace(telemetry=self.telemetry))
        self.put_in_force(tls, **settings)
        self.listener = Listener(self.runtime)

    def put_in_force(self, tls: Any = None, **settings: Any) -> None:
        last = Hooks(
            error=lambda exchange, failed: render(failed, exchange, "problem"),
            finish=lambda exchange: self.finished.append(exchange.peer),
        )
        gateway = SimpleNamespace(server=ServerConfig(**settings), routing=RoutingConfig())
        self.runtime.snapshot = SimpleNamespace(
            loaded=SimpleNamespace(gateway=gateway),
            tls=tls,
            unrouted=flatten("unrouted", (), (), (last,)),
        )

    def connect(self, peer: str = "192.0.2.1") -> tuple[Http1Connection, Transport]:
        connection = self.listener.welcome(peer)
        assert isinstance(connection, Http1Connection)
        transport = Transport()
        connection.connection_made(transport)
        return connection, transport

    @property
    def refused(self) -> dict[tuple[str, ...], float]:
        return dict(self.telemetry.connections_refused.values)


def secure(authenticates: bool = False, subject: str = "") -> Any:
    return SimpleNamespace(
        context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        authenticates=authenticates,
        subject=lambda handshake: subject,
    )


async def test_a_connection_counts_until_it_is_closed():
    world = World()
    connection, transport = world.connect()
    assert world.listener.connections == {connection} and connection.scheme == "http"
    assert (connection.peer, transport.sent) == ("192.0.2.1", b"")
    assert "1 connections, 0 busy" in repr(world.listener)
    connection.connection_lost(None)
    world.listener.closed(connection)
    assert world.listener.connections == set() and world.listener._by_address == {}


async def test_the_address_is_the_sockets_unless_it_is_known():
    world = World()
    connection = world.listener()
    connection.connection_made(Transport())
    assert connection.peer == "192.0.2.1"


async def test_one_connection_too_many_is_told_and_closed():
    world = World(max_connections=2)
    world.connect("192.0.2.1")
    second, _ = world.connect("192.0.2.2")
    third, transport = world.connect("192.0.2.3")
    assert transport.sent.startswith(b"HTTP/1.1 503 ") and transport.state == "closed"
    assert b"Retry-After: 1\r\n" in transport.sent
    assert world.refused == {("max_connections",): 1} and world.finished == ["192.0.2.3"]
    for gone in (second, third):
        gone.connection_lost(None)
    assert world.connect("192.0.2.3")[1].state == "open"


@pytest.mark.parametrize(("tls", "said"), [(None, b"HTTP/1.1 503 "), (secure(), b"")])
async def test_without_descriptors_clients_are_turned_away(tls, said):
    world = World(tls)
    assert world.listener.turn_away("192.0.2.1")[:13] == said
    assert world.refused == {("descriptors",): 1} and len(world.finished) == (tls is None)


@pytest.mark.parametrize(
    ("peers", "settings", "refused"),
    [
        (["192.0.2.1"] * 3, {}, 1),
        (["192.0.2.1", "192.0.2.2", "192.0.2.3"], {}, 0),
        (["2001:db8::1", "2001:db8::2", "2001:db8::3"], {}, 1),
        (["2001:db8::1", "2001:db8:0:1::2", "2001:db8::3"], {}, 0),
        (["192.0.2.1"] * 3, {"trusted_proxies": ("192.0.2.0/24",)}, 0),
    ],
    ids=["one address", "others", "one network", "other networks", "a trusted proxy"],
)
async def test_connections_from_one_address_are_bounded(peers, settings, refused):
    world = World(max_connections_per_ip=2, **settings)
    states = [world.connect(peer)[1] for peer in peers]
    assert [one.sent[:13] == b"HTTP/1.1 429 " for one in states].count(True) == refused
    assert world.refused == ({("max_connections_per_ip",): 1} if refused else {})


def abuse(world: World, peer: str, reason: str = "frames", times: int = 2) -> bool:
    """So many connections are ended for it; return True if the next is refused."""
    for _ in range(times):
        world.listener.count_http2_end(reason, peer)
    return world.listener.refuses(peer)


async def test_an_address_is_refused_after_its_abuse_and_logged_once(caplog):
    world = World(max_abuse_per_ip=2, abuse_penalty=20.0)
    assert not world.listener.refuses("192.0.2.1")
    assert abuse(world, "192.0.2.1", times=3)
    assert not world.listener.refuses("192.0.2.2")
    assert world.refused == {("max_abuse_per_ip",): 1}
    assert dict(world.telemetry.http2_ended.values) == {("frames",): 3}
    assert [one.getMessage() for one in caplog.records] == [
        "connections from 192.0.2.1 are refused for 20 s: 2 of them were ended for abuse, the last "
        "one for frames"
    ]
    world.listener.now += 20.0
    assert not world.listener.refuses("192.0.2.1")


@pytest.mark.parametrize(
    ("peer", "reason", "settings"),
    [
        ("192.0.2.1", "internal_error", {}),
        ("192.0.2.1", "frames", {"trusted_proxies": ("192.0.2.0/24",)}),
        ("unix", "frames", {}),
        ("192.0.2.1", "frames", {"max_abuse_per_ip": 0}),
    ],
    ids=["the gateway's own fault", "a trusted proxy", "a unix socket", "switched off"],
)
async def test_who_is_not_refused(peer, reason, settings):
    world = World(**{"max_abuse_per_ip": 2, **settings})
    assert not abuse(world, peer, reason, 20)
    assert world.refused == {}


async def test_a_reload_lets_in_whom_it_trusts():
    world = World(max_abuse_per_ip=2)
    assert abuse(world, "192.0.2.1")
    world.put_in_force(max_abuse_per_ip=2, trusted_proxies=("192.0.2.1",))
    world.listener.configure()
    assert not world.listener.refuses("192.0.2.1")


async def test_over_tls_one_too_many_is_closed_without_a_word():
    world = World(secure(), max_connections_per_ip=2)
    first = world.listener.welcome("192.0.2.1")
    assert isinstance(first, TlsTransport) and world.listener.total() == 1
    world.listener.welcome("192.0.2.1")
    assert world.listener.welcome("192.0.2.1") is None, "handshakes count"
    first.connection_lost(None)
    second = world.listener.welcome("192.0.2.1")
    assert isinstance(second, TlsTransport)
    connection: Any = world.listener.secured(second)
    connection.connection_made(second)
    assert world.listener.from_address("192.0.2.1") == world.listener.total() == 2
    connection.connection_lost(None)
    assert world.listener.from_address("192.0.2.1") == world.listener.total() == 1


async def test_handshakes_that_take_too_long_end_with_the_sweep():
    world = World(secure(), header_timeout=10.0)
    tls: Any = world.listener.welcome("192.0.2.1")
    transport = Transport()
    tls.connection_made(transport)
    world.listener._sweep()
    assert transport.state == "open"
    tls.since -= 10.1
    world.listener._sweep()
    assert transport.state == "aborted" and world.listener.total() == 0
    assert GOODBYE < 10, "so that was the handshake's time"
    assert dict(world.telemetry.tls_failures.values) == {(): 1}


async def test_http_to_a_port_for_https_is_answered_and_counted():
    world = World(secure())
    tls: Any = world.listener.welcome("192.0.2.1")
    transport = Transport()
    tls.connection_made(transport)
    tls.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transport.sent.startswith(b"HTTP/1.1 400 ") and b"use https" in transport.sent
    assert world.finished == ["192.0.2.1"] and world.listener.total() == 0


class Secured(TlsTransport):
    """The transport of a client whose handshake is done."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return "handshake" if name == "ssl_object" else default


@pytest.mark.parametrize(
    ("authenticates", "subject", "seen"),
    [(True, "CN=client", "CN=client"), (True, "", ""), (False, "CN=ignored", "")],
)
async def test_whom_a_certificate_is_made_out_to(authenticates, subject, seen):
    world = World(secure(authenticates, subject))
    connection = world.listener("192.0.2.1")
    connection.connection_made(Secured(world.listener, world.listener.tls.context, "192.0.2.1"))  # type: ignore[union-attr]
    made = connection.admission.exchange(
        "GET",
        "/",
        {},
        (),
        (1, 1),
        "192.0.2.1",
        connection.scheme,
        0.0,
        {},  # type: ignore[arg-type]
    )
    assert (made.scheme, made.tls_subject) == ("https", seen)


async def test_https_never_turns_into_http_under_way():
    world = World(secure())
    first = world.listener.tls
    world.listener._started = True
    world.put_in_force(None)
    world.listener.configure()
    assert world.listener.tls is first
    plain = World()
    plain.listener._started = True
    plain.put_in_force(secure())
    plain.listener.configure()
    assert plain.listener.tls is None, "nor http into https"


async def test_open_connections_keep_the_limits_they_began_with():
    world = World()
    old, _ = world.connect()
    world.put_in_force(max_body=1, max_requests_per_connection=5)
    world.listener.configure()
    new, _ = world.connect()
    assert old.admission is not new.admission and world.listener.max_requests == 5


@pytest.mark.parametrize(
    ("settings", "peer", "may"),
    [
        ({}, "192.0.2.1", True),
        ({"trusted_proxies": ("198.51.100.0/24",)}, "192.0.2.1", False),
        ({"trusted_proxies": ("198.51.100.0/24",)}, "198.51.100.7", True),
    ],
)
async def test_who_may_send_a_preamble(settings, peer, may):
    assert World(**settings).listener.may_introduce(peer) is may


async def test_stopping_closes_idle_connections_and_aborts_busy_ones_in_the_end():
    world = World()
    idle, quiet = world.connect()
    busy, waiting = world.connect()
    busy._drive = SimpleNamespace(cancel=lambda: None)  # type: ignore[assignment]
    busy.exchange = exchange()
    quiet.close = lambda: idle.connection_lost(None)  # type: ignore[method-assign]
    waiting.abort = lambda: busy.connection_lost(None)  # type: ignore[method-assign]
    await world.listener.stop(0)
    assert world.listener.connections == set() and world.listener.draining
    assert (quiet.state, waiting.state) == ("open", "open"), "each was ended in its own way"
