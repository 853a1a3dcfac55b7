"""What counts limits for several gateways or processes, and what it is told about a limit.

A ledger decides one command at a time, each command in all of its limits or in none. Redis is one
(redis_ledger.py). Everything a ledger is told is bytes, so that a command can go over any wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from gateway.core.wait import Wait
from gateway.limits.algorithms import Limit

Told = list[int]
"""An answer. Everything in it is in millionths of a unit or of a second."""

TERMS = 9
"""Words that describe one limit to a ledger:

algorithm, quota, rate, window, burst; the cost; a flag; and two of the algorithm's own, which are
the ends of a quota's period and of the next one (Unix times), or the name of a slot and the seconds
after which it is free unless it is renewed.

The flag is 1 for a shadow, the units wanted on lease, or for a refund the ledger's time when they
were taken, in microseconds. A refund has instead of the last two: the end of the quota's period at
that time; the units that were left in a token bucket then; or the name of the slot.
"""

SLOT_SECONDS = 60
"""A slot (of `concurrency`) that is not renewed is free after so many seconds."""


class Ledger(Protocol):
    """Counts limits. `key` is a limit of one caller, `terms` are TERMS words; several keys have all
    theirs in a row."""

    name: str
    """For operators, without secrets."""
    leased_by_default: bool
    """Whether rules that do not say their mode take shares ahead."""
    gateways: int
    """How many gateways or workers use it, this one included, as far as is known; 0 until then."""

    @property
    def since(self) -> float:
        """Monotonic time when it could last be reached again; NEVER before the first connection."""

    @property
    def up(self) -> bool:
        """Return True if it makes sense to ask. Changes by itself, in the background."""

    def status(self) -> dict[str, Any]:
        """Its state for operators: `name`, `status` ("healthy" or "unhealthy"), `reason`,
        `gateways`."""

    def take(self, keys: Sequence[bytes], terms: Sequence[bytes]) -> Wait[Told]:
        """Count a request in all limits that are not flagged as shadows, or in none.

        The answer has two numbers for each key: units left (negative: refused), and the seconds
        until all of them are back or, when refused, until it would be admitted. The last number is
        the ledger's time. Raises StoreDown when awaited.
        """

    def peek(self, key: bytes, terms: Sequence[bytes]) -> Wait[Told]:
        """As `take` of one key, and counts nothing."""

    def charge(self, key: bytes, terms: Sequence[bytes]) -> None:
        """Count the cost, whether there is room or not."""

    def refund(self, key: bytes, terms: Sequence[bytes]) -> None:
        """Give units back as far as they still count (algorithms.Algorithm.refund)."""

    def lease(
        self, key: bytes, terms: Sequence[bytes], answered: Callable[[Told | None], None]
    ) -> None:
        """Charge the cost, and take as many units as there are of those that the flag wants.

        A negative cost gives unused units back. `answered` gets units left, units granted, seconds
        until all are back, seconds until there is one, and the ledger's time; None when it is not
        known whether anything was counted. It may be called before this returns.
        """

    def hold(self, slot: bytes, key: bytes, terms: Sequence[bytes]) -> None:
        """Renew a slot by charging it again until it is let go."""

    def let_go(self, slot: bytes, key: bytes, terms: Sequence[bytes]) -> None:
        """Give a slot back by this refund, now or as soon as the ledger can be reached."""


@lru_cache(maxsize=1024)
def limit_terms(algorithm: str, limit: Limit) -> tuple[bytes, ...]:
    """The first five of a limit's terms: those that do not depend on the request."""
    return (
        algorithm.encode(),
        b"%d" % limit.quota,
        repr(limit.rate).encode(),
        repr(limit.window).encode(),
        b"%d" % limit.burst,
    )
