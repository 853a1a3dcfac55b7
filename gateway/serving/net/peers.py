"""Who is at the other end: the socket's address, or what a trusted proxy says the client's is. Pure.

Only addresses in `trusted_proxies` are believed. X-Forwarded-For is read from the right: the first address that is not a trusted
proxy's is the client, because everything left of it may have been made up by that client.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

_MEMO_MAX = 10_000


class Peers:
    """Answers who is trusted; remembers up to 10,000 addresses."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = tuple(trusted)
        self._memo: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        """Whether this address is one of the operator's proxies."""
        if not self._trusted:
            return False
        known = self._memo.get(address)
        if known is None:
            try:
                parsed = ip_address(address)
                known = any(parsed in network for network in self._trusted)
            except ValueError:
                known = False
            if len(self._memo) >= _MEMO_MAX:
                self._memo.clear()
            self._memo[address] = known
        return known

    def client(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The client's address behind a trusted `peer`, from its X-Forwarded-For lines; `peer` when they say nothing usable."""
        client = peer
        for entry in reversed(",".join(forwarded_for).split(",")):
            address = _bare(entry.strip())
            try:
                ip_address(address)
            except ValueError:
                break
            client = address
            if not self.trusts(address):
                break
        return client


def _bare(entry: str) -> str:
    """An entry without its port: "1.2.3.4:55", "[2001:db8::1]:55"."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
