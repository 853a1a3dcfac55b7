"""Which connection a request gets, and what waits while one is opened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.drive import Drive
from gateway.core.failures import Failed, Failure
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.http2.connection import Http2Connection
from gateway.upstream.connections.http2.sharing import Shared
from gateway.upstream.connections.http2.stream import RequestStream
from gateway.upstream.pool.endpoint import Endpoint
from tests.unit.upstream.connections.http2.world import TIMEOUTS, Handler, Socket
from tests.unit.upstream.connections.http2.world import World as One

SETTINGS = bytes.fromhex("000006040000000000000300000002")
"""Two exchanges at a time."""


class World:
    """Shared connections whose sockets the test opens: each is a Future in `asked`."""

    def __init__(self, protocol: str = "h2") -> None:
        one = One(greet=False)
        self.now, self.world = one.now, one
        self.transport, self.endpoint = one.transport, one.endpoint
        self.asked: list[tuple[Any, asyncio.Future[None]]] = []
        self.made: list[Any] = []
        self.shared = Shared(
            self.transport, self.endpoint, self.open, self.transport._opening, protocol
        )
        self.alpn: str | None = None
        self.socket = Tls(self)

    async def open(self, factory: Any, endpoint: Endpoint) -> object:
        waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked.append((factory, waits))
        await waits
        return None

    def connect(self, timeout: float = 5.0, max_idle: int = 10) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.shared.connect(timeout, max_idle, 60.0))

    async def opened(self, number: int = 0, settings: bytes = SETTINGS) -> None:
        """The socket is there, and the endpoint has sent its SETTINGS."""
        factory, waits = self.asked[number]
        protocol = factory()
        self.made.append(protocol)
        protocol.connection_made(self.socket)
        waits.set_result(None)
        await turns()
        if settings:
            protocol.chosen.data_received(settings)
        await turns()


class Tls(Socket):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def set_protocol(self, protocol: Any) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "ssl_object" and self.world.alpn is not None else default

    def selected_alpn_protocol(self) -> str | None:
        return self.world.alpn or None


async def turns() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def use(place: RequestStream) -> Handler:
    handler = Handler()
    place.start([(b":method", b"GET")], b"", handler, TIMEOUTS)
    return handler


async def test_one_is_opened_for_all_who_come_meanwhile() -> None:
    world = World()
    first, second = world.connect(), world.connect()
    await turns()
    assert len(world.asked) == 1
    assert repr(world.shared) == "<Shared 127.0.0.1:1, 0 with room, 2 wait for another>"
    await world.opened()
    places = [first.result(), second.result()]
    assert all(isinstance(place, RequestStream) and not place.kept for place in places)
    assert repr(world.shared) == "<Shared 127.0.0.1:1, 1 with room>"
    kept = world.shared.take()
    assert kept is not None and kept.kept
    for place in places:
        use(place)
    assert world.shared.take() is None


async def test_the_one_offered_last_is_taken() -> None:
    world = World()
    for number in range(2):
        waiting = world.connect()
        await turns()
        await world.opened(number)
        await waiting
    last = world.shared.take()
    assert last is not None and last._connection is world.made[1].chosen


async def test_no_more_without_requests_are_kept_than_may_be_idle() -> None:
    """An endpoint that refuses what comes on kept connections, or takes one request on each, would
    else be given ever more of them."""
    world, handlers = World(), []
    for number in range(4):
        waiting = [world.connect(max_idle=2), world.connect(max_idle=2)]
        await turns()
        world.socket = Tls(world)
        await world.opened(number)
        handlers += [use(await one) for one in waiting]
        await turns()
    made = [one.chosen for one in world.made]
    assert len(made) == 4 and world.shared.take() is None
    for connection in made:
        for stream in (1, 3):
            connection.data_received(b"\0\0\1\1\5\0\0\0" + bytes((stream, 0x88)))
    assert [one.told[-1].status for one in handlers] == [200] * 8
    assert [one.closed for one in made] == [False, False, True, True]
    assert world.shared.spare == 0


async def test_an_error_is_told_to_all_who_wait() -> None:
    world = World()
    waiting = [world.connect(), world.connect()]
    await turns()
    world.asked[0][1].set_exception(ConnectionRefusedError(111, "refused"))
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [error.failure for error in errors if isinstance(error, Failed)] == [
        Failure.CONNECT_FAILED
    ] * 2
    assert errors[0] is not errors[1]
    again = world.connect()
    await turns()
    assert len(world.asked) == 2
    await world.opened(1)
    assert isinstance(await again, RequestStream)


async def test_each_waits_for_its_own_time() -> None:
    world = World()
    patient, hasty = world.connect(5.0), world.connect(1.0)
    await turns()
    world.world.now += 2
    world.transport.sweep()
    with pytest.raises(Failed) as caught:
        await hasty
    assert caught.value.failure is Failure.CONNECT_TIMEOUT
    await world.opened()
    assert isinstance(await patient, RequestStream)


async def test_one_that_leaves_does_not_end_it_for_the_others() -> None:
    world = World()
    first, second = world.connect(), world.connect()
    await turns()
    first.cancel()
    await turns()
    await world.opened()
    assert isinstance(await second, RequestStream)


async def test_an_endpoint_that_takes_nothing_is_a_failure() -> None:
    world = World()
    waiting = world.connect()
    await turns()
    await world.opened(settings=SETTINGS[:-1] + b"\0")
    with pytest.raises(Failed) as caught:
        await waiting
    assert caught.value.failure is Failure.NOT_RECEIVED and world.made[0].chosen.closed


@pytest.mark.parametrize("alpn", ["http/1.1", ""])
async def test_tls_that_chooses_http1(alpn: str) -> None:
    world = World("auto")
    world.alpn = alpn
    first, second = world.connect(), world.connect()
    await turns()
    await world.opened(settings=b"")
    assert isinstance(await first, Connection) and await second is None  # To be tried again.
    own, other = world.connect(), world.connect()
    await turns()
    assert len(world.asked) == 3  # One each, from now on.
    await world.opened(1, b"")
    assert isinstance(await own, Connection)
    world.alpn = "h2"
    await world.opened(2)
    assert isinstance(await other, RequestStream)
    third, fourth = world.connect(), world.connect()
    await turns()
    assert len(world.asked) == 4
    await world.opened(3)
    assert isinstance(await third, RequestStream) and isinstance(await fourth, RequestStream)


async def test_a_connection_by_http1_that_nothing_waits_for_is_kept() -> None:
    world = World("auto")
    world.alpn = "http/1.1"
    waiting = world.connect()
    await turns()
    waiting.cancel()
    await turns()
    await world.opened(settings=b"")
    assert [type(one) for one in world.endpoint.idle] == [Connection]


async def test_http2_can_be_required() -> None:
    world = World("h2")
    world.alpn = "http/1.1"
    waiting = world.connect()
    await turns()
    await world.opened(settings=b"")
    with pytest.raises(Failed, match="did not choose HTTP/2") as caught:
        await waiting
    assert caught.value.failure is Failure.TLS_FAILED


async def test_one_apart_is_not_shared() -> None:
    world = World()
    waiting = asyncio.ensure_future(world.shared.connect_apart(5.0))
    await turns()
    await world.opened()
    place = await waiting
    assert isinstance(place, RequestStream) and world.shared.take() is None
    place.give_up()
    place.retire()
    assert world.made[0].chosen.closed


async def test_what_is_retired_serves_those_who_wait_and_nobody_else() -> None:
    world = World()
    handlers: list[Handler] = []
    Drive(world.shared.connect(5.0, 10, 60.0), lambda place, _: handlers.append(use(place))).start()
    await turns()
    world.shared.retire()
    await world.opened()
    connection: Http2Connection = world.made[0].chosen
    assert len(connection.streams) == len(handlers) == 1 and not connection.closed
    assert world.shared.take() is None
    connection.streams[1].give_up()
    assert connection.closed


async def test_closing_ends_what_is_opened() -> None:
    world = World()
    waiting = world.connect()
    await turns()
    world.shared.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    world.shared.close()


async def test_an_idle_connection_with_unread_input_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    waiting = world.connect()
    await turns()
    await world.opened()
    place = await waiting
    monkeypatch.setattr(Http2Connection, "has_unread_input", lambda self: True)
    assert world.shared.take() is None
    use(place)
    assert world.shared.take() is not None  # A busy one has input all the time.
