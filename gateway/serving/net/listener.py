"""The data plane's sockets: accepts connections, sweeps their deadlines, drains them at the end."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config.tables.server import ListenConfig, ServerConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.networks import address_key
from gateway.lifetime.supervised import Supervised
from gateway.protocols.tls import ServerTls
from gateway.serving.admission import Admission, Certified
from gateway.serving.http1.codec import Http1Codec
from gateway.serving.http1.connection import Http1Connection
from gateway.serving.http1.limits import Limits
from gateway.serving.http1.repeats import Openings
from gateway.serving.http1.write import complete
from gateway.serving.net.abuse import Offenders
from gateway.serving.net.accept import Acceptor, Dealer
from gateway.serving.net.deadlines import Deadlines
from gateway.serving.net.tls import State, TlsTransport
from gateway.serving.server import Runtime
from gateway.serving.tunnel import Tunnels

if TYPE_CHECKING:
    from gateway.serving.http2.connection import Http2Connection

log = logging.getLogger("gateway.serving")

FAREWELL = 1.0
"""Seconds for requests that are under way when there is no more time to leave."""
OWN_FAULT = "internal_error"
"""Why a connection in HTTP/2 is ended that its client is not to blame for."""
SWEEP = 0.25
"""Seconds between two looks at the heads that are still arriving."""

_SOON = ((b"Retry-After", b"1"),)
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class Listener:
    """Connections of its sockets, and what they share. Limits come from the configuration in force
    when a client connects.

    draining: every connection ends after its reply. hurried: no more time is given to those that
    are idle. now: the loop's time as of the last sweep.
    """

    dealer: Dealer | None = None
    """Of several workers: hands connections to the others."""

    def __init__(self, runtime: Runtime, name: str = "data") -> None:
        self.name = name
        self.runtime = runtime
        self.draining = self.hurried = False
        self.tunnels = Tunnels()
        self.connections: set[Http1Connection | Http2Connection] = set()
        self.tls: ServerTls | None = None
        self._loop = asyncio.get_running_loop()
        self._started = False
        self._telemetry = runtime.services.telemetry
        self.in_flight = self._telemetry.in_flight
        self.in_flight.set((), 0)
        self.http2_requests = self._telemetry.http2_requests
        self._by_address: dict[str, int] = {}
        self._offenders = Offenders()
        self._shaking: set[TlsTransport] = set()
        self._closing: set[TlsTransport] = set()
        self._acceptor: Acceptor | None = None
        self._deadlines = Deadlines(self.count_refused)
        self._config = ServerConfig()
        self._http2: Callable[[str], asyncio.Protocol] | None = None
        self._speaks_http2 = self._connects = False
        self._sweeps = Supervised("client_deadlines", self._sweep, every=SWEEP, of=name)
        self.now = self._loop.time()
        self.configure()

    def __repr__(self) -> str:
        return f"<Listener {self.name}, {len(self.connections)} connections, {self.busy} busy>"

    def configure(self) -> None:
        """Takes over the [server] table in force; connections that are open keep the limits they
        began with."""
        snapshot = self.runtime.snapshot
        config = self._config = snapshot.loaded.gateway.server
        self.admission = Admission(
            config, uppercase_methods=snapshot.loaded.gateway.routing.uppercase_methods
        )
        if self.tls is not None or not self._started:
            # Without a table any more, those who come are still met with the last: https never
            # turns into http under way, nor http into https.
            self.tls = snapshot.tls or self.tls
        self.header_timeout = config.header_timeout
        self.max_requests = config.max_requests_per_connection or sys.maxsize
        self._deadlines.configure(config)
        self._offenders.configure(config.max_abuse_per_ip, config.abuse_penalty)
        self._limits = Limits(config.max_uri, config.max_header_size, config.max_headers)
        self._max_head = config.max_header_size + config.max_uri
        self._openings = Openings()
        if self._speaks_http2:
            from gateway.serving.http2.protocol import Http2

            self._http2 = Http2(self, config, connect=self._connects)

    def __call__(self, peer: str = "") -> Http1Connection:
        """Return the protocol of a new socket. peer: the client's address, if a preamble has told
        it."""
        codec = Http1Codec(self._limits, self._max_head, self._loop, self._openings)
        return Http1Connection(self, codec, peer)

    def welcome(self, peer: str) -> asyncio.BaseProtocol | None:
        """Return the protocol of a new socket; None for one connection too many, which TLS cannot
        say."""
        tls = self.tls
        if tls is None:
            return self(peer) if self._http2 is None else self._undecided(peer)
        if self.crowded(peer, 1) is not None:
            return None
        return TlsTransport(self, tls.context, peer)

    def _undecided(self, peer: str) -> asyncio.Protocol:
        """Return the protocol of a socket whose first bytes tell the version of HTTP."""
        from gateway.serving.http2.preface import Preface

        http2 = self._http2
        assert http2 is not None
        codec = Http1Codec(self._limits, self._max_head, self._loop)
        return Preface(self, codec, peer, known=lambda asked: http2(peer) if asked else self(peer))

    def start(self, config: ListenConfig, sockets: Sequence[socket.socket]) -> None:
        """Accept from these listening sockets, and close them at the end."""
        self._started = True
        self._speaks_http2, self._connects = config.http2, config.extended_connect
        self.configure()
        self._acceptor = Acceptor(self, proxy_protocol=config.proxy_protocol, dealer=self.dealer)
        self._sweeps.start()
        self._acceptor.start(sockets)

    def take(self, accepted: socket.socket) -> None:
        """Take a connection that another process has accepted."""
        if self._acceptor is None:
            accepted.close()
        else:
            self._acceptor.take(accepted)

    async def leave(self, timeout: float, closed: Callable[[], object]) -> None:
        """Accept nothing new, since other processes do, and call `closed`. Connections end with
        their next answer, and tunnels by themselves, for at most `timeout` seconds."""
        self.draining = True
        acceptor = self._acceptor
        if acceptor is not None:
            acceptor.deafen()
        closed()
        until = self._loop.time() + timeout
        while not self.hurried and self._loop.time() < until:
            beginning = self._shaking or (acceptor is not None and acceptor.pending)
            if not (beginning or self.connections or len(self.tunnels)):
                break
            await asyncio.sleep(0.05)
        await self.stop(max(FAREWELL, until - self._loop.time()))

    async def stop(self, timeout: float) -> None:
        """Accepts nothing new, lets requests finish for up to `timeout` seconds, then ends what is
        left."""
        self.draining = True
        self.tunnels.go_away("shutdown")
        if self._acceptor is not None:
            await self._acceptor.close()
        until = self._loop.time() + timeout
        while self.connections:
            for connection in tuple(self.connections):
                if connection.awaiting_head or connection.linger_until:
                    connection.close()
            if not self.busy or self._loop.time() >= until:
                break
            await asyncio.sleep(0.02)
        if self.busy:
            log.warning(
                "%d request(s) did not finish within %g s and were ended", self.busy, timeout
            )
        for tls in (*self._shaking, *self._closing):
            tls.give_up("the gateway stops")
        for connection in tuple(self.connections):
            connection.abort()
        self.tunnels.abort()
        for _ in range(5):
            if self.connections:
                await asyncio.sleep(0.02)
        self._sweeps.close()

    def opened(self, connection: Http1Connection | Http2Connection) -> None:
        transport = connection.transport
        assert transport is not None
        if not connection.peer:  # Else the PROXY protocol has said whom this connection comes from.
            peer = transport.get_extra_info("peername")
            connection.peer = peer[0] if isinstance(peer, tuple) else "unix"
        if isinstance(transport, TlsTransport):  # Its address counts since its handshake began.
            connection.scheme = "https"
            subject = self._subject(transport)
            if subject:
                connection.admission = Certified(connection.admission, subject)
        else:
            self.count_address(connection.peer, 1)
        connection.head_since = self.now  # A client that connects and says nothing is slow as well.
        self.connections.add(connection)
        crowded = self.crowded(connection.peer)
        if crowded is not None:
            connection.refuse(crowded, linger=False)

    def closed(self, connection: Http1Connection | Http2Connection) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            self.count_address(connection.peer, -1)

    def crowded(self, peer: str, more: int = 0) -> Failed | None:
        """Why a connection from `peer` is one too many, if it is. more: how many of them are not
        counted yet."""
        config = self._config
        if config.max_connections and self.total() + more > config.max_connections:
            self.count_refused("max_connections")
            return Failed(
                Failure.OVERLOADED,
                "There are too many connections.",
                headers=_SOON,
                why="max_connections",
            )
        most = config.max_connections_per_ip
        here = self.from_address(peer) + more if most else 0
        if here > most and not self.admission.trusts(peer):
            self.count_refused("max_connections_per_ip")
            text = "There are too many connections from this address."
            return Failed(Failure.RATE_LIMITED, text, headers=_SOON, why="max_connections_per_ip")
        return None

    def total(self) -> int:
        """Return how many connections count for `max_connections`."""
        return len(self.connections) + len(self._shaking)

    def room(self) -> int:
        """Return how many more connections `max_connections` allows."""
        most = self._config.max_connections
        return most - self.total() if most else sys.maxsize

    def turn_away(self, peer: str) -> bytes:
        """Return the answer to a client for whose connection there is no descriptor; nothing can be
        said over TLS."""
        self.count_refused("descriptors")
        if self.tls is not None:
            return b""
        why = "the process has no file descriptor left"
        failed = Failed(
            Failure.OVERLOADED, "There are too many connections.", headers=_SOON, why=why
        )
        exchange, reply = self.refuse(peer, failed)
        return complete(exchange, reply, True)

    def from_address(self, peer: str) -> int:
        """Return how many connections count for `max_connections_per_ip` of this address."""
        return self._by_address.get(address_key(peer), 0)

    def count_address(self, peer: str, more: int) -> None:
        """An address has one connection more, or one less."""
        key = address_key(peer)
        left = self._by_address.pop(key, 0) + more
        if left:
            self._by_address[key] = left

    def refuses(self, peer: str) -> bool:
        """Return True if this address has abused the gateway of late, and count its connection."""
        if not self._offenders.refuses(peer, self.now) or self.admission.trusts(peer):
            return False
        self.count_refused("max_abuse_per_ip")
        return True

    def may_introduce(self, peer: str) -> bool:
        """Return True if the PROXY protocol is believed from this address: any address, if none is
        trusted in particular."""
        return not self._config.trusted_proxies or self.admission.trusts(peer)

    def _subject(self, transport: asyncio.BaseTransport) -> str:
        """Return the subject of the client's certificate; "" if none is asked for or none was
        shown."""
        if self.tls is None or not self.tls.authenticates:
            return ""
        return self.tls.subject(transport.get_extra_info("ssl_object"))

    def count_refused(self, reason: str) -> None:
        self._telemetry.connections_refused.add((reason,))

    def count_http2_end(self, reason: str, peer: str) -> None:
        self._telemetry.http2_ended.add((reason,))
        if reason == OWN_FAULT or peer == "unix" or self.admission.trusts(peer):
            return
        if self._offenders.ended(peer, self.now):
            config = self._config
            log.warning(
                "connections from %s are refused for %g s: %d of them were ended for abuse, the "
                "last one for %s",
                *(peer, config.abuse_penalty, config.max_abuse_per_ip, reason),
            )

    @property
    def busy(self) -> int:
        """Connections with a request on them, or an answer that the client has yet to take."""
        return sum(1 for one in self.connections if one.busy or _holds_unsent(one.transport))

    def refuse(self, peer: str, failed: Failed) -> tuple[Exchange, Reply]:
        """Renders, logs and counts what was refused before it became a request."""
        exchange = Exchange("-", "-", _NO_HEADERS, (), peer=peer, started=perf_counter())
        exchange.request_id = self.admission.new_id()
        pipeline = self.runtime.snapshot.unrouted
        exchange.failed = failed
        reply = exchange.reply = pipeline.render(exchange, failed)
        pipeline.done(exchange)
        return exchange, reply

    # What TLS connections need (net/tls.py).

    def secured(self, tls: TlsTransport) -> asyncio.Protocol:
        self._shaking.discard(tls)  # `opened` follows; its address goes on counting.
        if self._http2 is not None and tls.alpn == "h2":
            return self._http2(tls.peer)
        return self(tls.peer)

    def unsecured(self, tls: TlsTransport, why: str) -> None:
        log.info("no TLS with %s: %s", tls.peer, why)
        self._telemetry.tls_failures.add()

    def spoke_http(self, tls: TlsTransport) -> bytes:
        self.unsecured(tls, "it speaks http")
        exchange, reply = self.refuse(
            tls.peer, Failed(Failure.MALFORMED, "This address speaks TLS: use https.")
        )
        return complete(exchange, reply, True)

    def remember(self, tls: TlsTransport) -> None:
        if tls.state is State.SHAKING:
            self._shaking.add(tls)
            self.count_address(tls.peer, 1)
        else:
            self._closing.add(tls)

    def forget(self, tls: TlsTransport) -> None:
        self._closing.discard(tls)
        if tls in self._shaking:
            self._shaking.remove(tls)
            self.count_address(tls.peer, -1)

    def _sweep(self) -> None:
        self.now = self._loop.time()
        for tls in [
            one
            for one in (*self._shaking, *self._closing)
            if one.expired(self.now, self.header_timeout)
        ]:
            tls.give_up("the handshake took too long")
        self._deadlines.sweep(tuple(self.connections), self.now)
        self._telemetry.connections.set((self.name,), len(self.connections))
        self.tunnels.sweep(self.now)


def _holds_unsent(transport: asyncio.Transport | None) -> bool:
    return transport is not None and transport.get_write_buffer_size() > 0
