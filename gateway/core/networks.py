"""Addresses of clients: which networks they are in, and what limits count them as.

Answers are remembered, because parsing an address costs more than everything else here.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def address_key(address: str) -> str:
    """What limits count an address as: an IPv4 address itself, an IPv6 one as its /64 in hexadecimal.

    One subscriber has the whole /64 (RFC 6177). IPv4 within IPv6 is IPv4 (RFC 4291 section 2.5.5.2).
    What is no address is itself.
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


class Networks:
    """`"192.0.2.1" in networks`. An IPv4 address within IPv6 (::ffff:192.0.2.1) counts as the IPv4 address it is."""

    __slots__ = ("_memory", "_networks")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network | str]) -> None:
        self._networks = tuple(ip_network(one) for one in networks)
        self._memory: dict[str, bool] = {}

    def __repr__(self) -> str:
        return ", ".join(map(str, self._networks)) or "nowhere"

    def __bool__(self) -> bool:
        return bool(self._networks)

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
        except ValueError:  # a Unix socket has none
            return False
        if isinstance(parsed, IPv6Address):
            parsed = parsed.ipv4_mapped or parsed
        return any(parsed in network for network in self._networks)
