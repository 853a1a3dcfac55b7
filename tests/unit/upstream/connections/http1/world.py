"""A connection over a socket of the test's, and a handler that notes what it is told."""

from __future__ import annotations

from typing import Any

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.pool.endpoint import Endpoint
from tests.exchange import exchange
from tests.transport import AtOnce

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMEOUTS = TimeoutsConfig(read=10.0, write=20.0)


class Socket:
    def __init__(self) -> None:
        self.sent = b""
        self.high: int | None = None
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        self.high = high

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Body:
    def __init__(self, length: int | None, whole: bytes | None = None) -> None:
        self.length = length
        self.complete = whole


class World:
    """A connection and the handler of its exchange, which notes what it is told."""

    accept = b""

    def __init__(self) -> None:
        self.transport = AtOnce()
        self.endpoint = Endpoint("origin", EndpointConfig("http://127.0.0.1:1"))
        self.connection = Connection(self.transport, self.endpoint, 10)
        self.socket = Socket()
        self.connection.connection_made(self.socket)  # type: ignore[arg-type]
        self.told: list[Any] = []
        self.unread = False
        world = self

        class Watched(type(self.connection)):  # type: ignore[misc]
            __slots__ = ()

            def has_unread_input(self) -> bool:
                return world.unread

        self.connection.__class__ = Watched

    def interim(self, status: int, fields: Any) -> None:
        self.told.append((status, fields))

    def answered(self, reply: Reply, counts_as: int = 0) -> None:
        self.told.append(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        self.told.append((failed.failure, stale))

    def ended(self, failed: Failed | None, counts_as: int = 0) -> None:
        self.told.append("ended" if failed is None else failed.failure)

    def send(
        self,
        method: str = "GET",
        body: Body | None = None,
        *lines: tuple[str, str],
        timeouts: Any = TIMEOUTS,
    ) -> bool:
        asked: Exchange = exchange(method, "/", headers=dict(lines))
        asked.body = body  # type: ignore[assignment]
        return self.connection.send(asked, "/path", "origin:1", self, timeouts, limit=5.0)

    @property
    def head(self) -> bytes:
        return self.socket.sent.partition(b"\r\n\r\n")[0]

    @property
    def sent_body(self) -> bytes:
        return self.socket.sent.partition(b"\r\n\r\n")[2]
