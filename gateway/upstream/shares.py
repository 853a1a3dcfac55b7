"""Which of several upstreams a request goes to: by shares, or by a name in its path."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure

Target = Callable[[Exchange], Awaitable[Reply]]


class ByShares:
    """Sends each request to one of several targets, in proportion to their parts.

    sticky: a client always goes to the same one. The targets divide the points from 0 to 1 in
    their order, and a client has one point for all routes: when parts change, only the clients
    between the old and the new borders move.
    """

    def __init__(
        self,
        targets: Sequence[tuple[Target, int]],
        *,
        sticky: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self._targets = [target for target, _ in targets]
        total = sum(part for _, part in targets)
        self._borders = [sum_ / total for sum_ in accumulate(part for _, part in targets)]
        self._sticky = sticky
        self._random = (rng or random.Random()).random  # noqa: S311 - spreads load, guards nothing

    def __repr__(self) -> str:
        return f"<ByShares {self._targets!r} up to {self._borders}>"

    def candidates(self, exchange: Exchange) -> list[Target]:
        """Those that may be asked: the one of a sticky client, else any."""
        if not self._sticky:
            return list(self._targets)
        return [self._targets[bisect_right(self._borders, point_of(exchange))]]

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        point = point_of(exchange) if self._sticky else self._random()
        return self._targets[bisect_right(self._borders, point)](exchange)


class ByService:
    """Sends each request to the upstream that its path names. Raises Failed(NO_ROUTE) without."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self._targets = targets

    def __repr__(self) -> str:
        return f"<ByService {list(self._targets)}>"

    def __call__(self, exchange: Exchange) -> Awaitable[Reply]:
        return self.target(exchange)(exchange)

    def target(self, exchange: Exchange) -> Target:
        """Return what the path names. Raises Failed."""
        target = self._targets.get(exchange.params.get("service", ""))
        if target is None:
            why = f"no service is called {exchange.params.get('service', '')[:100]!r}"
            raise Failed(Failure.NO_ROUTE, "There is no such service.", why=why)
        return target


def point_of(exchange: Exchange) -> float:
    """A caller's point, from 0 to less than 1: that of its client name, else of its address."""
    identity = exchange.identity
    caller = identity.client if identity is not None else exchange.client_ip
    digest = blake2b(caller.encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(digest) / (1 << 48)
