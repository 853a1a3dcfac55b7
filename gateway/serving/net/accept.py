"""Accepts connections, and what comes before HTTP on them: the PROXY preamble, the TLS handshake.

Many are accepted in one turn of the loop: uvloop's own server takes one a turn, so that of a thousand who come at once some would
wait for as many turns.

Each accepted socket has a task until its handshake is done; whoever takes longer than `header_timeout` for either of them is
cut off. The preamble is looked at before it is taken out of the socket, so that not a byte of what follows it is taken along. A
handshake uses the certificates in force when it begins: a reload needs no new socket.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from gateway.core.failures import Failed
from gateway.protocols.tls import ServerTls
from gateway.serving.net.proxy_protocol import BINARY_MAX, Malformed, extent, source

log = logging.getLogger("gateway.serving")

AT_ONCE = 128
"""Connections taken in one turn of the loop."""
BREATH = 0.2
"""Seconds without accepting after the process ran out of file descriptors."""
GOODBYE = 5.0
"""Seconds a client has to answer close_notify (RFC 8446 section 6.1)."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Crowded(OSError):
    """One connection too many."""


class Welcoming(Protocol):
    """What an acceptor needs of its listener."""

    tls: ServerTls | None
    header_timeout: float

    def __call__(self, peer: str) -> asyncio.Protocol:
        """The protocol of a new socket."""

    def crowded(self, peer: str, more: int = 0, of_peer: int = 0) -> Failed | None:
        """Why a connection from `peer` is one too many, if it is."""

    def may_introduce(self, peer: str) -> bool:
        """Whether the PROXY protocol is believed from this address."""

    def count_refused(self, reason: str) -> None:
        """A connection was refused."""

    def count_unsecured(self) -> None:
        """A handshake failed."""


class Acceptor:
    """Accepts for a listener. `pending` are the sockets that are no connections of its yet."""

    def __init__(self, listener: Welcoming, *, proxy_protocol: bool) -> None:
        self._listener = listener
        self._proxy_protocol = proxy_protocol
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._paused: asyncio.TimerHandle | None = None
        self.pending: set[asyncio.Task[None]] = set()
        self._shaking: Counter[str] = Counter()

    async def start(self, host: str, port: int, backlog: int) -> int:
        """Listens; returns the port. Raises OSError."""
        infos = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(infos):
                made = socket.socket(family, kind, protocol)
                self._sockets.append(made)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.setblocking(False)
                made.bind(address)
                made.listen(backlog)
        except OSError:
            self._deafen()
            raise
        self._watch()
        chosen: int = self._sockets[0].getsockname()[1]
        return chosen

    async def close(self) -> None:
        """Accepts nothing more, and gives up whoever has not come through."""
        self._deafen()
        for _ in range(3):
            await asyncio.sleep(0)  # asyncio cannot give up a handshake whose transport was made in this very turn.
        for task in tuple(self.pending):
            task.cancel()
        if self.pending:
            await asyncio.wait(self.pending)

    def _deafen(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()
        self._sockets.clear()

    def _watch(self) -> None:
        self._paused = None
        for one in self._sockets:
            self._loop.add_reader(one, self._accept, one)

    def _accept(self, listening: socket.socket) -> None:
        for accepted in self._accepted(listening):
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._welcome(accepted))
            self.pending.add(task)
            task.add_done_callback(self.pending.discard)

    def _accepted(self, listening: socket.socket) -> Iterator[socket.socket]:
        for _ in range(AT_ONCE):
            try:
                yield listening.accept()[0]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.error("cannot accept connections: %s", error.strerror)
                for one in self._sockets:
                    self._loop.remove_reader(one)
                self._paused = self._loop.call_later(BREATH, self._watch)
                return

    async def _welcome(self, accepted: socket.socket) -> None:
        listener = self._listener
        peer = ""
        try:
            peer = str(accepted.getpeername()[0])
            if self._proxy_protocol:
                async with asyncio.timeout(listener.header_timeout):
                    peer = await self._preamble(accepted, peer)
            if listener.tls is not None and listener.crowded(peer, len(self.pending), self._shaking[peer] + 1) is not None:
                raise Crowded  # No way to say so before the handshake, and that is what costs most.
        except (Malformed, OSError) as error:  # TimeoutError is one
            if self._proxy_protocol and not isinstance(error, Crowded):
                listener.count_refused("proxy_protocol")
                log.info("a connection from %s was refused: %s", peer or "somebody", error or "its preamble took too long")
            accepted.close()
        except BaseException:
            accepted.close()
            raise
        else:
            self._shaking[peer] += 1
            try:
                await self._hand_over(accepted, peer)
            finally:
                self._shaking[peer] -= 1
                if not self._shaking[peer]:
                    del self._shaking[peer]

    async def _hand_over(self, accepted: socket.socket, peer: str) -> None:
        """Makes it a connection of the listener's, after its handshake. The socket is the transport's from here on."""
        listener = self._listener
        tls = listener.tls
        try:
            if tls is None:
                await self._loop.connect_accepted_socket(lambda: listener(peer), accepted)
                return
            await self._loop.connect_accepted_socket(
                lambda: listener(peer),
                accepted,
                ssl=tls.context,
                ssl_handshake_timeout=listener.header_timeout,
                ssl_shutdown_timeout=GOODBYE,
            )
        except OSError as error:  # ssl.SSLError is one
            log.debug("no TLS with %s: %s", peer, error)
            listener.count_unsecured()

    async def _preamble(self, accepted: socket.socket, peer: str) -> str:
        """Takes the preamble out of the socket; the address it gives, or `peer`. Raises Malformed, OSError."""
        if not self._listener.may_introduce(peer):
            raise Malformed(f"{peer} is not in trusted_proxies")
        taken = b""
        while True:
            await self._readable(accepted)
            try:
                seen = accepted.recv(BINARY_MAX, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                continue
            if not seen:
                raise Malformed(f"{peer} closed the connection within its preamble")
            size = extent(taken + seen)
            # As long as its end is not in sight, all there is belongs to it.
            rest = len(seen) if size is None else min(len(seen), size - len(taken))
            taken += accepted.recv(rest)
            if size is not None and len(taken) == size:
                return source(taken) or peer

    async def _readable(self, accepted: socket.socket) -> None:
        ready = self._loop.create_future()
        self._loop.add_reader(accepted, _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(accepted)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
