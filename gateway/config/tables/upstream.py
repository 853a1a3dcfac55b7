"""What `upstreams.toml` says: pools of endpoints and how to treat them. The tables in them stand in files of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from marshmallow import ValidationError, validates_schema

from gateway.config.tables.endpoints import (
    DiscoverConfig,
    DiscoverTable,
    EndpointConfig,
    EndpointTable,
    HashConfig,
    HashTable,
    UpstreamTlsConfig,
    UpstreamTlsTable,
)
from gateway.config.tables.health import (
    BreakerConfig,
    BreakerTable,
    HealthConfig,
    HealthTable,
    OutlierConfig,
    OutlierTable,
    PassiveHealthConfig,
    PassiveHealthTable,
)
from gateway.config.tables.schema import Boolean, Choice, Duration, FieldName, HttpUrl, Items, SubTable, Table, Text, Whole
from gateway.config.tables.traffic import (
    LimitConfig,
    LimitTable,
    QueueConfig,
    QueueTable,
    RetryConfig,
    RetryTable,
    TimeoutsConfig,
    TimeoutsTable,
)


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One pool. `health`, `passive_health`, `outlier`, `retry` and `circuit_breaker` are None without their table: then off.

    `on_empty` is what happens when no endpoint can be picked: "fail", or "try_all" of them whatever is known about them.
    `fallback` is the upstream that is asked instead when this one cannot be: no endpoint, circuit open, overloaded.
    `slow_start`: for so many seconds after it joins or recovers an endpoint's weight grows from a tenth to all of it.
    `deadline_header` tells endpoints how many milliseconds are left for the exchange, where there is a limit to it.
    `zone` is where this gateway stands: endpoints of other zones are picked only when none of this can be.

    `max_idle` connections are kept open per endpoint, each for at most `keepalive` seconds unused. `preserve_host` sends the
    client's Host on; otherwise the endpoint's own is sent.
    """

    endpoints: tuple[EndpointConfig, ...] = ()
    url: str = ""
    balance: str = "least_connections"
    health: HealthConfig | None = None
    passive_health: PassiveHealthConfig | None = None
    outlier: OutlierConfig | None = None
    timeouts: TimeoutsConfig = field(default_factory=TimeoutsConfig)
    retry: RetryConfig | None = None
    circuit_breaker: BreakerConfig | None = None
    max_idle: int = 256
    keepalive: float = 60.0
    preserve_host: bool = True
    tls: UpstreamTlsConfig | None = None
    on_empty: str = "fail"
    fallback: str = ""
    slow_start: float = 0.0
    zone: str = ""
    discover: DiscoverConfig | None = None
    hash: HashConfig = field(default_factory=HashConfig)
    queue: QueueConfig | None = None
    limit: LimitConfig | None = None
    deadline_header: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.url:
            object.__setattr__(self, "endpoints", (EndpointConfig(self.url), *self.endpoints))


class UpstreamTable(Table):
    makes = UpstreamConfig
    url = HttpUrl()
    endpoints = Items(SubTable(EndpointTable))
    balance = Choice("least_connections", "round_robin", "ip_hash", "hash", "random", "random_two")
    health = SubTable(HealthTable)
    passive_health = SubTable(PassiveHealthTable)
    outlier = SubTable(OutlierTable)
    timeouts = SubTable(TimeoutsTable)
    retry = SubTable(RetryTable)
    circuit_breaker = SubTable(BreakerTable)
    max_idle = Whole(least=0)
    keepalive = Duration()
    preserve_host = Boolean()
    tls = SubTable(UpstreamTlsTable)
    on_empty = Choice("fail", "try_all")
    fallback = Text()
    slow_start = Duration(zero=True)
    zone = Text(empty=True)
    discover = SubTable(DiscoverTable)
    hash = SubTable(HashTable)
    queue = SubTable(QueueTable)
    limit = SubTable(LimitTable)
    deadline_header = FieldName()

    @validates_schema
    def _hash(self, data: dict[str, Any], **_: Any) -> None:
        if ("hash" in data) != (data.get("balance") == "hash"):
            raise ValidationError('balance = "hash" and a hash table belong together', "hash")
