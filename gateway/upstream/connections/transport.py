"""Sockets to endpoints: connecting, keeping idle ones, and the sweep that ends what is past its deadline.

`Transport` opens connections (connection.py), takes idle ones from their endpoint (last in, first out, so that surplus ones age
out) and sweeps deadlines instead of setting a timer per request. Health and balancing live in pool.py.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING

from gateway.config.tables.health import HealthConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.clock import REAL, Clock
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.upstream.connections.checks import contains, knock
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.pool.endpoint import Endpoint

if TYPE_CHECKING:
    from gateway.upstream.connections.tls import UpstreamTls

SWEEP = 0.1
"""Seconds between two looks at the deadlines; deadlines are this exact."""

Opener = Callable[[Callable[[], asyncio.Protocol], Endpoint], Awaitable[object]]
"""Opens a socket to an endpoint for the protocol that the factory makes; raises OSError. Injected in tests."""


class Transport:
    """Opens connections and watches their deadlines. `now` is clock.monotonic as of the last sweep, good for deadlines only."""

    def __init__(self, clock: Clock = REAL, opener: Opener | None = None) -> None:
        self.clock = clock
        self.now = clock.monotonic()
        self.open: set[Connection] = set()
        self._opener = opener or self._open
        self._tls: dict[str, UpstreamTls] = {}
        self._keepalive: dict[Endpoint, float] = {}
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to sweep; call it once the loop runs."""
        self.sweep()

    def close(self) -> None:
        """Stops sweeping and closes every connection, in use or not."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for connection in tuple(self.open):
            connection.give_up()
        for endpoint in self._keepalive:
            endpoint.close_idle()
        self._keepalive.clear()

    def take(self, endpoint: Endpoint) -> Connection | None:
        """The connection to `endpoint` that has been idle for the shortest time, if there is one."""
        idle = endpoint.idle
        while idle:
            connection: Connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    def take_quiet(self, endpoint: Endpoint) -> Connection | None:
        """As `take`, but only one on which nothing waits to be read: not the end either, which the loop has yet to hear of.

        When that has come, no other either: who is about to end closes all, one after the other.
        """
        connection = self.take(endpoint)
        if connection is not None and connection.speaks():
            connection.close()
            return None
        return connection

    async def connect(self, endpoint: Endpoint, timeout: float, max_idle: int = 0, keepalive: float = 60.0) -> Connection:
        """A new connection within `timeout` seconds. Raises Failed (CONNECT_FAILED, CONNECT_TIMEOUT, DNS_FAILED, TLS_FAILED)."""
        self._keepalive[endpoint] = keepalive
        connection = Connection(self, endpoint, max_idle)
        tls = self._tls.get(endpoint.upstream)
        try:
            async with asyncio.timeout(timeout):
                await self._opener(lambda: connection, endpoint)
        except TimeoutError:
            why = f"{endpoint.name} took no connection within {timeout:g} s"
            raise Failed(Failure.CONNECT_TIMEOUT, why=why) from None
        except socket.gaierror as error:
            raise Failed(Failure.DNS_FAILED, why=f"{endpoint.host}: {error.strerror}") from None
        except ssl.SSLError as error:
            raise Failed(Failure.TLS_FAILED, why=f"{endpoint.name}: {_reason(error)}") from None
        except OSError as error:
            if endpoint.scheme == "https" and isinstance(error, ConnectionResetError | ConnectionAbortedError):
                raise Failed(Failure.TLS_FAILED, why=f"{endpoint.name} broke the handshake off") from None
            raise Failed(Failure.CONNECT_FAILED, why=f"{endpoint.name}: {error.strerror or error}") from None
        if connection.closed:
            raise Failed(Failure.CONNECT_FAILED, why=f"{endpoint.name} closed the connection at once")
        if self._tls.get(endpoint.upstream) is not tls:
            connection.retire()
        return connection

    def secure(self, upstream: str, endpoints: Iterable[Endpoint], tls: UpstreamTls | None) -> None:
        """From now on connections to this upstream use `tls` where its URLs say https; no others are used again."""
        if self._tls.get(upstream) is tls:
            return
        if tls is None:
            del self._tls[upstream]
        else:
            self._tls[upstream] = tls
        for endpoint in endpoints:
            endpoint.close_idle()
        for connection in self.open:
            if connection.endpoint.upstream == upstream:
                connection.retire()

    async def _open(self, factory: Callable[[], asyncio.Protocol], endpoint: Endpoint) -> object:
        return await open_socket(factory, endpoint, self._tls.get(endpoint.upstream))

    async def check(self, endpoint: Endpoint, health: HealthConfig) -> int:
        """One active check on a connection of its own: the status of GET `health.path`, 0 for other types. Raises Failed."""
        if health.type == "tcp":
            return await knock(endpoint)
        connection = await self.connect(endpoint, health.timeout)
        if health.type == "tls":
            connection.close()
            return 0
        host = health.host or f"{endpoint.host}:{endpoint.port}"
        lines = [f"GET {endpoint.path}{health.path} HTTP/1.1", f"Host: {host}", "User-Agent: gateway-health", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in health.headers.items()]
        flight = Awaited()
        try:
            head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
            connection.send(head, flight, TimeoutsConfig(read=health.timeout, write=health.timeout))
            reply = await flight.future
            if health.body and reply.status in health.status and not await contains(reply, health.body.encode()):
                raise Failed(Failure.BAD_RESPONSE, why=f"{health.path} answered without {health.body!r}")
            return reply.status
        finally:
            connection.give_up()

    def sweep(self) -> None:
        """Ends what is past its deadline, closes what has been idle for too long, and comes again."""
        now = self.now = self.clock.monotonic()
        for connection in tuple(self.open):
            if now >= connection.deadline or now >= connection.limit:
                connection.expire(now)
        for endpoint, keepalive in self._keepalive.items():
            idle = endpoint.idle  # The longest idle stand first.
            while idle and now - idle[0].idle_since > keepalive:
                idle.pop(0).close()
        self._handle = asyncio.get_running_loop().call_later(SWEEP, self.sweep)

    def forget(self, endpoint: Endpoint) -> None:
        """The endpoint is gone for good: no longer watches it."""
        self._keepalive.pop(endpoint, None)


class Awaited:
    """A Flight for coroutines: `await flight.future` gives the Reply or raises Failed. `stale` as in Flight.failed.

    accept: for a request that asks for a WebSocket, the Sec-WebSocket-Accept with which it may be answered 101; else b"".
    """

    __slots__ = ("accept", "future", "stale")

    def __init__(self) -> None:
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.stale = False
        self.accept = b""

    def answered(self, reply: Reply) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        self.stale = stale
        if not self.future.done():
            self.future.set_exception(failed)

    def ended(self, failed: Failed | None) -> None:
        pass


async def open_socket(factory: Callable[[], asyncio.Protocol], endpoint: Endpoint, tls: UpstreamTls | None = None) -> object:
    """Connects to an endpoint over TCP, with TLS when its URL says https. Raises OSError."""
    loop = asyncio.get_running_loop()
    if endpoint.scheme == "https":
        tls = tls or _default_tls()
        name = tls.server_name or endpoint.host
        transport, _ = await loop.create_connection(factory, endpoint.host, endpoint.port, ssl=tls.context, server_hostname=name)
    else:
        transport, _ = await loop.create_connection(factory, endpoint.host, endpoint.port)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return transport


@cache
def _default_tls() -> UpstreamTls:
    """For an endpoint on https that came to an upstream which had none when it was composed."""
    from pathlib import Path

    from gateway.config.tables.endpoints import UpstreamTlsConfig
    from gateway.upstream.connections.tls import UpstreamTls

    return UpstreamTls(UpstreamTlsConfig(), Path())


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's reason in words: of a refused certificate, what is the matter with it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    return (error.reason or str(error)).lower().replace("_", " ")
