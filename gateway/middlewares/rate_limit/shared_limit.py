"""One policy in a ledger: its keys and terms there, and what counts here while the ledger is
away."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from itertools import count

from gateway.core.hooks import Context
from gateway.core.wait import Wait
from gateway.limits.algorithms import NEVER, Limit, Taking
from gateway.limits.buckets import Buckets
from gateway.limits.leases import Leases
from gateway.limits.ledger import SLOT_SECONDS, Ledger, Told, limit_terms
from gateway.middlewares.rate_limit.config import RuleConfig
from gateway.middlewares.rate_limit.keys import quoted, text
from gateway.middlewares.rate_limit.policy import Policy

_SEPARATORS = re.compile("[%:/{}]")
"""What separates the names at the end of a ledger's key."""
_SLOT_SECONDS = b"%d" % SLOT_SECONDS
_NO_TAKING = Taking(0.0, 0.0)

_machine = os.urandom(6).hex()
_numbers = count()


class SharedLimit:
    """`leases` is None in exact mode. `tag` is what places all keys of an instance together in a
    Cluster."""

    __slots__ = (
        "_algorithm", "_gateways", "_limit", "_one", "_part", "_period", "_prefix", "_suffix",
        "_terms", "_wall", "leases", "ledger", "local",
    )  # fmt: skip

    def __init__(
        self, config: RuleConfig, policy: Policy, context: Context, ledger: Ledger, tag: str | None
    ) -> None:
        limit = policy.limit
        self.ledger = ledger
        self._algorithm = config.algorithm
        self._limit = self._part = limit
        self._gateways = 1
        self._wall = context.clock.wall
        names = "/".join(quoted(part, _SEPARATORS) for part in policy.key[1:])
        # What stands in braces decides on a key's place (Redis Cluster specification, "Hash tags").
        self._prefix = "gateway:{" if tag is None else f"gateway:{{{quoted(tag)}}}:"
        self._suffix = f"}}:{names}" if tag is None else f":{names}"
        self._terms = limit_terms(config.algorithm, limit)
        self._one = (*self._terms, b"1", b"0", b"", b"") if limit.ends is None else ()
        self._period: tuple[float, bytes, bytes, object] = (NEVER, b"", b"", None)
        # Requests that the ledger does not see count here, beside what it has counted before.
        self.local: Buckets = context.keep(
            ("local", *policy.key), None, lambda: Buckets(config.algorithm, limit, context.clock)
        )
        self.leases: Leases | None = None
        if config.mode == "leased":
            self.leases = context.keep(
                ("leases", *policy.key),
                (ledger, config.lease, tag),
                lambda: Leases(ledger, config.lease, self.settlement, context.clock, limit),
                limit,
            )

    def local_share(self) -> Buckets:
        """What counts while the ledger is away: this gateway's part of the limit."""
        gateways, local = self.ledger.gateways, self.local
        if gateways != self._gateways:
            self._gateways = gateways
            self._part = self._limit.shared(gateways)
        if local.limit is not self._part:
            local.adopt(self._part)
        return local

    def key(self, key: Hashable) -> bytes:
        """The ledger's key of a bucket."""
        return f"{self._prefix}{text(key)}{self._suffix}".encode("utf-8", "surrogatepass")

    def terms(self, cost: float, flag: float = 0, slot: bytes = b"") -> tuple[bytes, ...]:
        """What the ledger is told; `flag` is 1 for a shadow."""
        if self._one and cost == 1 and not flag and not slot:
            return self._one
        own = (slot, _SLOT_SECONDS) if slot else self._ends(self._limit)
        return (*self._terms, b"%d" % cost, b"%d" % flag, *own)

    def refund_terms(
        self, units: float, taking: Taking = _NO_TAKING, slot: bytes = b""
    ) -> tuple[bytes, ...]:
        """What the ledger is told to give units back that were taken at its time `taking.at`, or a
        slot."""
        if slot:
            own = slot, _SLOT_SECONDS
        else:
            ends = self._limit.ends
            own = b"%.17g" % (taking.left if ends is None else ends(taking.at / 1e6)), b""
        return (*self._terms, b"%d" % units, b"%d" % taking.at, *own)

    def settlement(
        self, key: Hashable, limit: Limit, cost: float, wanted: float
    ) -> tuple[bytes, list[bytes]]:
        """The key and terms that a lease is settled with.

        Leases outlive a reload, so the limit is the one they are asked with, and costs may be
        fractions of a unit.
        """
        terms = [
            *limit_terms(self._algorithm, limit),
            b"%.17g" % cost,
            b"%d" % wanted,
            *self._ends(limit),
        ]
        return self.key(key), terms

    # What is asked of the ledger for one bucket.

    def take(self, key: Hashable, cost: float) -> Wait[Told]:
        """Take `cost` units, alone."""
        return self.ledger.take((self.key(key),), self.terms(cost))

    def peek(self, key: Hashable, slot: bytes) -> Wait[Told]:
        """What taking one unit would give."""
        return self.ledger.peek(self.key(key), self.terms(1, slot=slot))

    def charge(self, key: Hashable, cost: float) -> None:
        """Count `cost` units, whether there is room or not."""
        self.ledger.charge(self.key(key), self.terms(cost))

    def refund(self, key: Hashable, units: float, taking: Taking) -> None:
        """Give units back as far as they still count."""
        self.ledger.refund(self.key(key), self.refund_terms(units, taking))

    def hold(self, key: Hashable, slot: bytes) -> None:
        """Renew a slot until it is let go."""
        self.ledger.hold(slot, self.key(key), self.terms(1, slot=slot))

    def let_go(self, key: Hashable, slot: bytes) -> None:
        """Give a slot back."""
        self.ledger.let_go(slot, self.key(key), self.refund_terms(1, slot=slot))

    def _ends(self, limit: Limit) -> tuple[bytes, bytes]:
        """The end of the quota's period, and of the one after it: the ledger's clock may be ahead
        of ours."""
        ends = limit.ends
        if ends is None:
            return b"", b""
        wall = self._wall()
        until, first, second, of = self._period
        if wall >= until or of is not ends:
            until = ends(wall)
            first, second = repr(until).encode(), repr(ends(until)).encode()
            self._period = (until, first, second, ends)
        return first, second


def slot_name() -> bytes:
    """A name for a request that takes a slot, unlike any other in any process."""
    return f"{_machine}-{os.getpid()}-{next(_numbers)}".encode()
