"""One rule of the simplest kind, counted in this process: what most configurations say.

Everything else (several rules, costs, exemptions, quotas, shared stores, `gateway explain`) goes
the way of limiter.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable
from math import ceil, floor

from gateway.core.exchange import Exchange
from gateway.core.hooks import Context
from gateway.middlewares.rate_limit.config import RateLimitConfig
from gateway.middlewares.rate_limit.limit_headers import NOTE, write_headers
from gateway.middlewares.rate_limit.limiter import RuleLimiter
from gateway.middlewares.rate_limit.rules import LimitRule


class MemoryLimiter(RuleLimiter):
    """An instance with one such rule."""

    def __init__(
        self, config: RateLimitConfig, context: Context, rules: Iterable[LimitRule]
    ) -> None:
        super().__init__(config, context, rules)
        (rule,) = self._rules
        self._default = rule.default
        self._tiers = rule.tiers
        self._key = rule.key
        self._by_client = config.key == "client" and config.scope != "route"

    @staticmethod
    def serves(rules: list[LimitRule]) -> bool:
        """Return True if the rules are one of this kind."""
        if len(rules) != 1:
            return False
        (rule,) = rules
        simple = (
            rule.unit and rule.by_tier_alone and not (rule.shadow or rule.body or rule.cost_header)
        )
        return simple and rule.mode == "memory" and not (rule.wall or rule.at_a_time)

    def __call__(self, exchange: Exchange) -> Awaitable[None] | None:
        if exchange.decisions is not None:
            return self._begin(exchange)
        identity = exchange.identity
        policy = self._default
        if self._tiers and identity is not None:
            policy = self._tiers.get(identity.tier, policy)
        if identity is not None and self._by_client:
            key: Hashable = identity.client
        else:
            key = self._key(exchange)

        now = self._monotonic()
        buckets = policy.buckets
        if now >= buckets.due:
            buckets.sweep(now)
        live = buckets.live
        state = live.get(key)
        if state is None:
            state = buckets.open(key, now, self._max_keys)
        # The buckets' limit, not the policy's: after a reload, states count by that.
        live[key], left, back = buckets.take(state, buckets.limit, now)
        if left < 0.0:
            raise self._refusal(exchange, [(policy, back, self._rules[0].who)])

        if left <= policy.near:
            self._near(exchange, policy)
        remaining, seconds = floor(left), ceil(back)
        blocks = exchange.reply_blocks
        if blocks is not None and NOTE in exchange.notes:
            write_headers(
                exchange, policy, remaining, seconds, floor(now + buckets.epoch), policy.item
            )
            return None
        # Policy.lines, written out: every admitted request pays for it.
        block = (
            f"{policy.head}{remaining}\r\nX-RateLimit-Reset: {floor(now + buckets.epoch) + seconds}"
            f"{policy.middle}{remaining};t={seconds}\r\n"
        ).encode()
        exchange.notes[NOTE] = (policy, remaining, seconds, policy.item, block)
        if blocks is None:
            exchange.reply_blocks = [block]
        else:
            blocks.append(block)
        return None
