"""One rule at work: which requests it applies to, what they cost, and where they are counted."""

from __future__ import annotations

from gateway.core.exchange import Exchange, Identity
from gateway.core.hooks import Context
from gateway.core.methods import misspelt
from gateway.core.networks import Networks
from gateway.limits.ledger import Ledger
from gateway.middlewares.rate_limit.config import ExemptConfig, RuleConfig
from gateway.middlewares.rate_limit.keys import Key, parts, reader
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rule_policies import Policies
from gateway.middlewares.rate_limit.shared_limit import SharedLimit


class Exemptions:
    """Called with a request and its identity: True for callers that are not limited."""

    __slots__ = ("_clients", "_networks", "_roles", "_tiers")

    def __init__(self, config: ExemptConfig) -> None:
        self._networks = Networks(config.networks)
        self._clients = frozenset(config.clients)
        self._tiers = frozenset(config.tiers)
        self._roles = frozenset(config.roles)

    def __call__(self, exchange: Exchange, identity: Identity | None) -> bool:
        if identity is not None and (
            identity.client in self._clients
            or identity.tier in self._tiers
            or not self._roles.isdisjoint(identity.roles)
        ):
            return True
        return bool(self._networks) and exchange.client_ip in self._networks


LEAST_COST = 1e-6
"""Units that are asked for where a request is free until its answer says otherwise."""


class LimitRule:
    """A compiled rule.

    mode: "memory", "exact" or "leased". shared: the rule's policies in the ledger, by name.
    always, flat_cost: the policy and cost of every request, where all have the same; else None, 0.
    by_tier_alone: only the caller's tier decides on its policy. unit: every request costs one.
    wall: times are Unix times. who: the words of `key`, for people.
    """

    __slots__ = (
        "_costs",
        "_default_cost",
        "_exempt",
        "_methods",
        "_own",
        "_roles",
        "algorithm",
        "always",
        "at_a_time",
        "body",
        "by_tier_alone",
        "cost_header",
        "default",
        "flat_cost",
        "key",
        "mode",
        "on_failure",
        "policies",
        "shadow",
        "shared",
        "tiers",
        "unit",
        "wall",
        "who",
    )  # fmt: skip

    def __init__(
        self, config: RuleConfig, policies: Policies, context: Context, tag: str | None
    ) -> None:
        self.algorithm = config.algorithm
        self.default = policies.default
        self.policies = policies.each()
        self.shadow = config.shadow
        self.at_a_time = config.algorithm == "concurrency"
        self.wall = self.default.buckets.algorithm.wall
        self.tiers = policies.tiers
        self._roles = policies.roles
        self._own = policies.own
        self._exempt = Exemptions(config.exempt) if config.exempt != ExemptConfig() else None
        # HEAD asks for what GET does (RFC 9110 section 9.3.2): it is no way around a limit or a
        # cost.
        methods = frozenset(misspelt(method) or method for method in config.methods)
        self._methods = (methods | {"HEAD"} if "GET" in methods else methods) or None
        self.by_tier_alone = not (self._methods or self._exempt or self._roles or self._own)
        self.always = self.default if self.by_tier_alone and not self.tiers else None
        self._set_keys(config)
        self._set_costs(config)
        self._share(config, context, tag)

    def _set_keys(self, config: RuleConfig) -> None:
        words = parts(config.key)
        self.who = "+".join(words)
        self.body = frozenset(
            word.removeprefix("body:") for word in words if word.startswith("body:")
        )
        self.key: Key = reader(config.key, config.scope)
        if self._own is not None:
            self.key = self._own.reader(self.key, config.scope == "route")

    def _set_costs(self, config: RuleConfig) -> None:
        costs: dict[str, float] = {
            misspelt(method) or method: cost for method, cost in config.costs.items()
        }
        if "GET" in costs:
            costs.setdefault("HEAD", costs["GET"])
        self._default_cost = costs.pop("*", 1)
        self._costs = costs
        self.unit = not costs and self._default_cost == 1
        self.flat_cost = 0.0
        self.cost_header = config.cost_header.lower().encode()
        if self.cost_header:
            # What answers will say counts: such a request is free, but not once nothing is left.
            costs = {method: cost or LEAST_COST for method, cost in costs.items()}
            self._costs, self._default_cost = costs, self._default_cost or LEAST_COST
        if self.always is not None and not costs:
            self.flat_cost = _at_most_all(self._default_cost, self.always)

    def _share(self, config: RuleConfig, context: Context, tag: str | None) -> None:
        ledger: Ledger | None = context.ledger
        self.mode = "memory" if ledger is None else config.mode
        self.on_failure = config.on_store_failure
        self.shared: dict[str, SharedLimit] = {}
        if ledger is None:
            return
        for policy in self.policies:
            if policy.limit.quota:  # A limit of 0 needs no ledger to refuse.
                self.shared[policy.name] = SharedLimit(config, policy, context, ledger, tag)
        if (own := self._own) is not None:

            def made(policy: Policy) -> None:
                self.shared[policy.name] = SharedLimit(config, policy, own.context, ledger, tag)

            own.made = made

    def __repr__(self) -> str:
        return f"<LimitRule {self.default.item} by {self.who} {self.mode}>"

    def policy(self, exchange: Exchange) -> Policy | None:
        """The policy for a request; None when the rule does not limit it."""
        identity = exchange.identity
        if self._methods is not None and exchange.method not in self._methods:
            return None
        if self._exempt is not None and self._exempt(exchange, identity):
            return None
        if identity is not None:
            if (
                self._own is not None
                and identity.limit
                and (mine := self._own.of(identity.limit)) is not None
            ):
                return mine
            if self.tiers and (found := self.tiers.get(identity.tier)) is not None:
                return found
            if self._roles:
                for role, policy in self._roles.items():
                    if role in identity.roles:
                        return policy
        return self.default

    def cost(self, exchange: Exchange, policy: Policy) -> float:
        """Units that the request costs, never more than the whole limit."""
        return _at_most_all(self._costs.get(exchange.method, self._default_cost), policy)


def _at_most_all(units: float, policy: Policy) -> float:
    """No request costs more than the whole limit, so that each can be admitted; of 0, none can."""
    quota = policy.limit.quota
    return units if units <= quota else quota or units
