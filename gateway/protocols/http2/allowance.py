"""Budgets for what one side may do and an honest one seldom does. Pure."""

from __future__ import annotations


class Allowance:
    """A token bucket: `burst` at once, `rate` more a second. Work that makes an honest client send
    such frames, such as the answers that it acknowledges, earns it more by `credit`."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._since = now

    def __repr__(self) -> str:
        return f"<Allowance {self._left:g} of {self._burst:g}>"

    def credit(self, amount: float) -> None:
        """Allow so many more; at most twice the burst is kept."""
        self._left = min(self._left + amount, 2 * self._burst)

    def spend(self, amount: int, now: float) -> bool:
        """Return False if it does not suffice; `now` in seconds."""
        if self._left < amount:
            earned = (now - self._since) * self._rate
            self._left = min(self._left + earned, self._burst)
            self._since = now
            if self._left < amount:
                return False
        self._left -= amount
        return True
