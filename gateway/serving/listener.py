"""The data plane's socket: accepts connections, sweeps their deadlines, drains them at the end."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config.server import ListenConfig, ServerConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.runtime.reload import Runtime
from gateway.serving.admit import Admission
from gateway.serving.connection import ClientConnection
from gateway.serving.handle import Handler

log = logging.getLogger("gateway.serving")

SWEEP = 0.25
"""Seconds between two looks at the heads that are still arriving."""

INLINE_TESTED = "3.14."
"""The aiohttp versions whose RequestHandler inline.py has been tested with; on others every request takes the plain way."""

_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class Listener(web.Server):
    """aiohttp's low-level server with our connections. Limits come from the configuration in force when a client connects."""

    def __init__(self, runtime: Runtime, inline: bool | None = None) -> None:
        self.handler = Handler(runtime)
        super().__init__(self.handler, handler_cancellation=True)
        self._runtime = runtime
        self.inline = aiohttp.__version__.startswith(INLINE_TESTED) if inline is None else inline
        if not self.inline:
            log.info("requests take the plain way: the short one is tested with aiohttp %sx", INLINE_TESTED)
        self._config = ServerConfig()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.now = self._loop.time()
        self.configure()

    def configure(self) -> None:
        """Takes over the [server] table in force; connections that are open keep the limits they began with."""
        config = self._config = self._runtime.snapshot.loaded.gateway.server
        self.admission = Admission(config)
        self.max_uri = config.max_uri
        self.max_head = config.max_header_size + config.max_uri
        # aiohttp reports too long a line and too long a field alike, but with their limits: those must differ.
        max_field = config.max_header_size + (1 if config.max_header_size == config.max_uri else 0)
        self._kwargs = {
            "keepalive_timeout": config.idle_timeout,
            "max_line_size": config.max_uri,
            "max_field_size": max_field,
            "max_headers": config.max_headers,
            "auto_decompress": False,
            "access_log": None,
            "lingering_time": 5.0,
        }

    def __call__(self) -> RequestHandler:
        return ClientConnection(self, loop=self._loop, **self._kwargs)

    async def start(self, config: ListenConfig) -> int:
        """Listens; returns the port. Raises OSError when the address cannot be had."""
        self._server = await self._loop.create_server(self, config.host, config.port, backlog=config.backlog)
        self._sweep()
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self, timeout: float) -> None:
        """Accepts nothing new, lets requests finish for up to `timeout` seconds, then ends what is left."""
        self.handler.draining = True
        self.handler.tunnels.go_away("shutdown")
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        until = self._loop.time() + timeout
        while self._connections:
            for connection in self.connections:
                assert isinstance(connection, ClientConnection)
                if connection.awaiting_head:
                    connection.force_close()
            if not self.busy or self._loop.time() >= until:
                break
            self.handler.tunnels.sweep(self._loop.time())
            await asyncio.sleep(0.02)
        if self.busy:
            log.warning("%d request(s) did not finish within %g s and were ended", self.busy, timeout)
        await self.shutdown(0.1)

    @property
    def busy(self) -> int:
        """Connections with a request on them."""
        return sum(1 for connection in self._connections if isinstance(connection, ClientConnection) and connection.busy)

    def refuse(self, peer: str, failed: Failed) -> tuple[Exchange, Reply]:
        """Renders, logs and counts what was refused before it became a request."""
        exchange = Exchange("-", "-", _NO_HEADERS, (), peer=peer, started=perf_counter())
        exchange.request_id = self.admission.new_id()
        pipeline = self._runtime.snapshot.unrouted
        exchange.failed = failed
        reply = exchange.reply = pipeline.render(exchange, failed)
        pipeline.done(exchange)
        return exchange, reply

    def _sweep(self) -> None:
        self.now = self._loop.time()
        slowest = self.now - self._config.header_timeout
        for connection in self.connections:
            assert isinstance(connection, ClientConnection)
            if 0.0 < connection.head_since < slowest and connection.awaiting_head:
                connection.refuse(Failed(Failure.REQUEST_TIMEOUT, "The request's head took too long to arrive."))
        self.handler.tunnels.sweep(self.now)
        self._timer = self._loop.call_later(SWEEP, self._sweep)
