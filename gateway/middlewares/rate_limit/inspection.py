"""Looking at limits without counting anything: for the `limits` builtin and for `gateway
explain`."""

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from math import ceil, floor, inf
from typing import Any, NamedTuple

from gateway.core.clock import Clock
from gateway.core.exchange import Decision, Exchange
from gateway.core.wait import own
from gateway.limits.algorithms import LEEWAY
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rules import LimitRule
from gateway.middlewares.rate_limit.shared_limit import slot_name
from gateway.store.stores import StoreDown


class Inspection(NamedTuple):
    """A rule that applies to a request: units left, and the seconds until all are back."""

    rule: LimitRule
    policy: Policy
    left: float
    back: float


class Inspector:
    """What the rules of one instance would decide."""

    def __init__(self, rules: tuple[LimitRule, ...], name: str, clock: Clock) -> None:
        self._rules = rules
        self._name = name
        self._clock = clock

    def known(self, exchange: Exchange) -> list[Inspection]:
        """As far as it is known in this process."""
        applying = self._applying(exchange)
        return [Inspection(rule, policy, *self._known(rule, policy, key)) for rule, policy, key in applying]

    @own
    async def asked(self, exchange: Exchange) -> list[Inspection]:
        """The ledger is asked about what it counts."""
        found = []
        for rule, policy, key in self._applying(exchange):
            found.append(Inspection(rule, policy, *await self._asked(rule, policy, key)))
        return found

    def _applying(self, exchange: Exchange) -> list[tuple[LimitRule, Policy, Hashable]]:
        found = [(rule, rule.policy(exchange)) for rule in self._rules]
        return [(rule, policy, rule.key(exchange)) for rule, policy in found if policy is not None]

    def _known(self, rule: LimitRule, policy: Policy, key: Hashable) -> tuple[float, float]:
        buckets = policy.buckets
        if (shared := rule.shared.get(policy.name)) is not None:
            if shared.ledger.up:
                return policy.limit.quota, 0.0  # It did not answer this once, and knows better.
            buckets = shared.local_share()
        now = self._clock.wall() if rule.wall else self._clock.monotonic()
        left, back = buckets.algorithm.left(deepcopy(buckets.find(key)), buckets.limit, now)
        return max(0.0, left), back

    async def _asked(self, rule: LimitRule, policy: Policy, key: Hashable) -> tuple[float, float]:
        shared = rule.shared.get(policy.name)
        if shared is not None and shared.ledger.up:
            try:
                left, back, _ = await shared.peek(key, slot_name() if rule.at_a_time else b"")
                held = 0.0 if shared.leases is None else shared.leases.held(key)
                return max(0.0, left / 1e6 + held), back / 1e6
            except StoreDown:
                pass
        return self._known(rule, policy, key)

    def shown(self, found: list[Inspection]) -> list[dict[str, Any]]:
        """Return the entries of the `limits` answer."""
        return [self._shown(one) for one in found]

    def _shown(self, inspection: Inspection) -> dict[str, Any]:
        rule, policy, left, back = inspection
        limit = policy.limit
        shown: dict[str, Any] = {
            "policy": policy.name,
            "key": rule.who,
            "algorithm": rule.algorithm,
            "limit": int(limit.quota),
            "window": limit.window,
            "remaining": floor(left),
        }
        if back != inf:
            shown["reset"] = floor(self._clock.wall()) + ceil(back)
        if rule.at_a_time:
            del shown["window"]
        if limit.burst:
            shown["burst"] = limit.burst
        if rule.shadow:
            shown["shadow"] = True
        if (shared := rule.shared.get(policy.name)) is not None:
            shown["mode"] = rule.mode if shared.ledger.up else rule.on_failure
        return shown

    def explained(
        self, exchange: Exchange, decisions: list[Decision], found: list[Inspection]
    ) -> list[tuple[Policy, float, str]]:
        """Add what each rule would decide; returns (policy, wait, whose limit) of those that would
        refuse."""
        refused = []
        for rule, policy, left, back in found:
            cost = rule.cost(exchange, policy)
            shared = rule.shared.get(policy.name)
            where = "" if shared is None else f", {rule.mode} in {shared.ledger.name}"
            what = f"{policy.item} by {rule.who}{where}"
            if left + LEEWAY >= cost:
                decisions.append(Decision(self._name, "admitted", f"{what}: {floor(left - cost + LEEWAY)} left after it"))
                continue
            outcome = "would be limited (shadow)" if rule.shadow else "limited"
            decisions.append(Decision(self._name, outcome, f"{what}: {floor(left)} left, the request costs {cost:.0f}"))
            if not rule.shadow:
                refused.append((policy, back, rule.who))
        return refused
