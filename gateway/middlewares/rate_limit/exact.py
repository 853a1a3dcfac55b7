"""One exact rule: the ledger is asked, and its answer is all there is to know.

Everything else (several rules, shadows, slots, reported costs, a ledger that is away, `gateway
explain`) goes the way of limiter.py.
"""

from __future__ import annotations

from collections.abc import Awaitable
from math import floor

from gateway.core.exchange import Exchange
from gateway.core.wait import own
from gateway.middlewares.rate_limit.hits import Hit
from gateway.middlewares.rate_limit.limit_headers import write_headers
from gateway.middlewares.rate_limit.limiter import RuleLimiter
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rules import LimitRule
from gateway.middlewares.rate_limit.shared_limit import SharedLimit
from gateway.store.stores import StoreDown

MILLION = 1_000_000


class ExactLimiter(RuleLimiter):
    """An instance with one such rule."""

    @staticmethod
    def serves(rules: list[LimitRule]) -> bool:
        """Return True if the rules are one of this kind."""
        if len(rules) != 1:
            return False
        (rule,) = rules
        return rule.mode == "exact" and not (
            rule.shadow or rule.body or rule.cost_header or rule.at_a_time
        )

    def __call__(self, exchange: Exchange) -> Awaitable[None] | None:
        if exchange.decisions is not None:
            return self._begin(exchange)
        rule = self._rules[0]
        policy = rule.always or rule.policy(exchange)
        if policy is None:
            return None
        shared = rule.shared.get(policy.name)
        if shared is None or not shared.ledger.up:
            return self._decide(exchange)
        cost = rule.flat_cost or rule.cost(exchange, policy)
        return self._ask_one(exchange, rule, policy, shared, cost) if cost else None

    @own
    async def _ask_one(
        self, exchange: Exchange, rule: LimitRule, policy: Policy, shared: SharedLimit, cost: float
    ) -> None:
        try:
            left, back, _ = await shared.take(rule.key(exchange), cost)
        except StoreDown:
            hits: list[Hit] = []
            self._take(exchange, self._rules, hits, down=True)
            self._show(exchange, hits)
            return
        if left < 0:
            raise self._refusal(exchange, [(policy, back / MILLION, rule.who)])
        if left <= policy.near * MILLION:
            self._near(exchange, policy)
        unix = floor(self._wall())
        write_headers(exchange, policy, left // MILLION, -(-back // MILLION), unix, policy.item)
