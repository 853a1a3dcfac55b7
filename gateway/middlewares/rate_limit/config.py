"""What a `rate_limit` table may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from gateway.config.tables.schema import (
    Boolean,
    Choice,
    Duration,
    FieldName,
    Items,
    Map,
    Network,
    Number,
    SubTable,
    Table,
    Text,
    Whole,
)
from gateway.limits.quotas import EVERY, PERIODS
from gateway.middlewares.rate_limit.keys import KeyField

MODES = ("exact", "leased")
ON_STORE_FAILURE = ("local_share", "open", "closed")


@dataclass(frozen=True, slots=True)
class ClassConfig:
    """A limit: `tokens`, `refill` a second and `burst` in any one second, or `limit` requests within `window` or a `period`.

    A `limit` of 0 refuses everything, for classes whose callers may not do it at all.
    """

    tokens: int | None = None
    refill: float | None = None
    burst: int | None = None
    limit: int | None = None
    window: float | None = None
    period: str | None = None


@dataclass(frozen=True, slots=True)
class ExemptConfig:
    """Who is not limited: any of these is enough."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    clients: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """Whose requests are counted (`key`), how (`algorithm`), and how many: a `class`, or the same numbers as a class has.

    tiers, roles: the class for callers of a tier or role; all others, and callers without an identity, have the `class` or the
    numbers. scope: "pipeline" or "route": where a caller's requests are counted together. costs: units by method.
    key_limits: whether callers whose API key has a limit of its own have that instead, each key by itself.
    mode, on_store_failure, lease: with a shared store, see docs/limits.md.
    """

    name: str = ""
    key: str | tuple[str, ...] = "client"
    algorithm: str = "token_bucket"
    class_: str = ""
    tiers: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    key_limits: bool = False
    scope: str = "pipeline"
    methods: tuple[str, ...] = ()
    costs: Mapping[str, int] = field(default_factory=dict)
    cost_header: str = ""
    exempt: ExemptConfig = ExemptConfig()
    shadow: bool = False
    time_zone: str = "UTC"
    mode: str = "exact"
    on_store_failure: str = "local_share"
    lease: float = 0.1
    tokens: int | None = None
    refill: float | None = None
    burst: int | None = None
    limit: int | None = None
    window: float | None = None
    period: str | None = None

    def numbers(self) -> ClassConfig:
        """The limit that stands in the rule itself."""
        return ClassConfig(self.tokens, self.refill, self.burst, self.limit, self.window, self.period)


@dataclass(frozen=True, slots=True)
class RateLimitConfig(RuleConfig):
    """A rule and what all rules share; further `rules` apply to the same requests, and none counts unless all have room.

    classes:  limits by name, for `class`, `tiers` and `roles`.
    message:  for refused clients, instead of the gateway's own words.
    max_keys: callers remembered at a time by each limit; beyond it those are forgotten that have most left.
    """

    classes: Mapping[str, ClassConfig] = field(default_factory=dict)
    rules: tuple[RuleConfig, ...] = ()
    message: str = ""
    max_keys: int = 1_000_000


class ClassTable(Table):
    makes = ClassConfig
    tokens = Whole(least=1, most=10**9)
    refill = Number(least=1e-6, most=1e9)
    burst = Whole(least=1, most=10**9)
    limit = Whole(least=0, most=10**9)
    window = Duration()
    period = Choice(*PERIODS)


class ExemptTable(Table):
    makes = ExemptConfig
    networks = Items(Network())
    clients = Items(Text())
    tiers = Items(Text())
    roles = Items(Text())


class RuleTable(Table):
    makes = RuleConfig
    name = Text()
    tokens = Whole(least=1, most=10**9)
    refill = Number(least=1e-6, most=1e9)
    burst = Whole(least=1, most=10**9)
    limit = Whole(least=0, most=10**9)
    window = Duration()
    period = Choice(*PERIODS)
    time_zone = Text()
    key = KeyField()
    algorithm = Choice(*EVERY)
    class_ = Text(data_key="class", attribute="class_")
    tiers = Map(keys=Text(), values=Text())
    roles = Map(keys=Text(), values=Text())
    key_limits = Boolean()
    scope = Choice("pipeline", "route")
    methods = Items(Text())
    costs = Map(keys=Text(), values=Whole(least=0, most=10**6))
    cost_header = FieldName()
    exempt = SubTable(ExemptTable)
    shadow = Boolean()
    mode = Choice(*MODES)
    on_store_failure = Choice(*ON_STORE_FAILURE)
    lease = Number(least=0.001, most=0.5)


class RateLimitTable(RuleTable):
    makes = RateLimitConfig
    classes = Map(keys=Text(), values=SubTable(ClassTable))
    rules = Items(SubTable(RuleTable))
    message = Text()
    max_keys = Whole(least=1)
