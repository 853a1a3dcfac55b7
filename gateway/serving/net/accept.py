"""Accepts connections, and reads the PROXY preamble in front of them where there is to be one.

Many are accepted in one turn of the loop: uvloop's own server takes one a turn, so that of a
thousand who come at once some would wait for as many turns. No Task is made for a connection, but
for one whose preamble is awaited, which is looked at before it is taken out of the socket, so that
not a byte of what follows it is taken along.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from gateway.lifetime.descriptors import Reserve
from gateway.serving.net.proxy_protocol import BINARY_MAX, Malformed, extent, source

log = logging.getLogger("gateway.serving")

AT_ONCE = 128
"""Connections taken in one turn of the loop."""
BREATH = 0.2
"""Seconds without accepting after the process ran out of file descriptors."""
RESERVE = 16
"""Descriptors kept for clients that are told so."""
HELD = 64
"""Sockets of refused addresses that are kept open at once, unread: they are the kernel's alone."""
HOLD = 1.0
"""Seconds for which they are at most: whoever connects anew when it is closed does so seldom."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Welcoming(Protocol):
    """The listener, as an acceptor sees it."""

    header_timeout: float

    def welcome(self, peer: str) -> asyncio.BaseProtocol | None:
        """Return the protocol of a new socket; None when there is no room for it."""

    def refuses(self, peer: str) -> bool:
        """Return True if nothing is taken from this address for now; it has been counted."""

    def may_introduce(self, peer: str) -> bool:
        """Return True if the PROXY protocol is believed from this address."""

    def room(self) -> int:
        """Return how many more connections `max_connections` allows."""

    def count_refused(self, reason: str) -> None:
        """A connection was refused."""

    def turn_away(self, peer: str) -> bytes:
        """Return the answer to a client for whose connection there is no descriptor."""


class Dealer(Protocol):
    """Decides, turn by turn of the loop, which connections another process takes."""

    def begin(self) -> None: ...

    def gives(self, accepted: socket.socket) -> bool:
        """Return True if another process is to have it, with `end`."""

    def end(self) -> list[socket.socket]:
        """Hand over; return what has to be kept after all."""


class Accepted(socket.socket):
    """An accepted connection's socket, with plain attributes for `family` and `type`.

    A socket's own make an enumeration's member each time, and the loop asks for both repeatedly.
    """

    __slots__ = ("family",)

    type = socket.SOCK_STREAM

    def __init__(self, family: int, descriptor: int) -> None:
        super().__init__(family, socket.SOCK_STREAM, 0, descriptor)
        self.family = family  # type: ignore[misc, assignment]


class Acceptor:
    """Accepts for a listener. `pending`: the Tasks of those whose preamble is awaited.

    dealer: of several workers, the one that decides about each connection.
    """

    def __init__(
        self, listener: Welcoming, *, proxy_protocol: bool, dealer: Dealer | None = None
    ) -> None:
        self._listener = listener
        self._dealer = dealer
        self._proxy_protocol = proxy_protocol
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._paused: asyncio.TimerHandle | None = None
        self._reserve = Reserve(RESERVE, "clients that are turned away")
        self._turned_away: list[socket.socket] = []
        self._held: list[socket.socket] = []
        self.pending: set[asyncio.Task[None]] = set()

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from these listening sockets, and close them at the end."""
        self._sockets.extend(sockets)
        self._watch()

    async def close(self) -> None:
        """Accept nothing more, and drop connections whose preamble is not complete."""
        self.deafen()
        for task in tuple(self.pending):
            task.cancel()
        if self.pending:
            await asyncio.wait(self.pending)

    def deafen(self) -> None:
        """Accept nothing more."""
        if self._paused is not None:
            self._paused.cancel()
        for one in self._sockets:
            self._loop.remove_reader(one)
            one.close()
        self._sockets.clear()
        self._let_go()
        self._release()
        self._reserve.close()

    def _watch(self) -> None:
        self._paused = None
        self._let_go()
        for one in self._sockets:
            self._loop.add_reader(one, self._accept, one)

    def _accept(self, listening: socket.socket) -> None:
        dealer = self._dealer
        if dealer is None:
            for accepted, address in self._accepted(listening):
                self._take(accepted, address)
            return
        dealer.begin()
        for accepted, address in self._accepted(listening):
            if not dealer.gives(accepted):
                self._take(accepted, address)
        for accepted in dealer.end():
            self.take(accepted)

    def take(self, accepted: socket.socket) -> None:
        """Make a connection of a socket that another process has accepted."""
        try:
            address = accepted.getpeername()
        except OSError:  # The client has gone.
            accepted.close()
            return
        self._take(accepted, address)

    def _take(self, accepted: socket.socket, address: object) -> None:
        peer = _peer(address)
        if self._proxy_protocol:
            # So many more at the most can be told that there are too many.
            if len(self.pending) >= max(self._listener.room(), AT_ONCE):
                self._listener.count_refused("max_connections")
                accepted.close()
                return
            accepted.setblocking(False)  # Else the loop does it.
            task = self._loop.create_task(self._introduced(accepted, peer))
            self.pending.add(task)
            task.add_done_callback(self.pending.discard)
        else:
            self._hand_over(accepted, peer)

    def _accepted(self, listening: socket.socket) -> Iterator[tuple[socket.socket, object]]:
        family = int(listening.family)
        for _ in range(AT_ONCE):
            try:
                # What socket.accept calls, without the object that it makes.
                descriptor, address = listening._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.error("cannot accept connections: %s", error.strerror)
                for one in self._sockets:
                    self._loop.remove_reader(one)
                self._turn_away(listening)
                self._paused = self._loop.call_later(BREATH, self._watch)
                return
            yield Accepted(family, descriptor), address

    def _turn_away(self, listening: socket.socket) -> None:
        """Tell as many clients as there is a reserve for that there is no room, and hold them for a
        moment: closed at once, they might not read it."""
        while self._reserve.give_up():
            try:
                descriptor, address = listening._accept()  # type: ignore[attr-defined]
            except OSError:
                return
            accepted = Accepted(int(listening.family), descriptor)
            self._turned_away.append(accepted)
            try:
                accepted.setblocking(False)
                accepted.send(self._listener.turn_away(_peer(address)))
                accepted.shutdown(socket.SHUT_WR)
            except OSError:  # It has gone.
                pass

    def _let_go(self) -> None:
        for one in self._turned_away:
            one.close()
        self._turned_away.clear()
        self._reserve.fill()

    async def _introduced(self, accepted: socket.socket, peer: str) -> None:
        listener = self._listener
        try:
            async with asyncio.timeout(listener.header_timeout):
                peer = await self._preamble(accepted, peer)
        except (Malformed, OSError) as error:  # TimeoutError is one
            listener.count_refused("proxy_protocol")
            log.info(
                "a connection from %s was refused: %s", peer, error or "its preamble took too long"
            )
            accepted.close()
        except BaseException:
            accepted.close()
            raise
        else:
            self._hand_over(accepted, peer)

    def _hand_over(self, accepted: socket.socket, peer: str) -> None:
        """Makes it a connection of the listener's. The socket is the transport's from here on."""
        if self._listener.refuses(peer):
            self._hold(accepted)
            return
        protocol = self._listener.welcome(peer)
        if protocol is None:
            accepted.close()
            return
        _connect(self._loop.connect_accepted_socket(lambda: protocol, accepted), accepted, peer)

    def _hold(self, accepted: socket.socket) -> None:
        """Close it, with others and not at once."""
        if len(self._held) >= HELD or not self._sockets:
            accepted.close()
            return
        if not self._held:
            self._loop.call_later(HOLD, self._release)
        self._held.append(accepted)

    def _release(self) -> None:
        for one in self._held:
            one.close()
        self._held.clear()

    async def _preamble(self, accepted: socket.socket, peer: str) -> str:
        """Takes the preamble out of the socket; the address it gives, or `peer`. Raises Malformed,
        OSError."""
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


def _peer(address: object) -> str:
    """Return who is at the other end: an address, without the port; "unix" over a Unix socket."""
    if not isinstance(address, tuple):
        return "unix"
    host = str(address[0])
    return host.removeprefix("::ffff:") if "." in host else host  # IPv4 to a socket of both.


def _connect(
    connecting: Coroutine[Any, Any, object], accepted: socket.socket, peer: str, _: object = None
) -> None:
    """Run the loop's coroutine that makes `accepted` a transport's.

    It awaits a bare future and nothing else: a Drive would cost more than its steps.
    """
    try:
        future = connecting.send(None)
    except StopIteration:
        return
    except Exception as error:
        log.debug("no connection with %s: %s", peer, error)
        accepted.close()
        return
    future.add_done_callback(partial(_connect, connecting, accepted, peer))


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
