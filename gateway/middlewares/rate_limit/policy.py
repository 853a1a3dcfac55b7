"""What a `rate_limit` table says, and the policies it amounts to: a limit with its name, its buckets and its header lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil

from gateway.config.schema import Choice, Duration, Map, Number, SubTable, Table, Text, Whole
from gateway.core.hooks import ConfigProblem, Context
from gateway.state.buckets import Buckets
from gateway.state.limits import ALGORITHMS, Limit, State, Taken


@dataclass(frozen=True, slots=True)
class ClassConfig:
    """A limit: `tokens`, `refill` a second and `burst` in any one second, or `limit` requests within `window` seconds."""

    tokens: int | None = None
    refill: float | None = None
    burst: int | None = None
    limit: int | None = None
    window: float | None = None


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """Whose requests are counted (`key`), how (`algorithm`), and how many: a `class`, or the same numbers as a class has.

    tiers:    the class for callers of a tier; all others, and callers without an identity, have the `class` or the numbers.
    scope:    "pipeline" or "route": where a caller's requests are counted together.
    message:  for refused clients, instead of the gateway's own words.
    max_keys: callers remembered at a time; beyond it those are forgotten that have most left.
    """

    key: str = "client"
    algorithm: str = "token_bucket"
    class_: str = ""
    classes: Mapping[str, ClassConfig] = field(default_factory=dict)
    tiers: Mapping[str, str] = field(default_factory=dict)
    scope: str = "pipeline"
    message: str = ""
    max_keys: int = 1_000_000
    tokens: int | None = None
    refill: float | None = None
    burst: int | None = None
    limit: int | None = None
    window: float | None = None


class ClassTable(Table):
    makes = ClassConfig
    tokens = Whole(least=1, most=10**9)
    refill = Number(least=1e-6, most=1e9)
    burst = Whole(least=1, most=10**9)
    limit = Whole(least=1, most=10**9)
    window = Duration()


class RateLimitTable(Table):
    makes = RateLimitConfig
    tokens = Whole(least=1, most=10**9)
    refill = Number(least=1e-6, most=1e9)
    burst = Whole(least=1, most=10**9)
    limit = Whole(least=1, most=10**9)
    window = Duration()
    key = Choice("client", "ip", "global")
    algorithm = Choice(*ALGORITHMS)
    class_ = Text(data_key="class", attribute="class_")
    classes = Map(keys=Text(), values=SubTable(ClassTable))
    tiers = Map(keys=Text(), values=Text())
    scope = Choice("pipeline", "route")
    message = Text()
    max_keys = Whole(least=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """A limit with its name and its buckets, and all that can be written beforehand of what clients are told."""

    name: str
    limit: Limit
    buckets: Buckets
    take: Callable[[State, Limit, float], Taken]
    item: str
    """Its member of RateLimit-Policy: `"standard";q=1000;w=10`."""
    head: str
    middle: str
    tail: str
    """What stands before the number of requests left: in X-RateLimit-Remaining; from the reset to RateLimit; in RateLimit."""

    def lines(self, left: int, unix: int, seconds: int, listed: str) -> bytes:
        """The header lines when `left` requests are left and come back in `seconds`, at `unix`; `listed` are all policies."""
        return (
            f"{self.head}{left}\r\nX-RateLimit-Reset: {unix}\r\nRateLimit-Policy: {listed}\r\n{self.tail}{left};t={seconds}\r\n"
        ).encode()


def policies(config: RateLimitConfig, context: Context) -> tuple[Policy, dict[str, Policy]]:
    """The policy for everybody, and those of tiers. Raises ConfigProblem when the limits do not make sense together."""
    numbers = ClassConfig(config.tokens, config.refill, config.burst, config.limit, config.window)
    if config.class_:
        if numbers != ClassConfig():
            raise ConfigProblem(
                "a class and numbers of its own are two limits",
                at=("class",),
                hint="put the numbers into a class: classes.NAME = { ... }, class = NAME",
            )
        default = _of_class(config, context, config.class_, ("class",))
    else:
        own = context.route or context.name.partition(".")[2] or "default"
        default = _policy(config, context, own, numbers, ())
    tiers = {tier: _of_class(config, context, name, ("tiers", tier)) for tier, name in config.tiers.items()}
    return default, tiers


def _of_class(config: RateLimitConfig, context: Context, name: str, at: tuple[str, ...]) -> Policy:
    known = config.classes.get(name)
    if known is None:
        names = ", ".join(sorted(config.classes)) or "none"
        raise ConfigProblem(f"there is no class {name!r}", at=at, hint=f"classes here: {names}")
    return _policy(config, context, name, known, ("classes", name))


def _policy(config: RateLimitConfig, context: Context, name: str, numbers: ClassConfig, at: tuple[str, ...]) -> Policy:
    limit = _limit(config.algorithm, numbers, at)
    # Keys mean different things by `key`, and states by `algorithm`; the limit is not part of it: buckets outlive its changes.
    key = ("rate_limit", context.pipeline, context.name, name, config.key, config.algorithm)
    buckets: Buckets = context.keep(key, config.scope, lambda: Buckets(config.algorithm))
    # A String of RFC 8941 section 3.3.3; the label and the route's name are text from the configuration.
    quoted = re.sub(r'(["\\])', r"\\\1", re.sub(r"[^ -~]", "?", name))
    item = f'"{quoted}";q={limit.quota:.0f};w={max(1, ceil(limit.window))}'
    return Policy(
        name=name,
        limit=limit,
        buckets=buckets,
        take=buckets.algorithm.take,
        item=item,
        head=f"X-RateLimit-Limit: {limit.quota:.0f}\r\nX-RateLimit-Remaining: ",
        middle=f'\r\nRateLimit-Policy: {item}\r\nRateLimit: "{quoted}";r=',
        tail=f'RateLimit: "{quoted}";r=',
    )


def _limit(algorithm: str, numbers: ClassConfig, at: tuple[str, ...]) -> Limit:
    """The limit that a class's numbers describe, for an algorithm."""
    by_tokens = numbers.tokens is not None or numbers.refill is not None
    by_window = numbers.limit is not None or numbers.window is not None
    if by_tokens and by_window:
        raise ConfigProblem("tokens and refill are one way to say it, limit and window another", at=at)
    if algorithm != "token_bucket":
        for name in ("tokens", "refill", "burst"):
            if getattr(numbers, name) is not None:
                raise ConfigProblem(
                    f'{name} belongs to algorithm = "token_bucket", not {algorithm!r}',
                    at=(*at, name),
                    hint="give limit and window",
                )
    if by_window:
        if numbers.limit is None or numbers.window is None:
            raise ConfigProblem("limit and window need each other", at=at)
        return Limit.windowed(numbers.limit, numbers.window, numbers.burst or 0)
    if numbers.tokens is None or numbers.refill is None:
        if by_tokens or numbers.burst is not None:
            raise ConfigProblem("tokens and refill need each other", at=at)
        hint = "give a class, tokens and refill, or limit and window"
        raise ConfigProblem("says no limit", at=at, hint=hint)
    return Limit.refilled(numbers.tokens, numbers.refill, numbers.burst or 0)
