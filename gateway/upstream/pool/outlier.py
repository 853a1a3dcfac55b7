"""Outliers: endpoints that fail more often, or answer more slowly, than the others of their pool.

An endpoint is compared with its peers, never with a fixed figure, so trouble that all of them have
counts against none. This finds what thresholds cannot: an endpoint that passes its checks but fails
every second request, or answers in time but fifty times as slowly as the rest. Pure counts and
judgements; outcomes.py takes endpoints out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from statistics import median
from typing import Generic, TypeVar

from gateway.config.tables.health import OutlierConfig

K = TypeVar("K", bound=Hashable)

NOISE = 0.005
"""Seconds. Smaller differences in mean time are the machine's noise, whatever their ratio."""


class Tally:
    """One endpoint's requests since it was last judged."""

    __slots__ = ("failed", "seconds", "total")

    def __init__(self, total: int = 0, failed: int = 0, seconds: float = 0.0) -> None:
        self.total = total
        self.failed = failed
        self.seconds = seconds


def judge(tallies: Mapping[K, Tally], config: OutlierConfig) -> dict[K, str]:
    """The outliers and why, worst first; at most half of all, since more would be the usual case.

    Endpoints with fewer than `minimum_requests` neither count nor are judged.
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
            found.append(
                (
                    1 + rate,
                    key,
                    f"{rate:.0%} of {tally.total} requests failed, {theirs:.1%} of its peers'",
                )
            )
        elif config.latency and mean - usual >= NOISE and mean >= config.latency * usual:
            why = f"its answers take {mean * 1000:.0f} ms, its peers' {usual * 1000:.0f} ms"
            found.append((1 - usual / mean, key, why))
    found.sort(key=lambda one: -one[0])
    return {key: why for _, key, why in found[: len(known) // 2]}


class Outliers(Generic[K]):
    """Counts requests and judges at the end of every interval; those judged then start anew."""

    __slots__ = ("_due", "_tallies", "config")

    def __init__(self, config: OutlierConfig, now: float) -> None:
        self.config = config
        self._due = now + config.interval
        self._tallies: dict[K, Tally] = {}

    def observe(self, now: float, key: K, failed: bool, seconds: float) -> dict[K, str]:
        """Count a request that ended at `now` after `seconds`. Return the outliers, and why, when
        it is time to judge."""
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        tally.total += 1
        tally.failed += failed
        tally.seconds += seconds
        if now < self._due:
            return {}
        self._due = now + self.config.interval
        few = {
            name: one
            for name, one in self._tallies.items()
            if one.total < self.config.minimum_requests
        }
        if len(self._tallies) - len(few) < 2:
            return {}  # There is nothing to compare with yet.
        found = judge(self._tallies, self.config)
        # Those with too few requests go on counting: a slow endpoint gets few, and must not escape
        # so.
        self._tallies = few
        return found

    def forget(self, key: K) -> None:
        """Drop the counts of an endpoint that is out or gone."""
        self._tallies.pop(key, None)
