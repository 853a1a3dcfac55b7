"""The socket of the admin application: connections, their deadlines, malformed requests.

aiohttp's server has neither limits nor deadlines, and answers malformed requests in its own shape,
so both are added to its protocol here. Connections are accepted here too: a flood of the data plane
must not take the descriptors by which operators look at it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.admin.answers import problem
from gateway.admin.guard import secured
from gateway.lifetime.descriptors import Reserve

log = logging.getLogger("gateway.admin")

MAX_CONNECTIONS = 128
HEAD_TIMEOUT = 10.0
"""Seconds for TLS and a connection's first head, and for one that begins after another request."""
WRITE_TIMEOUT = 30.0
"""Seconds a client may take nothing of an answer."""
SHUTDOWN_TIMEOUT = 3.0
"""Seconds that answers under way get when the gateway stops."""
RESERVE = 16
"""Descriptors kept for connections that come when the process has no others left."""
SETTINGS: dict[str, Any] = {
    "access_log": None,
    "keepalive_timeout": HEAD_TIMEOUT,
    "lingering_time": 2.0,
}
"""Of aiohttp's protocol.

A head that comes in pieces after another request ends with keepalive_timeout.
"""
BACKLOG = 128
"""Connections that may wait to be accepted."""
_ACCEPT_BATCH = 16


class AdminConnection(RequestHandler):
    """One connection, with the deadlines that aiohttp's lacks."""

    __slots__ = ("_late", "_listener")

    def __init__(self, listener: AdminListener, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **SETTINGS)
        self._listener = listener
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.connections.add(self)
        self._restart(HEAD_TIMEOUT)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop()
        self._listener.released(self)
        super().connection_lost(exc)

    def began(self) -> None:
        """Called with the first look at a request: its head is complete."""
        self._stop()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._restart(WRITE_TIMEOUT)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop()

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer malformed requests and errors of the application with a problem.

        Nothing internal is in it.
        """
        if status >= 500:
            log.error("%s %r failed", request.method, request.path, exc_info=exc)
        else:
            log.info("%s: a malformed request: %s", request.remote, message)
        detail = (
            "The gateway's log says what went wrong."
            if status >= 500
            else "The request is not valid HTTP/1.1."
        )
        response = secured(problem(status, detail))
        response.force_close()
        return response

    def end(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _restart(self, seconds: float) -> None:
        self._stop()
        self._late = asyncio.get_running_loop().call_later(seconds, self.end)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class AdminListener:
    """One address on which an application is served.

    `tls` is for connections that begin from now on.
    """

    def __init__(self, app: web.Application, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.connections: set[AdminConnection] = set()
        self.port = 0
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
        self._sockets: list[socket.socket] = []
        self._beginning: set[asyncio.Task[Any]] = set()
        self._reserve = Reserve(RESERVE, "the admin listener")

    def __repr__(self) -> str:
        return f"<AdminListener on {self.port}, {len(self.connections)} connections>"

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from these listening sockets, and close them at the end."""
        loop = asyncio.get_running_loop()
        self._sockets.extend(sockets)
        await self._runner.setup()
        self.port = sockets[0].getsockname()[1]
        for listening in sockets:
            loop.add_reader(listening, self._accept, listening)
        self._reserve.fill()

    async def stop(self) -> None:
        """Stops listening and ends every connection."""
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()
        for task in tuple(self._beginning):
            task.cancel()
        await self._runner.cleanup()
        for connection in tuple(self.connections):
            connection.end()
        self._reserve.close()

    def released(self, connection: AdminConnection) -> None:
        """A connection is over; its descriptor may be kept for another."""
        self.connections.discard(connection)
        if self._sockets:
            self._reserve.fill()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE) and self._reserve.give_up():
                    continue
                return
            if len(self.connections) + len(self._beginning) >= MAX_CONNECTIONS:
                accepted.close()
                continue
            accepted.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._begin(accepted))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, accepted: socket.socket) -> None:
        server = self._runner.server
        assert server is not None
        tls: dict[str, Any] = (
            {} if self.tls is None else {"ssl": self.tls, "ssl_handshake_timeout": HEAD_TIMEOUT}
        )
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: AdminConnection(self, server), accepted, **tls
            )
        except (OSError, ssl.SSLError) as error:
            log.info("no connection with an operator: %s", error)
            accepted.close()
