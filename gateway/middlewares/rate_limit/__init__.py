"""`rate_limit`: how many requests a caller may make, said on every reply.

Hooks: `request` counts and refuses. `response` is only needed where the upstream sends limits of
its own, which it removes, or reports costs. Limits appear on every reply without it, failures
included.

Who shares a bucket: a caller has one bucket per pipeline, instance and policy, so all routes of a
pipeline that use the class "strict" count together; `scope = "route"` counts every route apart. A
route that overrides a limit given in numbers rather than as a class has buckets of its own, named
after the route. keys.py says who the caller is, gateway/limits/algorithms.py how requests count.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.config.tables.schema import schema_of
from gateway.core.exchange import Exchange, Reply
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.limits.leases import lease_size
from gateway.limits.ledger import Ledger
from gateway.middlewares.rate_limit.config import ClassConfig, RateLimitConfig, RuleConfig
from gateway.middlewares.rate_limit.exact import ExactLimiter
from gateway.middlewares.rate_limit.keys import parts
from gateway.middlewares.rate_limit.leased import LeasedLimiter
from gateway.middlewares.rate_limit.limit_headers import passed, remove_limits
from gateway.middlewares.rate_limit.limiter import RuleLimiter
from gateway.middlewares.rate_limit.memory import MemoryLimiter
from gateway.middlewares.rate_limit.rule_policies import Policies, policies
from gateway.middlewares.rate_limit.rules import LimitRule

CONFIG = schema_of(RateLimitConfig)
NOT_LEASED = ("sliding_log", "concurrency")
"""Algorithms of which nothing can be taken ahead."""
SHARE_MIN = 10
"""Units on lease below which leasing is not the default: settling would cost more than asking."""


def build(config: RateLimitConfig, context: Context) -> Hooks:
    """Build the middleware. Raises ConfigProblem when the limits do not make sense together."""
    rules = _rules(config, context)
    limiter = _kind(rules)(config, context, rules)

    def response(exchange: Exchange, reply: Reply) -> None:
        remove_limits(reply)
        if limiter.cost_headers:
            limiter.response(exchange, reply)

    return Hooks(
        request=limiter,
        response=response,
        release=limiter.release if limiter.releases else None,
        passed=passed,
    )


def _kind(rules: list[LimitRule]) -> type[RuleLimiter]:
    """The limiter for the rules: one of a short way, or the one for all."""
    if MemoryLimiter.serves(rules):
        return MemoryLimiter
    if LeasedLimiter.serves(rules):
        return LeasedLimiter
    return ExactLimiter if ExactLimiter.serves(rules) else RuleLimiter


def _rules(config: RateLimitConfig, context: Context) -> list[LimitRule]:
    """The table's own rule, if it says a limit, and those below it."""
    made: list[tuple[RuleConfig, Policies]] = []
    if not config.rules or config.class_ or config.numbers() != ClassConfig():
        made.append((config, policies(config, config.classes, context, own=config.name)))
    names: set[str] = set()
    for index, rule in enumerate(config.rules):
        name = rule.name or "-".join(parts(rule.key)).replace(":", "-")
        if name in names:
            raise ConfigProblem(
                f"two rules are called {name!r}",
                at=("rules", index),
                hint="give one of them another name",
            )
        names.add(name)
        made.append(
            (rule, policies(rule, config.classes, context, ("rules", index), name, (name,)))
        )
    for index, (rule, found) in enumerate(made):
        _check(
            rule,
            found,
            context,
            () if rule is config else ("rules", index - len(made) + len(config.rules)),
        )
    made = [(replace(rule, mode=_mode(rule, found, context)), found) for rule, found in made]
    exact = {(rule.key, rule.scope) for rule, _ in made if rule.mode == "exact"}
    # Keys of one command have to lie together in a Cluster: where they differ, by the instance's
    # name.
    tag = None if len(exact) <= 1 else f"{context.pipeline}/{context.name}"
    return [
        LimitRule(rule, found, context, tag if rule.mode == "exact" else None)
        for rule, found in made
    ]


def _mode(rule: RuleConfig, found: Policies, context: Context) -> str:
    """How a ledger is asked about this rule."""
    ledger: Ledger | None = context.ledger
    if rule.mode is not None:
        return rule.mode
    if ledger is None or not ledger.leased_by_default or rule.algorithm in NOT_LEASED:
        return "exact"
    limits = [policy.limit for policy in found.each()]
    if _costs_in_bursts(rule, found):
        return "exact"
    share = min(lease_size(limit, rule.lease, max(1, ledger.gateways)) for limit in limits)
    return "exact" if share < SHARE_MIN else "leased"


def _costs_in_bursts(rule: RuleConfig, found: Policies) -> bool:
    """Return True if requests of several units count in a burst.

    On lease each unit counts as a request in it.
    """
    several = bool(rule.costs or rule.cost_header)
    return several and any(policy.limit.burst for policy in found.each())


def _check(rule: RuleConfig, found: Policies, context: Context, at: tuple[str | int, ...]) -> None:
    """Refuse what rules may not combine. Raises ConfigProblem."""
    leased = rule.mode == "leased"
    hint = 'mode = "exact"'
    if leased and rule.algorithm in NOT_LEASED:
        raise ConfigProblem(
            f"{rule.algorithm} cannot be leased: what is taken ahead has no time",
            at=(*at, "mode"),
            hint=hint,
        )
    if leased and context.ledger is not None and _costs_in_bursts(rule, found):
        raise ConfigProblem(
            "a burst cannot be leased with costs: each unit would count as a request in it",
            at=(*at, "mode"),
            hint=hint,
        )
    if rule.algorithm == "concurrency" and (rule.costs or rule.cost_header):
        raise ConfigProblem(
            "requests at a time all cost one", at=(*at, "costs" if rule.costs else "cost_header")
        )
