"""Balancing: which of several endpoints gets the next request.

Only the choice is made here; roster.py says which endpoints are eligible, pool.py counts requests.
A balancer is given the eligible endpoints with every pick. While that is the same tuple, its state
(turns, sums, remembered keys) is kept; another tuple starts it anew. Every balancer skips endpoints
at their `max_connections` and those in `tried`, and returns None when none is left. Nothing here
waits, so a pick and its count are one step.
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
SAMPLE = 20
"""The most endpoints that LeastConnections compares in one pick."""
_NONE: Endpoints = ()
"""What a new balancer is prepared for."""


class Balancer(Protocol):
    """A way to choose. `key` is what is hashed: the client's address, a header's value or a
    cookie's."""

    def pick(self, eligible: Endpoints, key: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint to ask, or None when all are full or tried. The caller counts the
        request."""


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
    """Return True if the endpoint is full or has been tried."""
    return 0 < endpoint.max_connections <= endpoint.in_flight or endpoint in tried


def limited(eligible: Endpoints) -> bool:
    """Return True if any endpoint has a limit, so that it may be full."""
    return any(endpoint.max_connections for endpoint in eligible)


def uniform(eligible: Endpoints) -> bool:
    """Return True if all weights are equal."""
    return len({endpoint.weight for endpoint in eligible}) == 1


class LeastConnections:
    """The smallest (in flight + 1) / weight; among equals the one whose last pick is the longest
    ago.

    The order of last picks makes ties fair. A rotating start would give the share of busy endpoints
    to their neighbours in the list, and a fixed start would give everything to the first while all
    are idle. The order also puts idle endpoints in front, so that with equal weights no other is
    looked at until all are busy. Equal quotients are equal floats (IEEE 754 division is correctly
    rounded), so comparing them loses no tie.

    Of more than SAMPLE endpoints, SAMPLE are compared, others each time, so that the cost of a pick
    does not grow with their number. Comparing two already comes close to comparing all
    (Mitzenmacher, The Power of Two Choices, 2001).
    """

    __slots__ = ("_at", "_eligible", "_limited", "_order", "_pair", "_ring", "_uniform")

    def __init__(self) -> None:
        self._adopt(_NONE)

    def _adopt(self, eligible: Endpoints) -> None:
        self._eligible = eligible
        self._order = list(eligible)
        self._limited = not eligible or limited(eligible)
        self._uniform = uniform(eligible)
        self._pair = (
            (eligible[0], eligible[1]) if len(eligible) == 2 and not self._limited else None
        )
        self._at = 0
        self._ring: list[Endpoint] | None = None
        if len(eligible) > SAMPLE:
            # Shuffled: endpoints of one rack, which fail together, often stand together in the
            # file.
            ring = random.Random(0).sample(eligible, len(eligible))  # noqa: S311 - no secret
            self._ring = ring + ring[:SAMPLE]

    def pick(self, eligible: Endpoints, key: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        if eligible is not self._eligible:
            self._adopt(eligible)
        if self._ring is not None:
            at = self._at
            self._at = at + 1 if at + 1 < len(eligible) else 0
            return lightest(self._ring[at : at + SAMPLE], tried) or lightest(eligible, tried)
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
    """The first of those with the smallest (in flight + 1) / weight that are neither full nor
    tried."""
    least = None
    lowest = float("inf")
    for endpoint in endpoints:
        load = (endpoint.in_flight + 1) / endpoint.weight
        if load < lowest and not barred(endpoint, tried):
            least = endpoint
            lowest = load
    return least


class RoundRobin:
    """In turn, in proportion to the weights and evenly spread: nginx's smooth weighted round robin.

    Every pick adds each endpoint's weight to its credit, takes the endpoint with the highest credit
    and subtracts the sum of the weights from it: weights 5, 1, 1 give a a b a c a a, not a a a a a
    b c.
    """

    __slots__ = ("_credit", "_eligible", "_limited", "_simple", "_turn")

    def __init__(self) -> None:
        self._adopt(_NONE)

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
    """At random, in proportion to the weights."""

    __slots__ = ("_eligible", "_random", "_sums")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._eligible = _NONE
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
    """The less loaded of two random endpoints: nearly as good as comparing all (Mitzenmacher
    2001)."""

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
    """The same endpoint for the same key, by weighted rendezvous hashing.

    When an endpoint goes, only its keys move; when one comes, keys move only to it (Thaler and
    Ravishankar 1998; weights as in Schindelhauer and Schomaker 2005). For every key each endpoint
    gets an exponentially distributed time, drawn by hashing key and name, with its weight as the
    rate; the shortest wins, so the chance to win is the share of the weight. The hash is the same
    in every process, so workers and restarts agree. At most MEMO winners are remembered.
    """

    MEMO = 16_384

    __slots__ = ("_eligible", "_runners", "_winners")

    def __init__(self) -> None:
        self._eligible = _NONE
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
        # SplitMix64's finalizer: 64 bits, each depending on every bit of both inputs.
        mixed = start ^ lane
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
        # 52 bits and a half fit a float exactly and are never 0 or 1: the logarithm is finite, not
        # 0.
        return -log(((mixed >> 12) + 0.5) / 2**52) / endpoint.share

    return time


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest())
