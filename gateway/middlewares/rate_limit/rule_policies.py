"""The policies of one rule: the default, by tier and role, and those that keys bring along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from gateway.core.hooks import ConfigProblem, Context
from gateway.middlewares.rate_limit.config import ClassConfig, RuleConfig
from gateway.middlewares.rate_limit.key_limits import KeyLimits
from gateway.middlewares.rate_limit.policy import WINDOWED, Path, Policy, PolicyMaker


class Policies(NamedTuple):
    """`default` holds where neither the caller's tier nor a role of its names another."""

    default: Policy
    tiers: Mapping[str, Policy]
    roles: Mapping[str, Policy]
    own: KeyLimits | None = None

    def each(self) -> list[Policy]:
        own = self.own.classes.values() if self.own else ()
        return [self.default, *self.tiers.values(), *self.roles.values(), *own]


def policies(
    rule: RuleConfig,
    classes: Mapping[str, ClassConfig],
    context: Context,
    at: Path = (),
    own: str = "",
    below: Path = (),
) -> Policies:
    """Make a rule's policies. Raises ConfigProblem when the limits do not make sense together.

    at: where the rule stands. own: its name when no class names it. below: what tells its buckets
    from those of other rules.
    """
    maker = PolicyMaker(rule, classes, context, at, tuple(map(str, below)))
    numbers = rule.numbers()
    if rule.class_:
        if numbers != ClassConfig():
            raise ConfigProblem(
                "a class and numbers of its own are two limits",
                at=(*at, "class"),
                hint="put the numbers into a class: classes.NAME = { ... }, class = NAME",
            )
        default = maker.of_class(rule.class_, (*at, "class"))
    else:
        name = (
            ".".join(filter(None, (context.route, own)))
            or context.name.partition(".")[2]
            or "default"
        )
        default = maker.policy(name, numbers, at)
    tiers = {tier: maker.of_class(name, (*at, "tiers", tier)) for tier, name in rule.tiers.items()}
    roles = {role: maker.of_class(name, (*at, "roles", role)) for role, name in rule.roles.items()}
    if rule.key_limits and (rule.key != "client" or rule.algorithm not in WINDOWED):
        hint = f'key = "client", and algorithm one of {", ".join(WINDOWED)}'
        raise ConfigProblem(
            ("keys bring limits for clients, of so many requests within a time"),
            at=(*at, "key_limits"),
            hint=hint,
        )
    return Policies(default, tiers, roles, KeyLimits(maker, classes) if rule.key_limits else None)
