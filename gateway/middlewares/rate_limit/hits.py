"""What one rule has taken for a request: charging more, giving back, and what an upstream says it
cost."""

from __future__ import annotations

from collections.abc import Hashable
from math import ceil, isnan
from typing import NamedTuple

from gateway.core.clock import Clock
from gateway.limits.algorithms import Limit, Taking
from gateway.limits.buckets import Buckets
from gateway.limits.leases import TERM, Leases
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rules import LimitRule
from gateway.middlewares.rate_limit.shared_limit import SharedLimit


class Hit(NamedTuple):
    """One rule's part in a request.

    cost, left, back: the units taken, those left after it, and the seconds until all are back.
    at:      when they were taken: Unix time of a quota in this process, microseconds by the
             ledger's clock there, else monotonic seconds.
    counted: where; None for the ledger itself. limit: what they were counted against.
    shared:  the policy in the ledger; None when only this process counts it.
    slot:    the name of a slot in the ledger.
    """

    rule: LimitRule
    policy: Policy
    key: Hashable
    cost: float
    left: float
    back: float
    at: float
    counted: Buckets | Leases | None
    limit: Limit
    shared: SharedLimit | None = None
    slot: bytes = b""


def charge(hit: Hit, cost: float, clock: Clock) -> None:
    """Count more for a request that was admitted."""
    if hit.counted is not None:
        hit.counted.charge(hit.key, _now(hit, clock), cost)
    elif hit.shared is not None:
        hit.shared.charge(hit.key, cost)


def refund(hit: Hit, units: float, clock: Clock) -> None:
    """Give units of a request back as far as they still count; none if the limit has changed
    since."""
    counted, shared = hit.counted, hit.shared
    if counted is not None and counted.limit != hit.limit:
        return
    taking = Taking(hit.at, hit.left)
    if isinstance(counted, Buckets):
        counted.refund(hit.key, _now(hit, clock), units, taking)
        return
    assert shared is not None
    if counted is not None:
        # `left` was what the last settlement knew, at most a TERM before.
        most = min(hit.limit.quota, hit.left + hit.limit.rate * TERM)
        taking = Taking(counted.ledger_time(hit.key, hit.at), most)
    if taking.at:
        shared.refund(hit.key, units, taking)


def let_go(hit: Hit) -> None:
    """Give the ledger a slot back, if it is one."""
    if hit.slot and hit.shared is not None:
        hit.shared.let_go(hit.key, hit.slot)


def reported_cost(value: bytes, hit: Hit) -> float:
    """The whole units that an upstream says a request has cost, from 0 to the limit; as before if
    it says no number."""
    try:
        units = float(value)
    except ValueError:
        return hit.cost
    return hit.cost if isnan(units) else float(ceil(min(max(units, 0.0), hit.limit.quota)))


def _now(hit: Hit, clock: Clock) -> float:
    return clock.wall() if hit.rule.wall and isinstance(hit.counted, Buckets) else clock.monotonic()
