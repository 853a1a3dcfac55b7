"""What a `rate_limit` table may say."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import ClassVar

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import (
    Choice,
    Duration,
    FieldName,
    Items,
    Map,
    Network,
    Number,
    Text,
    Whole,
)
from gateway.limits.quotas import ALL_ALGORITHMS, PERIODS
from gateway.middlewares.rate_limit.keys import KeyField

MODES = ("exact", "leased")
ON_STORE_FAILURE = ("local_share", "open", "closed")


@table
class ClassConfig:
    """A limit: `tokens`, `refill` and `burst`, or `limit` within `window` or a `period`."""

    ALTERNATIVES: ClassVar[tuple[frozenset[str], ...]] = (
        frozenset(("tokens", "refill", "burst")),
        frozenset(("limit", "window", "period", "burst")),
    )

    tokens: int | None = setting(
        Whole(least=1, most=10**9), default=None, doc="the bucket's capacity"
    )
    refill: float | None = setting(
        Number(least=1e-6, most=1e9), default=None, doc="tokens a second"
    )
    burst: int | None = setting(
        Whole(least=1, most=10**9), default=None, doc="at most this many in any one second"
    )
    limit: int | None = setting(
        Whole(least=0, most=10**9),
        default=None,
        doc="requests within `window` or `period`, or at a time (`concurrency`); 0 refuses all",
    )
    window: float | None = setting(Duration(), default=None, doc="the time in which `limit` counts")
    period: str | None = setting(
        Choice(*PERIODS),
        default=None,
        doc="of a `quota`: the calendar period in which `limit` counts",
    )


@table
class ExemptConfig:
    """Which callers are not limited: any of these is enough."""

    networks: tuple[IPv4Network | IPv6Network, ...] = setting(
        Items(Network()), default=(), doc="the client's address"
    )
    clients: tuple[str, ...] = setting(default=(), doc="authenticated clients")
    tiers: tuple[str, ...] = setting(default=(), doc="their tiers")
    roles: tuple[str, ...] = setting(default=(), doc="any of their roles")


@table
class RuleConfig(ClassConfig):
    """Whose requests are counted, how, and how many may pass: a class, or numbers of its own."""

    ALTERNATIVES: ClassVar[tuple[frozenset[str], ...]] = (
        frozenset(("class",)),
        *ClassConfig.ALTERNATIVES,
    )

    name: str = setting(
        default="",
        doc="what clients see where no class names the limit; the words of `key` when left out",
    )
    key: str | tuple[str, ...] = setting(
        KeyField(),
        default="client",
        doc="who shares a bucket: `client` the authenticated client, `user` its user, `ip` "
        "the address (of IPv6 the /64), `global` all callers, `route` all callers of a route,"
        " or the value of `header:NAME`, `claim:NAME`, `param:NAME` (of a path template),"
        " `body:NAME` (of a JSON body); an array is the combination. What a request does "
        "not have is replaced by its address, a claim that an identity does not have by its user",
    )
    algorithm: str = setting(
        Choice(*ALL_ALGORITHMS),
        default="token_bucket",
        doc="how requests are counted, see [limits.md](limits.md)",
    )
    class_: str = setting(default="", name="class", doc="the name of the class that limits here")
    tiers: Mapping[str, str] = setting(
        default_factory=dict,
        doc='the class for callers of a tier, by tier: `tiers.premium = "large"`',
    )
    roles: Mapping[str, str] = setting(
        default_factory=dict, doc="likewise by role; the first in the table that the caller has"
    )
    key_limits: bool = setting(
        default=False,
        doc="a key's own limit goes first ([guide](limits.md#limits-that-keys-bring-along))",
    )
    scope: str = setting(
        Choice("pipeline", "route"),
        default="pipeline",
        doc="`route` counts every route (path template) apart, `pipeline` all together",
    )
    methods: tuple[str, ...] = setting(
        default=(), doc="the methods that are limited; all when left out"
    )
    costs: Mapping[str, int] = setting(
        Map(keys=Text(), values=Whole(least=0, most=10**6)),
        default_factory=dict,
        doc='units by method: `costs = { GET = 0, POST = 2, "*" = 4 }`; 1 when left out',
    )
    cost_header: str = setting(
        FieldName(),
        default="",
        doc="a header in which answers say what a request has cost; it is removed",
    )
    exempt: ExemptConfig = setting(default=ExemptConfig(), doc="who is not limited")
    shadow: bool = setting(
        default=False,
        doc="only count, and say in log (`reason`) and metrics what would have been refused",
    )
    time_zone: str = setting(default="UTC", doc='whose calendar, e.g. `"Europe/Berlin"`')
    mode: str | None = setting(
        Choice(*MODES),
        default=None,
        doc="with a shared store or several workers: asked for every request, or shares of the "
        "limit taken ahead. When left out `exact` with a store, `leased` with workers alone "
        "where that is possible and cheaper",
    )
    on_store_failure: str = setting(
        Choice(*ON_STORE_FAILURE),
        default="local_share",
        doc="while the store does not answer: this gateway's part of the limit, no limit, or 503",
    )
    lease: float = setting(
        Number(least=0.001, most=0.5),
        default=0.1,
        doc="of a leased limit: the part that gateways may have taken ahead, or owe, together",
    )

    def numbers(self) -> ClassConfig:
        """The limit that stands in the rule itself."""
        return ClassConfig(
            self.tokens, self.refill, self.burst, self.limit, self.window, self.period
        )


@table
class RateLimitConfig(RuleConfig):
    """A rule, and what all rules share; a request passes when all of them have room."""

    classes: Mapping[str, ClassConfig] = setting(
        default_factory=dict, doc="`[rate_limit.classes.NAME]`"
    )
    rules: tuple[RuleConfig, ...] = setting(
        default=(), doc="further limits: `[[rate_limit.rules]]`"
    )
    message: str = setting(default="", doc="the detail that refused clients read")
    max_keys: int = setting(
        Whole(least=1),
        default=1_000_000,
        doc="callers remembered by each limit; those with most left are forgotten first",
    )
