"""Listening sockets: bound here, or handed over by another process.

A service manager with socket activation hands them over before the process starts, so that no
connection is refused while it restarts (sd_listen_fds(3)): `LISTEN_FDS` sockets from descriptor 3
on, for the process `LISTEN_PID`, with names in `LISTEN_FDNAMES`. A socket named as a table of
gateway.toml is that listener's (LISTENERS), whatever the table says of its address. Any other name
does not count: the socket's address tells whose it is.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

FIRST = 3
"""The descriptor of the first socket that is handed over."""
LISTENERS = ("listen", "redirect", "admin", "metrics")
"""Names of listeners: `[listen]`, `[listen.redirect]`, `[admin]` and `[admin.metrics]`."""
_MAX = 64
"""Sockets that may be handed over."""

Named = tuple[str, socket.socket]
Address = tuple[Any, ...]
"""Host, port, and for IPv6 its flow and scope."""


class Sockets:
    """Sockets that were handed over and that no listener has taken yet."""

    def __init__(self, given: Sequence[Named] = ()) -> None:
        self._given = list(given)

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
            host, port = one.getsockname()[:2]
            raise OSError(
                f"descriptor {one.fileno()} (named {name!r}, {host} port {port}) belongs to no "
                f"listener: give it the address of one, or one of the names {', '.join(LISTENERS)}"
            )


def adopt(descriptor: int) -> socket.socket:
    """Return the listening TCP socket that this descriptor is. Raises OSError."""
    try:
        adopted = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(f"descriptor {descriptor} is no socket: {error.strerror}") from error
    if adopted.type != socket.SOCK_STREAM or adopted.family not in (
        socket.AF_INET,
        socket.AF_INET6,
    ):
        adopted.detach()
        raise OSError(f"descriptor {descriptor} is no TCP socket")
    os.set_inheritable(descriptor, False)
    return adopted


def covers(one: socket.socket, family: int, address: Address) -> bool:
    """Return True if the socket accepts all connections for the address and no others.

    One bound to `::` that takes IPv4 too, as systemd's are, counts as `0.0.0.0` and as `::`.
    """
    host, port = one.getsockname()[:2]
    if port != address[1]:
        return False
    if host == address[0]:
        return True
    every = host == "::" and family == socket.AF_INET and ip_address(address[0]).is_unspecified
    return every and one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0


async def bind(
    listener: str, host: str, port: int, backlog: int, handed_over: Sockets
) -> list[socket.socket]:
    """Return listening sockets for every address of `host`; an empty one is every address.

    Sockets that were handed over with this listener's name are all it has. Without any, those with
    one of its addresses are taken, and what they do not cover is bound. Port 0 is the same free
    one for all addresses. Raises OSError.
    """
    sockets = handed_over.take(lambda name, _: name == listener)
    try:
        if not sockets:
            addresses = await _resolve(host, port)
            sockets = handed_over.take(
                lambda name, one: (
                    name not in LISTENERS and any(covers(one, *each) for each in addresses)
                )
            )
            for family, address in addresses:
                if not any(covers(one, family, address) for one in sockets):
                    chosen = sockets[0].getsockname()[1] if sockets and not port else port
                    made = socket.socket(family, socket.SOCK_STREAM)
                    sockets.append(made)
                    _bind(made, (address[0], chosen, *address[2:]))
        for one in sockets:
            one.setblocking(False)
            one.listen(backlog)
    except OSError as error:
        for one in sockets:
            one.close()
        # uvloop's errors do not say which address they are about, asyncio's say it twice.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        raise OSError(
            error.errno, f"cannot listen on {host_port(host, port)}: {reason.lower()}"
        ) from error
    return sockets


def host_port(host: str, port: int) -> str:
    """Return them as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _resolve(host: str, port: int) -> list[tuple[int, Address]]:
    infos = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, address) for family, _, _, _, address in infos))


def _bind(made: socket.socket, address: Address) -> None:
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(address)
