"""Which of several endpoints gets the next request. Choice only: who is eligible, and counting requests, is pool.py's.

A balancer is handed the eligible endpoints with every pick. As long as that is the same tuple, what it has prepared for it and
its turns stay; another tuple starts anew. All of them pass over endpoints at their `max_connections` and those in `tried`, and
return None when that leaves nobody. Nothing here waits, so a pick and its count are one step.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import accumulate
from math import log
from typing import Protocol

from gateway.upstream.pool.endpoint import Endpoint

Endpoints = tuple[Endpoint, ...]
CROWD = 20
"""Endpoints of which LeastConnections looks at every one."""
_NOBODY: Endpoints = ()
"""What a new balancer is prepared for."""


class Balancer(Protocol):
    """One pool's way to choose. `key` is what hashing goes by: the client's address, a header's value or a cookie's."""

    def pick(self, eligible: Endpoints, key: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint to ask, or None when all are full or tried. Counting it in is the caller's."""


def choose(name: str, rng: random.Random) -> Balancer:
    """A new balancer for an upstream's `balance`."""
    if name == "round_robin":
        return RoundRobin()
    if name in ("ip_hash", "hash"):
        return Rendezvous()
    if name == "random_two":
        return TwoChoices(rng)
    if name == "random":
        return WeightedRandom(rng)
    return LeastConnections()


def barred(endpoint: Endpoint, tried: Sequence[Endpoint]) -> bool:
    """Whether it is full or has been tried."""
    return 0 < endpoint.max_connections <= endpoint.in_flight or endpoint in tried


def limited(eligible: Endpoints) -> bool:
    """Whether some have a limit, so that one may be full."""
    return any(endpoint.max_connections for endpoint in eligible)


def uniform(eligible: Endpoints) -> bool:
    """Whether all weigh the same."""
    return len({endpoint.weight for endpoint in eligible}) == 1


class LeastConnections:
    """The smallest (in flight + 1) / weight; among equals the one whose last pick is the longest ago.

    The order of last picks is what makes ties fair: a turning start would hand the share of busy endpoints to whoever stands
    behind them, and the first in a list would get everything while all are idle. It also puts the idle ones in front, so that
    with equal weights nobody else is looked at until all are busy. Quotients of equal value are equal floats (IEEE 754 division
    is exact to the last bit), so comparing them loses no tie.

    Of more than CROWD endpoints the least of CROWD is taken, of others each time, so that a pick costs the same however many
    there are. Looking at two of them already comes close to looking at all (Mitzenmacher, The Power of Two Choices, 2001).
    """

    __slots__ = ("_at", "_eligible", "_limited", "_order", "_pair", "_ring", "_uniform")

    def __init__(self) -> None:
        self._adopt(_NOBODY)

    def _adopt(self, eligible: Endpoints) -> None:
        self._eligible = eligible
        self._order = list(eligible)
        self._limited = not eligible or limited(eligible)
        self._uniform = uniform(eligible)
        self._pair = (eligible[0], eligible[1]) if len(eligible) == 2 and not self._limited else None
        self._at = 0
        self._ring: list[Endpoint] | None = None
        if len(eligible) > CROWD:
            # Not as they stand in the file: those of one rack, which fail together, stand together there.
            ring = random.Random(0).sample(eligible, len(eligible))  # noqa: S311 - no secret
            self._ring = ring + ring[:CROWD]

    def pick(self, eligible: Endpoints, key: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        if eligible is not self._eligible:
            self._adopt(eligible)
        if self._ring is not None:
            at = self._at
            self._at = at + 1 if at + 1 < len(eligible) else 0
            return lightest(self._ring[at : at + CROWD], tried) or lightest(eligible, tried)
        if tried or self._limited:
            left = lightest(self._order, tried)
            if left is not None:
                self._order.remove(left)
                self._order.append(left)
            return left
        if self._pair is not None:
            least, other = self._pair
            if (other.in_flight + 1) * least.weight < (least.in_flight + 1) * other.weight:
                return other
            self._pair = (other, least)
            return least
        order = self._order
        least = order[0]
        fewest = least.in_flight
        if not self._uniform:
            lowest = (fewest + 1) / least.weight
            for endpoint in order:
                load = (endpoint.in_flight + 1) / endpoint.weight
                if load < lowest:
                    least = endpoint
                    lowest = load
        elif fewest:
            for endpoint in order:
                if endpoint.in_flight < fewest:
                    least = endpoint
                    fewest = endpoint.in_flight
                    if not fewest:
                        break
        order.remove(least)
        order.append(least)
        return least


def lightest(endpoints: Sequence[Endpoint], tried: Sequence[Endpoint] = ()) -> Endpoint | None:
    """The first of those with the smallest (in flight + 1) / weight that are neither full nor tried."""
    least = None
    lowest = float("inf")
    for endpoint in endpoints:
        load = (endpoint.in_flight + 1) / endpoint.weight
        if load < lowest and not barred(endpoint, tried):
            least = endpoint
            lowest = load
    return least


class RoundRobin:
    """In turn, as often as their weights say, spread as evenly as can be: nginx's smooth weighted round robin.

    Every pick adds its weight to each endpoint's credit, takes the one with the highest and charges it the sum: weights 5, 1, 1
    give a a b a c a a, not a a a a a b c.
    """

    __slots__ = ("_credit", "_eligible", "_limited", "_simple", "_turn")

    def __init__(self) -> None:
        self._adopt(_NOBODY)

    def _adopt(self, eligible: Endpoints) -> None:
        self._eligible = eligible
        self._credit = [0.0] * len(eligible)
        self._turn = 0
        self._limited = limited(eligible)
        self._simple = uniform(eligible) and not self._limited

    def pick(self, eligible: Endpoints, key: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        if eligible is not self._eligible:
            self._adopt(eligible)
        if self._simple and not tried:
            turn = self._turn
            endpoint = eligible[turn]
            turn += 1
            self._turn = turn if turn < len(eligible) else 0
            return endpoint
        credit, barring = self._credit, self._limited or bool(tried)
        best = -1
        total = 0.0
        highest = float("-inf")
        for index, endpoint in enumerate(eligible):
            if barring and barred(endpoint, tried):
                continue
            weight = endpoint.weight
            total += weight
            credit[index] = mine = credit[index] + weight
            if mine > highest:
                best = index
                highest = mine
        if best < 0:
            return None
        credit[best] -= total
        return eligible[best]


class WeightedRandom:
    """By chance, in proportion to the weights."""

    __slots__ = ("_eligible", "_random", "_sums")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._eligible = _NOBODY
        self._sums: list[float] = []

    def pick(self, eligible: Endpoints, key: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        if eligible is not self._eligible:
            self._eligible = eligible
            self._sums = _sums(eligible)
        if eligible and not tried:
            chosen = self._draw(eligible, self._sums)
            if not 0 < chosen.max_connections <= chosen.in_flight:
                return chosen
        rest = tuple(endpoint for endpoint in eligible if not barred(endpoint, tried))
        return self._draw(rest, _sums(rest)) if rest else None

    def _draw(self, endpoints: Endpoints, sums: list[float]) -> Endpoint:
        last = len(sums) - 1
        return endpoints[bisect(sums, self._random() * sums[last], 0, last)]


def _sums(endpoints: Endpoints) -> list[float]:
    return list(accumulate(endpoint.weight for endpoint in endpoints))


class TwoChoices:
    """The less loaded of two taken by chance: nearly as good as asking all, whatever their number (Mitzenmacher 2001)."""

    __slots__ = ("_random",)

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random

    def pick(self, eligible: Endpoints, key: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        count = len(eligible)
        if count > 1 and not tried:
            first = int(self._random() * count)
            second = int(self._random() * (count - 1))
            one, other = eligible[first], eligible[second + (second >= first)]
            if (other.in_flight + 1) * one.weight < (one.in_flight + 1) * other.weight:
                one = other
            if not 0 < one.max_connections <= one.in_flight:
                return one
        return lightest(eligible, tried)


class Rendezvous:
    """The same endpoint for the same key, by weighted rendezvous hashing: when one goes, only its keys move, and only to it when
    one comes (Thaler and Ravishankar 1998; the weights as in Schindelhauer and Schomaker 2005).

    For every key the endpoints run a race, each with an exponentially distributed time at the rate of its weight that hashing
    key and name draws: the chance of being first is the share of the weight. The hash is the same in every process, so workers
    and restarts agree. Winners are remembered, at most MEMO keys.
    """

    MEMO = 16_384

    __slots__ = ("_eligible", "_runners", "_winners")

    def __init__(self) -> None:
        self._eligible = _NOBODY
        self._runners: list[tuple[Endpoint, int]] = []
        self._winners: dict[str, Endpoint] = {}

    def pick(self, eligible: Endpoints, key: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        if eligible is not self._eligible:
            self._eligible = eligible
            self._runners = [(endpoint, _digest(endpoint.name)) for endpoint in eligible]
            self._winners = {}
        winner = self._winners.get(key)
        if winner is None:
            if not eligible:
                return None
            if len(self._winners) >= self.MEMO:
                self._winners.clear()
            winner = self._winners[key] = min(self._runners, key=_race(key))[0]
        if not barred(winner, tried):
            return winner
        rest = [runner for runner in self._runners if not barred(runner[0], tried)]
        return min(rest, key=_race(key))[0] if rest else None


def _race(key: str) -> Callable[[tuple[Endpoint, int]], float]:
    start = _digest(key)

    def time(runner: tuple[Endpoint, int]) -> float:
        endpoint, lane = runner
        # The finalizer of SplitMix64 makes one number of two: 64 bits, every one depending on every bit of both.
        mixed = start ^ lane
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
        # 52 bits and a half fill a float exactly: never 0 and never 1, so the logarithm is finite and not zero.
        return -log(((mixed >> 12) + 0.5) / 2**52) / endpoint.share

    return time


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest())
