"""Addresses of clients: which networks they are in, and what limits count them as.

Answers are remembered, because parsing an address costs more than everything else here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def address_key(address: str) -> str:
    """Return what limits count an address as: IPv4 itself, IPv6 its /64 in hexadecimal.

    One subscriber has the whole /64 (RFC 6177). IPv4 within IPv6 is IPv4 (RFC 4291 section
    2.5.5.2). What is no address is itself.
    """
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except OSError:
        return address
    if packed.startswith(b"\0\0\0\0\0\0\0\0\0\0\xff\xff"):
        return socket.inet_ntoa(packed[12:])
    return packed[:8].hex()


MEMORY = 10_000
"""Addresses remembered."""


def unmapped(address: str) -> str | None:
    """The address, where it is one; an IPv4 one within IPv6 (::ffff:192.0.2.1) as IPv4.

    None for other text.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return address if mapped is None else str(mapped)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return (
        network
        if mapped is None or network.prefixlen < 96
        else IPv4Network((mapped, network.prefixlen - 96))
    )


class Networks:
    """`"192.0.2.1" in networks`.

    An IPv4 address or network within IPv6 counts as the IPv4 one it is. "unix" stands for peers
    over Unix sockets, which have no address.
    """

    __slots__ = ("_memory", "_networks", "_unix")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network | str]) -> None:
        given = tuple(networks)
        self._unix = "unix" in given
        self._networks = tuple(_unmapped(ip_network(one)) for one in given if one != "unix")
        self._memory: dict[str, bool] = {}

    def __repr__(self) -> str:
        return ", ".join((*map(str, self._networks), *("unix",) * self._unix)) or "nowhere"

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def __contains__(self, address: str) -> bool:
        known = self._memory.get(address)
        if known is None:
            if len(self._memory) >= MEMORY:
                self._memory.clear()
            known = self._memory[address] = self._find(address)
        return known

    def _find(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return self._unix and address == "unix"
        if isinstance(parsed, IPv6Address):
            parsed = parsed.ipv4_mapped or parsed
        return any(parsed in network for network in self._networks)
