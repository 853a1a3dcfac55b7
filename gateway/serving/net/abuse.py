"""Addresses whose connections are ended for abuse again and again: not let in for a while. Pure.

A client that is ended connects anew, so what one connection may cost bounds nothing by itself. The
penalty is short, since behind one address may be many (NAT).
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.core.networks import address_key
from gateway.protocols.http2.allowance import Allowance

RATE = 1.0
"""Endings a second that are borne for ever."""
REMEMBERED = 4096
"""Addresses at once (IPv6: networks of 64 bits), those that were ended last, in some 2 MB."""


class Offender:
    """What is known of one address. last: when one of its connections was ended. until: when it is
    let in again, 0 while it is."""

    __slots__ = ("allowed", "last", "until")

    def __init__(self, most: int, now: float) -> None:
        self.allowed = Allowance(most - 1, RATE, now)
        self.last = now
        self.until = 0.0


class Offenders:
    """Of an address fewer than `most` connections may be ended for abuse at once, and RATE a second
    more. With the one that is too many the address is refused for `seconds`, and each later one
    prolongs that.

    Times are in seconds of one clock that never goes back.
    """

    def __init__(self) -> None:
        self._most = 0
        self._seconds = 0.0
        self._known: OrderedDict[str, Offender] = OrderedDict()  # In the order of `last`.

    def __repr__(self) -> str:
        return f"<Offenders {len(self._known)} addresses>"

    def __len__(self) -> int:
        return len(self._known)

    def configure(self, most: int, seconds: float) -> None:
        """Follow the configuration; `most` 0 refuses nobody. Other figures begin anew."""
        if (most, seconds) != (self._most, self._seconds):
            self._most, self._seconds = most, seconds
            self._known.clear()

    def ended(self, address: str, now: float) -> bool:
        """A connection of this address was ended for abuse. Return True if the address is refused
        from now on, and was not before."""
        if not self._most:
            return False
        self._forget(now)
        key = address_key(address)
        one = self._known.pop(key, None) or Offender(self._most, now)
        self._known[key] = one
        one.last = now
        was_refused = now < one.until
        if not was_refused and one.allowed.spend(1, now):
            return False
        one.until = now + self._seconds
        return not was_refused

    def refuses(self, address: str, now: float) -> bool:
        """Return True if the address is not to be let in."""
        if not self._known:
            return False
        one = self._known.get(address_key(address))
        return one is not None and now < one.until

    def _forget(self, now: float) -> None:
        """Drop those who have all of their budget again, and of too many the one of longest ago."""
        known, over = self._known, now - max(self._seconds, self._most / RATE)
        while known:
            oldest = next(iter(known.values()))
            if over < oldest.last and len(known) < REMEMBERED:
                return
            known.popitem(last=False)
