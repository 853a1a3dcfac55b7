"""One leased rule, where a unit is what a request costs: as long as there is credit, nothing has to be done but to use it.

Everything else (no credit, a settlement that is due, a store that is away, `gateway explain`) goes the way of limiter.py.
"""

from __future__ import annotations

from collections.abc import Awaitable
from math import ceil, floor

from gateway.core.exchange import Exchange
from gateway.middlewares.rate_limit.limit_headers import tell
from gateway.middlewares.rate_limit.limiter import Limiter
from gateway.middlewares.rate_limit.rules import Rule


class Leased(Limiter):
    """An instance with one such rule."""

    @staticmethod
    def serves(rules: list[Rule]) -> bool:
        """Whether the rules are one of this kind."""
        if len(rules) != 1:
            return False
        (rule,) = rules
        return rule.mode == "leased" and rule.unit and not (rule.shadow or rule.body or rule.cost_header)

    def __call__(self, exchange: Exchange) -> Awaitable[None] | None:
        """Counts the request. Raises Failed when there is no room for it."""
        if exchange.decisions is not None:
            return self._begin(exchange)
        rule = self._rules[0]
        policy = rule.always or rule.policy(exchange)
        if policy is None:
            return None
        remote = rule.remotes.get(policy.name)
        if remote is not None and remote.leases is not None:
            lease = remote.leases.live.get(rule.key(exchange))
            if lease is not None and (credit := lease.credit) >= lease.enough:
                now = self._monotonic()
                if now < lease.expires:
                    lease.touched = now
                    lease.credit = credit = credit - 1.0
                    tell(exchange, policy, floor(credit + lease.left), ceil(lease.back), floor(self._wall()), policy.item)
                    return None
        return self._decide(exchange)
