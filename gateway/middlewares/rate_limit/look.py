"""Looking at limits without counting anything: for the `limits` builtin and for `gateway explain`."""

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from math import ceil, floor, inf
from typing import Any, NamedTuple

from gateway.core.clock import Clock
from gateway.core.exchange import Decision, Exchange
from gateway.limits.algorithms import LEEWAY
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rules import Rule, slot_name
from gateway.store.stores import StoreDown


class Seen(NamedTuple):
    """A rule that applies to a request: what is left, and the seconds until all is back."""

    rule: Rule
    policy: Policy
    left: float
    back: float


class Look:
    """What the rules of one instance would say."""

    def __init__(self, rules: tuple[Rule, ...], name: str, clock: Clock) -> None:
        self._rules = rules
        self._name = name
        self._clock = clock

    def here(self, exchange: Exchange) -> list[Seen]:
        """As far as it is known in this process."""
        return [Seen(rule, policy, *self._here(rule, policy, key)) for rule, policy, key in self._applying(exchange)]

    async def there(self, exchange: Exchange) -> list[Seen]:
        """Asking the store where that is what counts."""
        return [Seen(rule, policy, *await self._there(rule, policy, key)) for rule, policy, key in self._applying(exchange)]

    def _applying(self, exchange: Exchange) -> list[tuple[Rule, Policy, Hashable]]:
        found = [(rule, rule.policy(exchange)) for rule in self._rules]
        return [(rule, policy, rule.key(exchange)) for rule, policy in found if policy is not None]

    def _here(self, rule: Rule, policy: Policy, key: Hashable) -> tuple[float, float]:
        buckets = policy.buckets
        if (remote := rule.remotes.get(policy.name)) is not None:
            if remote.ledger.up:
                return policy.limit.quota, 0.0  # it did not answer this once, and knows better
            buckets = remote.share()
        now = self._clock.wall() if rule.wall else self._clock.monotonic()
        left, back = buckets.algorithm.left(deepcopy(buckets.find(key)), buckets.limit, now)
        return max(0.0, left), back

    async def _there(self, rule: Rule, policy: Policy, key: Hashable) -> tuple[float, float]:
        remote = rule.remotes.get(policy.name)
        if remote is not None and remote.ledger.up:
            slot = slot_name() if rule.at_a_time else b""
            try:
                told = await remote.ledger.peek(remote.key(key), remote.terms(1, slot=slot))
                held = 0.0 if remote.leases is None else remote.leases.held(key)
                return max(0.0, told[0] / 1e6 + held), told[1] / 1e6
            except StoreDown:
                pass
        return self._here(rule, policy, key)

    def shown(self, seen: list[Seen]) -> list[dict[str, Any]]:
        """Every rule as the `limits` answer has it."""
        return [self._shown(one) for one in seen]

    def _shown(self, seen: Seen) -> dict[str, Any]:
        rule, policy, left, back = seen
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
        if (remote := rule.remotes.get(policy.name)) is not None:
            shown["mode"] = rule.mode if remote.ledger.up else rule.on_failure
        return shown

    def explained(self, exchange: Exchange, decisions: list[Decision], seen: list[Seen]) -> list[tuple[Policy, float, str]]:
        """Adds what each rule would decide; returns those that would refuse: their policy, the wait and whose limit it is."""
        refused = []
        for rule, policy, left, back in seen:
            cost = rule.cost(exchange, policy)
            remote = rule.remotes.get(policy.name)
            where = "" if remote is None else f", {rule.mode} in {remote.ledger.name}"
            what = f"{policy.item} by {rule.who}{where}"
            if left + LEEWAY >= cost:
                decisions.append(Decision(self._name, "admitted", f"{what}: {floor(left - cost + LEEWAY)} left after it"))
                continue
            outcome = "would be limited (shadow)" if rule.shadow else "limited"
            decisions.append(Decision(self._name, outcome, f"{what}: {floor(left)} left, the request costs {cost:.0f}"))
            if not rule.shadow:
                refused.append((policy, back, rule.who))
        return refused
