"""Listening sockets: bound here, or handed over by another process.

A service manager with socket activation hands them over before the process starts, so that no
connection is refused while it restarts (sd_listen_fds(3)): `LISTEN_FDS` sockets from descriptor 3
on, for the process `LISTEN_PID`, with names in `LISTEN_FDNAMES`. A socket named as a table of
gateway.toml is that listener's (LISTENERS), whatever the table says of its address. Any other name
does not count: the socket's address tells whose it is.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from gateway.config.tables.addresses import ListenAddress
from gateway.lifetime.socket_files import SocketFile, bind_unix

FIRST = 3
"""The descriptor of the first socket that is handed over."""
LISTENERS = ("listen", "redirect", "admin", "metrics")
"""Names of listeners: `[listen]`, `[listen.redirect]`, `[admin]` and `[admin.metrics]`."""
_MAX = 64
"""Sockets that may be handed over."""

Named = tuple[str, socket.socket]
Address = tuple[Any, ...]
"""Host, port, and for IPv6 its flow and scope."""


_OTHER_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of an address whose family this machine does not have."""

_KEEP_ALIVE = tuple(
    (getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
)
"""Seconds of silence before the first question, between two; how many go unanswered."""


class Sockets:
    """Sockets that were handed over and that no listener has taken yet.

    files: those of Unix sockets that were bound here.
    """

    def __init__(self, given: Sequence[Named] = (), *, inherited: bool = False) -> None:
        """inherited: from the program whose place this one takes: files of Unix sockets are ours,
        and what no listener takes is closed."""
        self._given = list(given)
        self._inherited = inherited
        self.files: list[SocketFile] = []
        if inherited:
            paths = [address_of(one).path for _, one in given]
            self.files = [SocketFile(path) for path in paths if path]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], pid: int, first: int = FIRST) -> Sockets:
        """Take over what a service manager hands over. Raises OSError if it is not usable."""
        if environ.get("LISTEN_PID") != str(pid):
            return cls()
        count = environ.get("LISTEN_FDS", "")
        if not count.isdecimal() or not 0 < int(count) <= _MAX:
            raise OSError(f"LISTEN_FDS is {count!r}, which is no number from 1 to {_MAX}")
        names = environ.get("LISTEN_FDNAMES", "").split(":")
        return cls(
            [
                (names[index] if index < len(names) else "", adopt(first + index))
                for index in range(int(count))
            ]
        )

    def take(self, wanted: Callable[[str, socket.socket], bool]) -> list[socket.socket]:
        taken = [named for named in self._given if wanted(*named)]
        self._given = [named for named in self._given if named not in taken]
        return [one for _, one in taken]

    def check(self) -> None:
        """Raise OSError if a socket is left: its clients would wait for ever."""
        for name, one in self._given:
            if self._inherited:
                one.close()
                continue
            raise OSError(
                f"descriptor {one.fileno()} (named {name!r}, {address_of(one)}) belongs to no "
                f"listener: give it the address of one, or one of the names {', '.join(LISTENERS)}"
            )

    def remove_files(self) -> None:
        """Delete the files of Unix sockets: nothing new comes in."""
        for file in self.files:
            file.remove()
        self.files.clear()


def adopt(descriptor: int) -> socket.socket:
    """Return the listening TCP or Unix socket that this descriptor is. Raises OSError."""
    try:
        adopted = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(f"descriptor {descriptor} is no socket: {error.strerror}") from error
    if adopted.type != socket.SOCK_STREAM or adopted.family not in (
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
    ):
        adopted.detach()
        raise OSError(f"descriptor {descriptor} is no TCP or Unix socket")
    os.set_inheritable(descriptor, False)
    return adopted


def covers(one: socket.socket, family: int, address: Address) -> bool:
    """Return True if the socket accepts all connections for the address and no others.

    One bound to `::` that takes IPv4 too, as systemd's are, counts as `0.0.0.0` and as `::`.
    """
    if one.family == socket.AF_UNIX:
        return False
    host, port = one.getsockname()[:2]
    if port != address[1]:
        return False
    if host == address[0]:
        return True
    every = host == "::" and family == socket.AF_INET and ip_address(address[0]).is_unspecified
    return every and one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0


def address_of(one: socket.socket) -> ListenAddress:
    """Return where the socket listens."""
    name = one.getsockname()
    if one.family == socket.AF_UNIX:
        return ListenAddress(path=os.fsdecode(name))
    return ListenAddress(name[0], name[1])


def port_of(sockets: Sequence[socket.socket]) -> int:
    """Return the port of the first that has one; 0 without."""
    return next((port for one in sockets if (port := address_of(one).port)), 0)


async def bind(
    listener: str,
    addresses: Sequence[ListenAddress],
    backlog: int,
    handed_over: Sockets,
    mode: int = 0o660,
) -> list[socket.socket]:
    """Return listening sockets for all of `addresses`; those of a name are all that it has.

    Sockets that were handed over with this listener's name are all it has. Without any, those with
    one of its addresses are taken, and what they do not cover is bound. Port 0 is the same free
    one for all addresses of a name; an empty name is every address. "::" takes IPv4 clients too,
    unless one of `addresses` is an IPv4 one with the same port. Files of Unix sockets get the
    permissions `mode` and are put into `handed_over.files`. Raises OSError, and listens on none
    then.
    """
    sockets = handed_over.take(lambda name, _: name == listener)
    named = bool(sockets)
    for address in addresses:
        try:
            if not named:
                both = _both_families(address, addresses)
                sockets += await _sockets(address, handed_over, mode, both)
            for one in sockets:
                one.setblocking(False)
                set_options(one)
                one.listen(backlog)
        except OSError as error:
            for one in sockets:
                one.close()
            handed_over.remove_files()
            # uvloop's errors do not say which address they are about, asyncio's say it twice.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            raise OSError(
                error.errno, f"cannot listen on {address}: {reason[:1].lower()}{reason[1:]}"
            ) from error
    return sockets


def _both_families(address: ListenAddress, addresses: Sequence[ListenAddress]) -> bool:
    return address.host == "::" and not any(
        ":" not in one.host and not one.path and one.port == address.port for one in addresses
    )


async def _sockets(
    wanted: ListenAddress, handed_over: Sockets, mode: int, both: bool
) -> list[socket.socket]:
    """Return the sockets of one address: those that were handed over, else new ones."""
    if wanted.path:
        taken = handed_over.take(
            lambda name, one: (
                name not in LISTENERS and one.family == socket.AF_UNIX and address_of(one) == wanted
            )
        )
        if not taken:
            taken = [bind_unix(wanted.path, mode)]
            handed_over.files.append(SocketFile(wanted.path))
        return taken
    addresses = await _resolve(wanted.host, wanted.port)
    sockets = handed_over.take(
        lambda name, one: name not in LISTENERS and any(covers(one, *each) for each in addresses)
    )
    missing: OSError | None = None
    for family, address in addresses:
        if not any(covers(one, family, address) for one in sockets):
            port = wanted.port or port_of(sockets)
            try:
                sockets.append(_bound(family, (address[0], port, *address[2:]), both))
            except OSError as error:
                missing = error
                if error.errno not in _OTHER_FAMILY:
                    break
    else:
        if sockets:
            return sockets
    for one in sockets:
        one.close()
    raise missing or OSError("it has no address")


def set_options(one: socket.socket) -> None:
    """Set what accepted sockets have from the one that listens.

    The kernel sends at once what is written, and looks for peers that vanished without a word:
    their connections end after 2 minutes.
    """
    if one.family != socket.AF_UNIX:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            one.setsockopt(socket.IPPROTO_TCP, name, value)


async def _resolve(host: str, port: int) -> list[tuple[int, Address]]:
    infos = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, address) for family, _, _, _, address in infos))


def _bound(family: int, address: Address, both: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made
