"""A connection over a socket of the test's, an endpoint on the package h2, and handlers that note
what they are told."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.clock import Clock
from gateway.core.exchange import Reply
from gateway.core.failures import Failed
from gateway.upstream.connections.http2.connection import Http2Connection
from gateway.upstream.connections.http2.stream import RequestStream
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
from tests.exchange import exchange

TIMEOUTS = TimeoutsConfig(read=10.0, write=20.0)


class Socket:
    def __init__(self) -> None:
        self.sent = b""
        self.aborted = self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.aborted
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Handler:
    """Notes what becomes of one exchange."""

    accept = b""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def interim(self, status: int, fields: Any) -> None:
        self.told.append((status, fields))

    def answered(self, reply: Reply, counts_as: int = 0) -> None:
        self.told.append(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        self.told.append((failed.failure, stale))
        self.why = failed.why

    def ended(self, failed: Failed | None, counts_as: int = 0) -> None:
        self.told.append("ended" if failed is None else failed.failure)


class Offers:
    """Notes whether the connection can be found."""

    def __init__(self) -> None:
        self.has, self.spare = False, 1

    def offer(self, connection: Http2Connection) -> None:
        self.has = connection.offered = True

    def withdraw(self, connection: Http2Connection) -> None:
        self.has = connection.offered = False


class World:
    """A connection whose endpoint has sent its SETTINGS. `now` is the time."""

    def __init__(self, keepalive: float = 60.0, greet: bool = True, **settings: int) -> None:
        self.now = 100.0
        self.transport = Transport(Clock(lambda: self.now, lambda: self.now))
        self.endpoint = Endpoint("origin", EndpointConfig("http://127.0.0.1:1"))
        self.offers = Offers()
        self.connection = Http2Connection(self.transport, self.endpoint, keepalive, self.offers)
        self.socket = Socket()
        self.peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.peer.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: settings.pop("most", 100)
            },
        )
        self.events: list[Any] = []
        self.connection.connection_made(self.socket)  # type: ignore[arg-type]
        if greet:
            self.peer.initiate_connection()
            self.exchange()
            self.offers.offer(self.connection)

    def exchange(self) -> None:
        """Bytes go both ways until there are none."""
        while True:
            self.connection.flush()
            sent, self.socket.sent = self.socket.sent, b""
            if sent:
                self.events += self.peer.receive_data(sent)
            data = self.peer.data_to_send()
            if data and not self.connection.closed:
                self.connection.data_received(data)
            elif not self.socket.sent:
                return

    def receive(self, data: bytes) -> None:
        """Bytes of the endpoint's, whatever they are."""
        self.connection.data_received(data)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and what is due be swept."""
        self.now += seconds
        self.transport.sweep()

    def send(
        self, method: str = "GET", kept: bool = False, body: Any = None, **more: Any
    ) -> tuple[RequestStream, Handler]:
        stream, handler = RequestStream(self.connection, kept), Handler()
        asked = exchange(method, "/", more.pop("headers", {}))
        asked.body = body
        asked.notes.update(more.pop("notes", {}))
        stream.send(asked, "/path", "origin:1", handler, TIMEOUTS, **more)
        self.exchange()
        return stream, handler

    def answer(self, stream: RequestStream, *fields: tuple[str, str], end: bool = False) -> None:
        self.peer.send_headers(stream.number, [(":status", "200"), *fields], end_stream=end)
        self.exchange()


class Body:
    """A request's body of which nothing is here yet, or all."""

    def __init__(self, whole: bytes | None = None, length: int | None = None) -> None:
        self.complete = whole
        self.length = len(whole) if whole is not None else length


def resets(world: World) -> list[int]:
    """The codes with which streams were reset."""
    return [event.error_code for event in world.events if isinstance(event, h2.events.StreamReset)]


def goaways(world: World) -> list[int]:
    """The codes with which the connection was ended."""
    return [
        event.error_code
        for event in world.events
        if isinstance(event, h2.events.ConnectionTerminated)
    ]
