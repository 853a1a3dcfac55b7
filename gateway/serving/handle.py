"""aiohttp's request handler: one coroutine per request, the plain way. inline.py is the shorter one."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from gateway.serving.passage import Passage
from gateway.serving.tunnel import Tunnels
from gateway.serving.upgrade import Upgrade

if TYPE_CHECKING:
    from gateway.runtime.compose import World
    from gateway.runtime.snapshot import Snapshot
    from gateway.serving.http1.connection import ClientConnection, Sent


class Running(Protocol):
    """What a listener needs of the runtime."""

    @property
    def world(self) -> World: ...

    @property
    def snapshot(self) -> Snapshot: ...


class Handler:
    """Answers requests on the snapshot in force when they arrive. `draining`: every connection ends after its reply."""

    def __init__(self, runtime: Running) -> None:
        self.runtime = runtime
        self.draining = False
        self.tunnels = Tunnels()
        self.in_flight = runtime.world.telemetry.in_flight
        self.in_flight.set((), 0)

    async def __call__(self, request: web.BaseRequest) -> Sent:
        """One request's whole way, from its head to its last byte."""
        connection: ClientConnection = request.protocol  # type: ignore[assignment]
        connection.began()
        raw_headers, memo = connection.remember(request.raw_headers)
        exchange = connection.admission.exchange(
            request.method,
            request.raw_path,
            request.headers,
            raw_headers,
            request.version,
            connection.peer,
            connection.scheme,
            perf_counter(),
            memo,
        )
        way = Upgrade if Upgrade.wanted(connection, exchange) else Passage
        passage = way(self, connection, exchange, not request.keep_alive or connection.spent)
        error: BaseException | None = None
        if way is Passage:
            connection.exchange = exchange
        try:
            if request.body_exists:
                connection.body = connection.admission.attach_body(exchange, request.content, connection.go_ahead)
            return connection.sent(await passage.run())
        except BaseException as ended:
            error = ended
            raise
        finally:
            connection.body = connection.exchange = None
            passage.finish(error)
