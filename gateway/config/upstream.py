"""What `upstreams.toml` says: pools of endpoints and how to treat them."""

from __future__ import annotations

from dataclasses import dataclass, field

from marshmallow import ValidationError, validates

from gateway.config.schema import (
    Boolean,
    Choice,
    Duration,
    FieldName,
    FieldValue,
    HttpUrl,
    Items,
    Map,
    Number,
    SubTable,
    Table,
    Text,
    Whole,
)


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One address. `weight` is relative to the others'; `max_connections` 0 means no limit."""

    url: str
    weight: int = 1
    max_connections: int = 0
    backup: bool = False


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Active checks: GET `path` every `interval` seconds (varied by `jitter`, a share of it) with `timeout` seconds each."""

    path: str = "/health"
    interval: float = 30.0
    timeout: float = 5.0
    unhealthy_threshold: int = 3
    healthy_threshold: int = 2
    status: tuple[int, ...] = (200,)
    jitter: float = 0.1
    host: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PassiveHealthConfig:
    """`max_fails` failures within `fail_timeout` seconds take an endpoint out for as long; 0 switches it off."""

    max_fails: int = 3
    fail_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class TimeoutsConfig:
    """Seconds: `connect` for a connection, `read` and `write` between two bytes of progress, `tunnel` in a tunnel."""

    connect: float = 5.0
    read: float = 30.0
    write: float = 30.0
    tunnel: float = 3600.0


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """`attempts` in all; waits double from `base_delay` to `max_delay` seconds; `budget` is the most retries per live request."""

    attempts: int = 3
    base_delay: float = 0.1
    max_delay: float = 2.0
    on: tuple[str, ...] = ("502", "503", "504", "connect", "reset", "timeout")
    budget: float = 0.2


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """Opens after `failure_threshold` failures in a row; after `recovery_timeout` seconds lets `half_open_requests` try."""

    failure_threshold: int = 5
    recovery_timeout: float = 30.0
    half_open_requests: int = 3


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One pool. `health`, `passive_health`, `retry` and `circuit_breaker` are None when their table is not there: then off.

    `max_idle` connections are kept open per endpoint, each for at most `keepalive` seconds unused. `preserve_host` sends the
    client's Host on; otherwise the endpoint's own is sent.
    """

    endpoints: tuple[EndpointConfig, ...] = ()
    url: str = ""
    balance: str = "least_connections"
    health: HealthConfig | None = None
    passive_health: PassiveHealthConfig | None = None
    timeouts: TimeoutsConfig = TimeoutsConfig()
    retry: RetryConfig | None = None
    circuit_breaker: BreakerConfig | None = None
    max_idle: int = 256
    keepalive: float = 60.0
    preserve_host: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        if self.url:
            object.__setattr__(self, "endpoints", (EndpointConfig(self.url), *self.endpoints))


class EndpointTable(Table):
    makes = EndpointConfig
    url = HttpUrl(required=True)
    weight = Whole(least=1, most=65535)
    max_connections = Whole(least=0)
    backup = Boolean()


class HealthTable(Table):
    makes = HealthConfig
    path = Text()
    interval = Duration()
    timeout = Duration()
    unhealthy_threshold = Whole(least=1)
    healthy_threshold = Whole(least=1)
    status = Items(Whole(least=100, most=599))
    jitter = Number(least=0, most=1)
    host = FieldValue()
    headers = Map(keys=FieldName(), values=FieldValue())

    @validates("path")
    def _path(self, value: str, data_key: str) -> None:
        if not value.startswith("/") or any(ord(letter) <= 32 or ord(letter) >= 127 for letter in value):
            raise ValidationError('must start with "/" and hold neither spaces nor letters outside ASCII')


class PassiveHealthTable(Table):
    makes = PassiveHealthConfig
    max_fails = Whole(least=0)
    fail_timeout = Duration()


class TimeoutsTable(Table):
    makes = TimeoutsConfig
    connect = Duration()
    read = Duration()
    write = Duration()
    tunnel = Duration()


class RetryTable(Table):
    makes = RetryConfig
    attempts = Whole(least=1, most=10)
    base_delay = Duration(zero=True)
    max_delay = Duration(zero=True)
    on = Items(Choice("500", "502", "503", "504", "connect", "reset", "timeout"))
    budget = Number(least=0, most=1)


class BreakerTable(Table):
    makes = BreakerConfig
    failure_threshold = Whole(least=1)
    recovery_timeout = Duration()
    half_open_requests = Whole(least=1)


class UpstreamTable(Table):
    makes = UpstreamConfig
    url = HttpUrl()
    endpoints = Items(SubTable(EndpointTable))
    balance = Choice("least_connections", "round_robin", "ip_hash", "random")
    health = SubTable(HealthTable)
    passive_health = SubTable(PassiveHealthTable)
    timeouts = SubTable(TimeoutsTable)
    retry = SubTable(RetryTable)
    circuit_breaker = SubTable(BreakerTable)
    max_idle = Whole(least=0)
    keepalive = Duration()
    preserve_host = Boolean()
