"""`rate_limit`: how many requests a caller may make, said on every reply.

Here is the short way for what most configurations say: one limit, counted in this process. Several
rules, costs, exemptions, quotas and shared stores are served by limiter.py; `build` chooses.

Hooks: `request` counts and refuses. `response` is only needed where the upstream sends limits of
its own, which it removes, or reports costs. Limits appear on every reply without it, failures
included.

Who shares a bucket: a caller has one bucket per pipeline, instance and policy, so all routes of a
pipeline that use the class "strict" count together; `scope = "route"` counts every route apart. A
route that overrides a limit given in numbers rather than as a class has buckets of its own, named
after the route. keys.py says who the caller is, gateway/limits/algorithms.py how requests count.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import deepcopy
from math import ceil, floor, inf
from typing import Any

from gateway.config.tables.schema import schema_of
from gateway.core.exchange import Decision, Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.middlewares.rate_limit.config import ClassConfig, ExemptConfig, RateLimitConfig, RuleConfig
from gateway.middlewares.rate_limit.exact import ExactLimiter
from gateway.middlewares.rate_limit.keys import parts, reader, route_name
from gateway.middlewares.rate_limit.leased import LeasedLimiter
from gateway.middlewares.rate_limit.limit_headers import NOTE, refusal, write_headers
from gateway.middlewares.rate_limit.limiter import RuleLimiter
from gateway.middlewares.rate_limit.policy import Policy
from gateway.middlewares.rate_limit.rule_policies import Policies, policies
from gateway.middlewares.rate_limit.rules import LimitRule

CONFIG = schema_of(RateLimitConfig)

NAMES = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset", b"ratelimit-policy", b"ratelimit")
"""The fields this middleware sends, lower case."""


class RateLimit:
    """One instance, of a pipeline or of a route that overrides it. Calling it is the request
    hook."""

    __slots__ = (
        "_config",
        "_context",
        "_counts",
        "_default",
        "_key",
        "_max_keys",
        "_monotonic",
        "_of_client",
        "_of_route",
        "_tiers",
        "_wall",
        "_who",
    )

    def __init__(self, config: RateLimitConfig, context: Context, default: Policy, tiers: Mapping[str, Policy]) -> None:
        self._config = config
        self._context = context
        self._default = default
        self._tiers = tiers
        self._max_keys = config.max_keys
        self._who = str(config.key)
        self._of_client = config.key == "client"
        self._of_route = config.scope == "route"
        self._key = reader(config.key, config.scope)
        self._monotonic = context.clock.monotonic
        self._wall = context.clock.wall
        self._counts = context.telemetry.rate_limited

    def __repr__(self) -> str:
        return f"<RateLimit {self._context.name} by {self._config.key}: {self._default.item}>"

    def __call__(self, exchange: Exchange) -> None:
        """Count the request. Raises Failed(RATE_LIMITED) when there is no room for it."""
        identity = exchange.identity
        policy = self._default
        if self._tiers and identity is not None:
            policy = self._tiers.get(identity.tier, policy)
        if identity is not None and self._of_client and not self._of_route:
            key: Hashable = identity.client
        else:
            key = self._key(exchange)
        if exchange.decisions is not None:
            return self._explain(exchange, exchange.decisions, policy, key)

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
            self._counts.add((route_name(exchange), policy.name))
            raise self._refusal(exchange, policy, back)

        remaining, seconds = floor(left), ceil(back)
        blocks = exchange.reply_blocks
        if blocks is not None and NOTE in exchange.notes:
            write_headers(exchange, policy, remaining, seconds, floor(now + buckets.epoch), policy.item)
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

    def status(self, exchange: Exchange) -> list[dict[str, Any]]:
        """What this caller may still do, without counting anything. Times in seconds; `reset` is
        Unix time."""
        identity = exchange.identity
        policy = self._default if identity is None else self._tiers.get(identity.tier, self._default)
        state = policy.buckets.find(self._key(exchange))
        left, back = policy.buckets.algorithm.left(state, policy.buckets.limit, self._monotonic())
        shown: dict[str, Any] = {
            "policy": policy.name,
            "key": self._who,
            "algorithm": self._config.algorithm,
            "limit": int(policy.limit.quota),
            "window": policy.limit.window,
            "remaining": floor(left),
        }
        if back != inf:
            shown["reset"] = floor(self._wall()) + ceil(back)
        if policy.limit.burst and self._config.algorithm == "token_bucket":
            shown["burst"] = policy.limit.burst
        return [shown]

    @staticmethod
    def response(exchange: Exchange, reply: Reply) -> None:
        """Remove what the upstream says about limits of its own: one reply, one account."""
        for name in NAMES:
            if name in reply.index:
                reply.remove(name)

    def _refusal(self, exchange: Exchange, policy: Policy, wait: float) -> Failed:
        unix, by, message = floor(self._wall()), self._context.name, self._config.message
        return refusal(exchange, policy, wait, unix, policy.item, by, message, self._who)

    def _explain(self, exchange: Exchange, decisions: list[Decision], policy: Policy, key: Hashable) -> None:
        """Say what would be decided, on a copy of the state."""
        buckets = policy.buckets
        _, left, back = buckets.take(deepcopy(buckets.find(key)), buckets.limit, self._monotonic())
        who = self._who
        if self._of_client and exchange.identity is None:
            who = "ip, for want of an identity"
        if left < 0.0:
            decisions.append(Decision(self._context.name, "limited", f"{policy.item} by {who}: {back:.3f} s to wait"))
            raise self._refusal(exchange, policy, back)
        decisions.append(Decision(self._context.name, "admitted", f"{policy.item} by {who}: {floor(left)} left after it"))


def build(config: RateLimitConfig, context: Context) -> Hooks:
    """Build the middleware. Raises ConfigProblem when the limits do not make sense together."""
    if not config.rules and context.ledger is None and _is_simple(config):
        found = policies(config, config.classes, context, own=config.name)
        limiter = RateLimit(config, context, found.default, found.tiers)
        return Hooks(request=limiter, response=limiter.response)
    rules = _rules(config, context)
    several = _kind(rules)(config, context, rules)

    def response(exchange: Exchange, reply: Reply) -> None:
        RateLimit.response(exchange, reply)
        if several.cost_headers:
            several.response(exchange, reply)

    return Hooks(request=several, response=response, release=several.release if several.releases else None)


def _kind(rules: list[LimitRule]) -> type[RuleLimiter]:
    if LeasedLimiter.serves(rules):
        return LeasedLimiter
    return ExactLimiter if ExactLimiter.serves(rules) else RuleLimiter


def _is_simple(config: RuleConfig) -> bool:
    """Return True if the short way does all that is asked for."""
    more = (config.roles, config.methods, config.costs, config.cost_header, config.shadow, config.exempt != ExemptConfig())
    if config.key_limits or any(more):
        return False
    return config.key in ("client", "ip", "global") and config.algorithm not in ("quota", "concurrency")


def _rules(config: RateLimitConfig, context: Context) -> list[LimitRule]:
    """The table's own rule, if it says a limit, and those below it."""
    made: list[tuple[RuleConfig, Policies]] = []
    if not config.rules or config.class_ or config.numbers() != ClassConfig():
        made.append((config, policies(config, config.classes, context, own=config.name)))
    names: set[str] = set()
    for index, rule in enumerate(config.rules):
        name = rule.name or "-".join(parts(rule.key)).replace(":", "-")
        if name in names:
            raise ConfigProblem(f"two rules are called {name!r}", at=("rules", index), hint="give one of them another name")
        names.add(name)
        made.append((rule, policies(rule, config.classes, context, ("rules", index), name, (name,))))
    for index, (rule, found) in enumerate(made):
        _check(rule, found, context, () if rule is config else ("rules", index - len(made) + len(config.rules)))
    exact = {(rule.key, rule.scope) for rule, _ in made if rule.mode == "exact"}
    # Keys of one command have to lie together in a Cluster: where they differ, by the instance's
    # name.
    tag = None if len(exact) <= 1 else f"{context.pipeline}/{context.name}"
    return [LimitRule(rule, found, context, tag if rule.mode == "exact" else None) for rule, found in made]


def _check(rule: RuleConfig, found: Policies, context: Context, at: tuple[str | int, ...]) -> None:
    """Refuse what rules may not combine. Raises ConfigProblem."""
    leased = rule.mode == "leased"
    hint = 'mode = "exact"'
    if leased and rule.algorithm in ("sliding_log", "concurrency"):
        raise ConfigProblem(f"{rule.algorithm} cannot be leased: what is taken ahead has no time", at=(*at, "mode"), hint=hint)
    if leased and context.ledger is not None and any(policy.limit.burst for policy in found.each()):
        raise ConfigProblem(("a burst cannot be leased: a second is too short for shares"), at=(*at, "mode"), hint=hint)
    if rule.algorithm == "concurrency" and (rule.costs or rule.cost_header):
        raise ConfigProblem("requests at a time all cost one", at=(*at, "costs" if rule.costs else "cost_header"))
