"""The data plane's socket: accepts connections, sweeps their deadlines, drains them at the end."""

from __future__ import annotations

import asyncio
import logging
import sys
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config.tables.server import ListenConfig, ServerConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.serving.admission import Admission
from gateway.serving.handle import Handler, Running
from gateway.serving.http1.connection import ClientConnection
from gateway.serving.net.accept import Acceptor
from gateway.serving.net.deadlines import Deadlines

if TYPE_CHECKING:
    from gateway.protocols.tls import ServerTls

log = logging.getLogger("gateway.serving")

SWEEP = 0.25
"""Seconds between two looks at the heads that are still arriving."""

INLINE_TESTED = "3.14."
"""The aiohttp versions whose RequestHandler inline.py has been tested with; on others every request takes the plain way."""

_SOON = ((b"Retry-After", b"1"),)
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class Listener(web.Server):
    """aiohttp's low-level server with our connections. Limits come from the configuration in force when a client connects."""

    def __init__(self, runtime: Running, inline: bool | None = None, name: str = "data") -> None:
        self.handler = Handler(runtime)
        super().__init__(self.handler, handler_cancellation=True)
        self.name = name
        self.tls: ServerTls | None = None
        self._started = False
        self._runtime = runtime
        self._telemetry = runtime.world.telemetry
        self._by_address: dict[str, int] = {}
        self._acceptor: Acceptor | None = None
        self._deadlines = Deadlines(self)
        self.inline = aiohttp.__version__.startswith(INLINE_TESTED) if inline is None else inline
        if not self.inline:
            log.info("requests take the plain way: the short one is tested with aiohttp %sx", INLINE_TESTED)
        self._config = ServerConfig()
        self._timer: asyncio.TimerHandle | None = None
        self.now = self._loop.time()
        self.configure()

    def configure(self) -> None:
        """Takes over the [server] table in force; connections that are open keep the limits they began with."""
        snapshot = self._runtime.snapshot
        config = self._config = snapshot.loaded.gateway.server
        self.admission = Admission(config, uppercase_methods=snapshot.loaded.gateway.routing.uppercase_methods)
        if self.tls is not None or not self._started:
            # Without a table any more, those who come are still met with the last: https never turns into http under way, nor
            # http into https.
            self.tls = snapshot.tls or self.tls
        self.header_timeout = config.header_timeout
        self.max_requests = config.max_requests_per_connection or sys.maxsize
        self._deadlines.configure(config)
        self.max_uri = config.max_uri
        self.max_head = config.max_header_size + config.max_uri
        # aiohttp reports too long a line and too long a field alike, but with their limits: those must differ.
        max_field = config.max_header_size + (1 if config.max_header_size == config.max_uri else 0)
        self.longest = min(config.max_uri, config.max_header_size)
        """Bytes of a line up to which it is within all limits."""
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
        self._started = True
        self._acceptor = Acceptor(self, proxy_protocol=config.proxy_protocol)
        self._sweep()
        return await self._acceptor.start(config.host, config.port, config.backlog)

    async def stop(self, timeout: float) -> None:
        """Accepts nothing new, lets requests finish for up to `timeout` seconds, then ends what is left."""
        self.handler.draining = True
        self.handler.tunnels.go_away("shutdown")
        if self._timer is not None:
            self._timer.cancel()
        if self._acceptor is not None:
            await self._acceptor.close()
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

    def connection(self, peer: str) -> ClientConnection:
        """The protocol of a socket that comes from `peer`, whatever the socket itself says."""
        made = ClientConnection(self, loop=self._loop, **self._kwargs)
        made.peer = peer
        return made

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        assert isinstance(handler, ClientConnection)
        super().connection_made(handler, transport)
        self._by_address[handler.peer] = self._by_address.get(handler.peer, 0) + 1

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        assert isinstance(handler, ClientConnection)
        super().connection_lost(handler, exc)
        left = self._by_address.pop(handler.peer, 1) - 1
        if left:
            self._by_address[handler.peer] = left

    def crowded(self, peer: str, more: int = 0, of_peer: int = 0) -> Failed | None:
        """Why a connection from `peer` is one too many, if it is. `more` are accepted but none yet, `of_peer` of them its."""
        config = self._config
        if config.max_connections and len(self._connections) + more > config.max_connections:
            self.count_refused("max_connections")
            return Failed(Failure.OVERLOADED, "There are too many connections.", headers=_SOON, why="max_connections")
        most = config.max_connections_per_ip
        if most and self._by_address.get(peer, 0) + of_peer > most and not self.admission.trusts(peer):
            self.count_refused("max_connections_per_ip")
            text = "There are too many connections from this address."
            return Failed(Failure.RATE_LIMITED, text, headers=_SOON, why="max_connections_per_ip")
        return None

    def may_introduce(self, peer: str) -> bool:
        """Whether the PROXY protocol is believed from this address: anybody's where nobody in particular is trusted."""
        return not self._config.trusted_proxies or self.admission.trusts(peer)

    def subject(self, transport: asyncio.BaseTransport) -> str:
        """Whom a client's certificate is made out to; "" where none is asked for or none was shown."""
        if self.tls is None or not self.tls.authenticates:
            return ""
        return self.tls.subject(transport.get_extra_info("ssl_object"))

    def count_refused(self, reason: str) -> None:
        self._telemetry.connections_refused.add((reason,))

    def count_unsecured(self) -> None:
        self._telemetry.tls_failures.add()

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
        self._deadlines.sweep(list(self._connections.items()), self.now)
        self._telemetry.connections.set((self.name,), len(self._connections))
        self.handler.tunnels.sweep(self.now)
        self._timer = self._loop.call_later(SWEEP, self._sweep)
