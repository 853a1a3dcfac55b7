"""Who is at the other end: the socket's address, or the client's as a trusted proxy tells it. Pure.

Only addresses in `trusted_proxies` are believed. X-Forwarded-For is read from the right: the first
address that is not a trusted proxy's is the client, because it may have made up everything left of
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from gateway.core.networks import Networks, unmapped
from gateway.core.provenance import bare, members


class Peers:
    """Tells which addresses are trusted."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network | str]) -> None:
        self._trusted = Networks(trusted)

    def trusts(self, address: str) -> bool:
        """Return True if this address is one of the operator's proxies."""
        return address in self._trusted

    def client(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The client's address behind a trusted `peer`, from its X-Forwarded-For lines.

        `peer` itself when they say nothing usable. An IPv4 address within IPv6 is IPv4.
        """
        client = peer
        for entry in reversed(members(forwarded_for)):
            address = unmapped(bare(entry))
            if address is None:
                break
            client = address
            if address not in self._trusted:
                break
        return client
