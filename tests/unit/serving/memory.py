"""A connection without sockets: a transport that keeps what is written, and a server whose answers
a test decides."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from gateway.config.tables.server import ServerConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Hooks
from gateway.core.wait import Wait, own
from gateway.runtime.pipeline import flatten
from gateway.serving.admission import Admission
from gateway.serving.http1.codec import Http1Codec
from gateway.serving.http1.connection import Http1Connection
from gateway.serving.http1.limits import Limits


class Transport(asyncio.Transport):
    """A client's socket: `take` gives what has been written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.high: int | None = None
        self.state = "open"
        self.reading = True

    def write(self, data: Any) -> None:
        assert self.state == "open", f"written after it was {self.state}"
        self.sent += data

    def take(self) -> bytes:
        sent, self.sent = self.sent, b""
        return sent

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.state = "half"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.state in ("closed", "aborted")

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 50000) if name == "peername" else default


class World:
    """A server with one route, and one connection of it.

    Requests are answered 200 with their target for a body; those to /wait when the test says so, by
    `waits`.
    """

    def __init__(self, max_requests: int = 1000) -> None:
        self.now = 100.0
        self.admission = Admission(ServerConfig())
        self.max_requests = max_requests
        self.draining = False
        self.in_flight: Any = SimpleNamespace(level=0)
        self.tunnels: Any = None
        self.waits: list[Wait[Any]] = []
        self.finished: list[str] = []
        self.lost = 0
        last = Hooks(
            error=lambda exchange, failed: Reply(failed.failure.status, body=b"error"),
            finish=lambda exchange: self.finished.append(exchange.target),
        )
        pipeline = flatten("p", (), (last,), (last,))
        route = SimpleNamespace(
            name="r",
            pipeline=pipeline,
            target=self.answer,
            awaited=True,
            config=SimpleNamespace(upstream=""),
        )
        snapshot = SimpleNamespace(
            tracer=None,
            number=1,
            foreign=False,
            active=0,
            leave=lambda: None,
            unrouted=pipeline,
            router=SimpleNamespace(match=lambda exchange: route),
        )
        self.runtime: Any = SimpleNamespace(snapshot=snapshot)
        codec = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop())
        self.connection = Http1Connection(self, codec)  # type: ignore[arg-type]
        self.transport = Transport()
        self.connection.connection_made(self.transport)

    def opened(self, connection: Any) -> None:
        connection.peer = "192.0.2.1"

    def closed(self, connection: Any) -> None:
        self.lost += 1

    def refuse(self, peer: str, failed: Failed) -> tuple[Exchange, Reply]:
        from tests.exchange import exchange

        return exchange(), Reply(failed.failure.status, body=b"refused")

    @own
    async def answer(self, exchange: Exchange) -> Reply:
        body = exchange.target.encode()
        if exchange.target.startswith("/wait"):
            wait: Wait[Any] = Wait()
            self.waits.append(wait)
            body = await wait or body
        if exchange.target.startswith("/body"):
            assert exchange.body is not None
            body = await exchange.body.whole(100_000_000)
        return Reply(200, body=body)

    def feed(self, data: bytes) -> bytes:
        """What the client sends, and what it gets at once."""
        self.connection.data_received(data)
        return self.transport.take()
