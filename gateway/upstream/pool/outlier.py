"""Who stands out among its peers, by failures or by time: counts and a judgement, pure. Taking it out is pool.py's.

What is wrong with all of them is nobody's in particular: an endpoint is compared with the others of its pool, never with a fixed
figure. That finds what thresholds cannot see, an endpoint that passes its checks and fails every second request, or answers in
time but fifty times as slowly as the rest.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from statistics import median
from typing import Generic, TypeVar

from gateway.config.tables.health import OutlierConfig

K = TypeVar("K", bound=Hashable)

NOISE = 0.005
"""Seconds. Differences in mean time below this are the machine's, whatever their ratio."""


class Tally:
    """One endpoint's requests since it was last judged."""

    __slots__ = ("failed", "seconds", "total")

    def __init__(self, total: int = 0, failed: int = 0, seconds: float = 0.0) -> None:
        self.total = total
        self.failed = failed
        self.seconds = seconds


def judge(tallies: Mapping[K, Tally], config: OutlierConfig) -> dict[K, str]:
    """Those that stand out, and why, the worst first; no more than half of them, for that would be what is usual.

    Who had fewer than `minimum_requests` neither counts nor is judged.
    """
    known = {key: tally for key, tally in tallies.items() if tally.total >= config.minimum_requests}
    found: list[tuple[float, K, str]] = []
    for key, tally in known.items():
        peers = [other for name, other in known.items() if name != key]
        if not peers:
            continue
        rate = tally.failed / tally.total
        theirs = sum(peer.failed for peer in peers) / sum(peer.total for peer in peers)
        mean = tally.seconds / tally.total
        usual = median(peer.seconds / peer.total for peer in peers)
        if config.failure_rate and rate - theirs >= config.failure_rate:
            found.append((1 + rate, key, f"{rate:.0%} of {tally.total} requests failed, {theirs:.1%} of its peers'"))
        elif config.latency and mean - usual >= NOISE and mean >= config.latency * usual:
            why = f"its answers take {mean * 1000:.0f} ms, its peers' {usual * 1000:.0f} ms"
            found.append((1 - usual / mean, key, why))
    found.sort(key=lambda one: -one[0])
    return {key: why for _, key, why in found[: len(known) // 2]}


class Outliers(Generic[K]):
    """Counts every request and judges when an interval is over; then who was judged starts anew."""

    __slots__ = ("_due", "_tallies", "config")

    def __init__(self, config: OutlierConfig, now: float) -> None:
        self.config = config
        self._due = now + config.interval
        self._tallies: dict[K, Tally] = {}

    def observe(self, now: float, key: K, failed: bool, seconds: float) -> dict[K, str]:
        """One more request, ended at `now` after `seconds`. Those that stand out when it is time to judge, and why."""
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        tally.total += 1
        tally.failed += failed
        tally.seconds += seconds
        if now < self._due:
            return {}
        self._due = now + self.config.interval
        few = {name: one for name, one in self._tallies.items() if one.total < self.config.minimum_requests}
        if len(self._tallies) - len(few) < 2:
            return {}  # Nobody to be compared with yet.
        found = judge(self._tallies, self.config)
        # Who has had too few goes on counting: a slow endpoint answers seldom, and must not escape by that.
        self._tallies = few
        return found

    def forget(self, key: K) -> None:
        """It is out or gone: what it has shown is of no use any more."""
        self._tallies.pop(key, None)
