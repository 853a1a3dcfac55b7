"""A policy: a limit with its name, its buckets and its header lines; made of a rule's class or
numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from gateway.core.hooks import ConfigProblem, Context
from gateway.lifetime.registry import ConflictingSettings
from gateway.limits.algorithms import Limit
from gateway.limits.buckets import Buckets
from gateway.limits.quotas import PERIODS, POLL, UnknownZone, quota_limit, zone_of
from gateway.middlewares.rate_limit.config import ClassConfig, RuleConfig
from gateway.middlewares.rate_limit.keys import parts

MAX_LOG_UNITS = 100_000
"""Units that a sliding log may hold for every caller: 8 bytes each, where each request costs
one."""
NEAR = 0.2
"""The share of a limit that is left when a caller is said to be near its end."""

Path = tuple[str | int, ...]
"""Keys that lead to a place in the TOML table."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A limit with its name, its buckets, and what can be written beforehand of its headers."""

    name: str
    limit: Limit
    buckets: Buckets
    key: tuple[str, ...]
    """The name of its buckets, in memory and in a ledger."""
    item: str
    """Its member of RateLimit-Policy: `"standard";q=1000;w=10`."""
    head: str
    middle: str
    tail: str
    near: float
    """What stands before the units left: in X-RateLimit-Remaining; from the reset to RateLimit; in
    RateLimit. near: units left from which on a caller is near the end."""

    def lines(self, left: int, unix: int, seconds: int, listed: str) -> bytes:
        """The header lines for `left` units; all are back in `seconds`, at `unix`. listed: all
        policies."""
        return (
            f"{self.head}{left}\r\nX-RateLimit-Reset: {unix}\r\nRateLimit-Policy: "
            f"{listed}\r\n{self.tail}{left};t={seconds}\r\n"
        ).encode()

    def none(self, listed: str) -> bytes:
        """The header lines of a limit of 0."""
        return f"{self.head}0\r\nRateLimit-Policy: {listed}\r\n{self.tail}0\r\n".encode()


@dataclass(frozen=True, slots=True)
class PolicyMaker:
    """Makes the policies of one rule."""

    rule: RuleConfig
    classes: Mapping[str, ClassConfig]
    context: Context
    at: Path
    below: tuple[str, ...]

    def of_class(self, name: str, at: Path) -> Policy:
        known = self.classes.get(name)
        if known is None:
            names = ", ".join(sorted(self.classes)) or "none"
            raise ConfigProblem(f"there is no class {name!r}", at=at, hint=f"classes here: {names}")
        return self.policy(name, known, ("classes", name))

    def policy(self, name: str, numbers: ClassConfig, at: Path) -> Policy:
        rule, context = self.rule, self.context
        limit = self.limit(numbers, at)
        # The limit is not part of the name: buckets outlive its changes.
        words = "+".join(parts(rule.key))
        key = (
            "rate_limit",
            context.pipeline,
            context.name,
            *self.below,
            name,
            words,
            rule.algorithm,
        )
        key, buckets = self._buckets(key, limit)
        # A String of RFC 8941 section 3.3.3; names are any text of the configuration.
        quoted = re.sub(r'(["\\])', r"\\\1", re.sub(r"[^ -~]", "?", name))
        item = f'"{quoted}";q={limit.quota:.0f}'
        # No window, or none of one length.
        if rule.algorithm != "concurrency" and numbers.period != "month":
            item += f";w={max(1, ceil(limit.window))}"
        return Policy(
            name=name,
            limit=limit,
            buckets=buckets,
            key=(*key, rule.scope),
            item=item,
            head=f"X-RateLimit-Limit: {limit.quota:.0f}\r\nX-RateLimit-Remaining: ",
            middle=f'\r\nRateLimit-Policy: {item}\r\nRateLimit: "{quoted}";r=',
            tail=f'RateLimit: "{quoted}";r=',
            near=limit.quota * NEAR,
        )

    def _buckets(self, key: tuple[str, ...], limit: Limit) -> tuple[tuple[str, ...], Buckets]:
        rule, context = self.rule, self.context

        def make() -> Buckets:
            return Buckets(rule.algorithm, limit, context.clock)

        try:
            return key, context.keep(key, rule.scope, make, limit)
        except ConflictingSettings:  # A class that a route has redefined is another class.
            key = (*key, "route", context.route)
            return key, context.keep(key, rule.scope, make, limit)

    def limit(self, numbers: ClassConfig, at: Path) -> Limit:
        """The limit that numbers describe, for the rule's algorithm. Raises ConfigProblem."""
        algorithm = self.rule.algorithm
        for name, owner in _OWNERS:
            if getattr(numbers, name) is not None and algorithm not in owner:
                wanted = ", ".join(f'"{one}"' for one in owner)
                raise ConfigProblem(
                    f"{name} belongs to algorithm = {wanted}, not {algorithm!r}",
                    at=(*at, name),
                    hint=_HINTS[algorithm],
                )
        if algorithm == "concurrency":
            return Limit(float(_given(numbers.limit, "limit", at)), 1.0, POLL)
        if algorithm == "quota":
            if numbers.limit is None or numbers.period is None:
                raise ConfigProblem(
                    "limit and period need each other", at=at, hint=f"period: {', '.join(PERIODS)}"
                )
            try:
                return quota_limit(numbers.limit, numbers.period, zone_of(self.rule.time_zone))
            except UnknownZone as unknown:
                hint = "an IANA name such as Europe/Berlin; small images need the package tzdata"
                raise ConfigProblem(str(unknown), at=(*self.at, "time_zone"), hint=hint) from None
        limit = _limit(numbers, at)
        if algorithm == "sliding_log" and limit.quota > MAX_LOG_UNITS:
            raise ConfigProblem(
                f"a sliding log holds {MAX_LOG_UNITS} requests at most",
                at=at,
                hint='use "sliding_window"',
            )
        return limit


WINDOWED = ("token_bucket", "sliding_window", "sliding_log", "fixed_window")
_OWNERS = (
    ("tokens", ("token_bucket",)),
    ("refill", ("token_bucket",)),
    ("burst", ("token_bucket",)),
    ("window", WINDOWED),
    ("period", ("quota",)),
)
_HINTS = {
    **dict.fromkeys(WINDOWED, "give limit and window"),
    "quota": "give limit and period",
    "concurrency": "give limit, the number of requests at a time",
}


def _given(value: int | None, name: str, at: Path) -> int:
    if value is None:
        raise ConfigProblem("says no limit", at=at, hint=f"give {name}")
    return value


def _limit(numbers: ClassConfig, at: Path) -> Limit:
    """The limit of so many requests within so many seconds."""
    by_tokens = numbers.tokens is not None or numbers.refill is not None
    by_window = numbers.limit is not None or numbers.window is not None
    if by_tokens and by_window:
        raise ConfigProblem(
            "tokens and refill are one way to say it, limit and window another", at=at
        )
    if by_window:
        if numbers.limit is None or numbers.window is None:
            raise ConfigProblem("limit and window need each other", at=at)
        return Limit.windowed(numbers.limit, numbers.window, numbers.burst or 0)
    if numbers.tokens is None or numbers.refill is None:
        if by_tokens or numbers.burst is not None:
            raise ConfigProblem("tokens and refill need each other", at=at)
        raise ConfigProblem(
            "says no limit", at=at, hint=("give a class, tokens and refill, or limit and window")
        )
    return Limit.refilled(numbers.tokens, numbers.refill, numbers.burst or 0)
