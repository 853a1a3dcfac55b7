"""One leased rule, where a unit is what a request costs: while there is credit, it is only used.

Everything else (no credit, a settlement that is due, a ledger that is away, `gateway explain`) goes
the way of limiter.py.
"""

from __future__ import annotations

from collections.abc import Awaitable
from math import ceil, floor

from gateway.core.exchange import Exchange
from gateway.middlewares.rate_limit.limit_headers import write_headers
from gateway.middlewares.rate_limit.limiter import RuleLimiter
from gateway.middlewares.rate_limit.rules import LimitRule


class LeasedLimiter(RuleLimiter):
    """An instance with one such rule."""

    @staticmethod
    def serves(rules: list[LimitRule]) -> bool:
        """Return True if the rules are one of this kind."""
        if len(rules) != 1:
            return False
        (rule,) = rules
        return (
            rule.mode == "leased"
            and rule.unit
            and not (rule.shadow or rule.body or rule.cost_header)
        )

    def __call__(self, exchange: Exchange) -> Awaitable[None] | None:
        if exchange.decisions is not None:
            return self._begin(exchange)
        rule = self._rules[0]
        policy = rule.always or rule.policy(exchange)
        if policy is None:
            return None
        shared = rule.shared.get(policy.name)
        if shared is not None and shared.leases is not None:
            lease = shared.leases.live.get(rule.key(exchange))
            if lease is not None and (credit := lease.credit) >= lease.enough:
                now = self._monotonic()
                if now < lease.expires:
                    lease.touched = now
                    lease.credit = credit = credit - 1.0
                    left, unix = floor(credit + lease.left), floor(self._wall())
                    if left <= policy.near:
                        self._near(exchange, policy)
                    write_headers(exchange, policy, left, ceil(lease.back), unix, policy.item)
                    return None
        return self._decide(exchange)
