"""Looking at limits without counting anything: for the `limits` builtin and for `gateway
explain`."""

from __future__ import annotations

from copy import deepcopy
from math import ceil, floor, inf
from typing import Any, NamedTuple

from gateway.core.clock import Clock
from gateway.core.exchange import Decision, Exchange
from gateway.core.refusals import WOULD
from gateway.core.wait import own
from gateway.limits.algorithms import LEEWAY
from gateway.limits.quotas import PeriodEnd
from gateway.middlewares.rate_limit.limit_headers import whose
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rules import LimitRule
from gateway.middlewares.rate_limit.shared_limit import slot_name
from gateway.store.stores import StoreDown


class Inspection(NamedTuple):
    """A rule that applies to a request.

    left, back: units, and the seconds until all are back. cost: of the request. wait: the seconds
    until it would be admitted, 0 for now.
    """

    rule: LimitRule
    policy: Policy
    left: float
    back: float
    cost: float
    wait: float


class Inspector:
    """What the rules of one instance would decide."""

    def __init__(self, rules: tuple[LimitRule, ...], name: str, clock: Clock) -> None:
        self._rules = rules
        self._name = name
        self._clock = clock

    def known(self, exchange: Exchange) -> list[Inspection]:
        """As far as it is known in this process."""
        return [self._known(exchange, rule, policy) for rule, policy in self._applying(exchange)]

    @own
    async def asked(self, exchange: Exchange) -> list[Inspection]:
        """The ledger is asked about what it counts."""
        applying = self._applying(exchange)
        return [await self._asked(exchange, rule, policy) for rule, policy in applying]

    def _applying(self, exchange: Exchange) -> list[tuple[LimitRule, Policy]]:
        found = [(rule, rule.policy(exchange)) for rule in self._rules]
        return [(rule, policy) for rule, policy in found if policy is not None]

    def _known(self, exchange: Exchange, rule: LimitRule, policy: Policy) -> Inspection:
        cost, buckets = rule.cost(exchange, policy), policy.buckets
        if (shared := rule.shared.get(policy.name)) is not None:
            if shared.ledger.up:  # It did not answer this once, and knows better.
                return Inspection(rule, policy, policy.limit.quota, 0.0, cost, 0.0)
            buckets = shared.local_share()
        now = self._clock.wall() if rule.wall else self._clock.monotonic()
        algorithm, limit = buckets.algorithm, buckets.limit
        state = deepcopy(buckets.find(rule.key(exchange)))
        left, back = algorithm.left(state, limit, now)
        _, room, wait = algorithm.take(state, limit, now, cost)
        return Inspection(
            rule, policy, max(0.0, left), back, cost, wait if room < 0.0 and cost else 0.0
        )

    @own
    async def _asked(self, exchange: Exchange, rule: LimitRule, policy: Policy) -> Inspection:
        shared = rule.shared.get(policy.name)
        if shared is not None and shared.ledger.up:
            key, cost = rule.key(exchange), rule.cost(exchange, policy)
            try:
                told, seconds, _ = await shared.peek(key, slot_name() if rule.at_a_time else b"")
            except StoreDown:
                return self._known(exchange, rule, policy)
            held = 0.0 if shared.leases is None else shared.leases.held(key)
            left, back = max(0.0, told / 1e6 + held), seconds / 1e6
            return Inspection(
                rule, policy, left, back, cost, 0.0 if left + LEEWAY >= cost else back
            )
        return self._known(exchange, rule, policy)

    def shown(self, found: list[Inspection]) -> list[dict[str, Any]]:
        """Return the entries of the `limits` answer."""
        return [self._shown(one) for one in found]

    def _shown(self, inspection: Inspection) -> dict[str, Any]:
        rule, policy, left, back, _, _ = inspection
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
        if isinstance(limit.ends, PeriodEnd):
            shown["period"] = limit.ends.period
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
        for rule, policy, left, _, cost, wait in found:
            shared = rule.shared.get(policy.name)
            where = "" if shared is None else f", {rule.mode} in {shared.ledger.name}"
            what = f"{policy.item} of {whose(exchange, rule.who)}{where}"
            if not wait:
                why = f"{what}: {floor(left - cost + LEEWAY)} left after it"
                decisions.append(Decision(self._name, "admitted", why))
                continue
            outcome = WOULD if rule.shadow else "limited"
            why = f"{what}: {floor(left)} left, the request costs {cost:.0f}, {wait:.3f} s to wait"
            decisions.append(Decision(self._name, outcome, why.replace("inf s", "no time")))
            if not rule.shadow:
                refused.append((policy, wait, rule.who))
        return refused
