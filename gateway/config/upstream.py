"""What `upstreams.toml` says: pools of endpoints and how to treat them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from marshmallow import ValidationError, post_load, validates, validates_schema

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
    Size,
    SubTable,
    Table,
    Text,
    Whole,
)
from gateway.config.sources import plain

SIGNS = ("502", "503", "504", "connect", "reset", "timeout")
"""By what a request shows that an endpoint cannot: statuses it answers, and failures on the way to it and back."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One address. `weight` is relative to the others'; `max_connections` 0 means no limit.

    With `weight` 0 or `drain` it finishes what it has and gets nothing new. `zone` is where it stands.
    """

    url: str
    weight: int = 1
    max_connections: int = 0
    backup: bool = False
    drain: bool = False
    zone: str = ""


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Active checks: GET `path` every `interval` seconds (varied by `jitter`, a share of it) with `timeout` seconds each.

    `type` "tcp" is content with a connection, "tls" with a handshake. `body` is what an answer has to contain.
    `unhealthy_interval` holds instead of `interval` while an endpoint is not healthy; None when there is no such difference.
    """

    type: str = "http"
    path: str = "/health"
    interval: float = 30.0
    timeout: float = 5.0
    unhealthy_threshold: int = 3
    healthy_threshold: int = 2
    status: tuple[int, ...] = (200,)
    jitter: float = 0.1
    body: str = ""
    unhealthy_interval: float | None = None
    host: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PassiveHealthConfig:
    """`max_fails` failures within `fail_timeout` seconds take an endpoint out for as long; 0 switches it off.

    With `max_fail_timeout` every further time is longer by `fail_timeout`, up to so many seconds. At most `max_ejected`, a share
    of the endpoints, are out by this at once. `on` is what counts as a failure.
    """

    max_fails: int = 3
    fail_timeout: float = 30.0
    max_fail_timeout: float | None = None
    max_ejected: float = 1.0
    on: tuple[str, ...] = SIGNS


@dataclass(frozen=True, slots=True)
class OutlierConfig:
    """Compares endpoints with their peers, every `interval` seconds, by what at least `minimum_requests` each have shown.

    One is ejected when its share of failures (statuses from 500 on, no answer) is higher than its peers' by `failure_rate`, or
    its mean time to an answer is `latency` times the median of theirs; 0 switches either off. The first time it is out for
    `ejection_time` seconds, then for as many more each time, up to `max_ejection_time`. At most `max_ejected`, a share of the
    endpoints, are ejected at once, but one always may be.
    """

    interval: float = 10.0
    minimum_requests: int = 20
    failure_rate: float = 0.2
    latency: float = 3.0
    ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    max_ejected: float = 0.3


@dataclass(frozen=True, slots=True)
class TimeoutsConfig:
    """Seconds: `connect` for a connection, `read` and `write` between two bytes of progress, `tunnel` without
    any in either way, `total` for all of an exchange, retries included; None for no such limit.
    """

    connect: float = 5.0
    read: float = 30.0
    write: float = 30.0
    tunnel: float = 3600.0
    total: float | None = None


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """`attempts` in all; waits grow by `factor` from `base_delay` to `max_delay` seconds, chance adds up to `jitter`, a share.

    `budget` is the most retries per live request. Bodies of up to `max_body` bytes are read before they are sent, so that they
    can be sent again. `keyed` allows another attempt only to requests with an Idempotency-Key. `policy` names the defaults.
    """

    policy: str = ""
    attempts: int = 3
    base_delay: float = 0.1
    max_delay: float = 2.0
    factor: float = 2.0
    jitter: float = 0.3
    on: tuple[str, ...] = SIGNS
    budget: float = 0.2
    max_body: int = 65536
    keyed: bool = False


POLICIES: dict[str, RetryConfig] = {
    "read": RetryConfig("read", attempts=4, base_delay=0.1, max_delay=2.0),
    "idempotent_write": RetryConfig("idempotent_write", attempts=4, base_delay=0.2, max_delay=5.0, keyed=True),
    "write": RetryConfig("write", attempts=1),
    "critical": RetryConfig("critical", attempts=2, base_delay=1.0, max_delay=1.3, on=("503",)),
}
"""What `policy` stands for, in an upstream's `retry` and as a route's `retry`."""


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """Opens after `failure_threshold` failures in a row; after `recovery_timeout` seconds lets `half_open_requests` try.

    With `failure_rate` it also opens when that share of the last `window` seconds' requests failed, if there were at least
    `minimum_requests`; a threshold of 0 leaves it at that. `on` is what counts as a failure. `scope` says what one breaker is
    for: the whole "upstream", or each "endpoint" for itself.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 30.0
    half_open_requests: int = 3
    failure_rate: float | None = None
    window: float = 10.0
    minimum_requests: int = 20
    on: tuple[str, ...] = SIGNS
    scope: str = "upstream"


@dataclass(frozen=True, slots=True)
class UpstreamTlsConfig:
    """TLS towards endpoints whose URL says https. Paths are relative to the file the table stands in.

    verify: whether they have to prove who they are, to `ca` (the system's authorities without one), as `server_name` (the host of
    their URL without one). certificate, key: what the gateway shows when it is asked.
    """

    verify: bool = True
    ca: str = ""
    server_name: str = ""
    certificate: str = ""
    key: str = ""
    min_version: str = "1.2"


@dataclass(frozen=True, slots=True)
class DiscoverConfig:
    """Where further endpoints come from, looked at every `every` seconds: a watched `file`, environment variables `env` (a name,
    "*" for any letters), `dns` ("host:port", every address of it; "_service._tcp.name", its SRV records; with `scheme`), and with
    `api` the admin API.
    """

    file: str = ""
    env: str = ""
    dns: str = ""
    api: bool = False
    every: float = 10.0
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class HashConfig:
    """What balance "hash" goes by: a `header`'s value or a `cookie`'s; the client's address where the request has none."""

    header: str = ""
    cookie: str = ""


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Requests that find every endpoint full wait: at most `size` of them, each for at most `timeout` seconds."""

    size: int = 100
    timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """At most `requests` under way at a time; `adaptive` lowers that, down to `minimum`, while answers take longer than usual."""

    requests: int
    adaptive: bool = False
    minimum: int = 10


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
    timeouts: TimeoutsConfig = TimeoutsConfig()
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
    hash: HashConfig = HashConfig()
    queue: QueueConfig | None = None
    limit: LimitConfig | None = None
    deadline_header: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.url:
            object.__setattr__(self, "endpoints", (EndpointConfig(self.url), *self.endpoints))


class EndpointTable(Table):
    makes = EndpointConfig
    url = HttpUrl(required=True)
    weight = Whole(least=0, most=65535)
    max_connections = Whole(least=0)
    backup = Boolean()
    drain = Boolean()
    zone = Text(empty=True)


class HealthTable(Table):
    makes = HealthConfig
    type = Choice("http", "tcp", "tls")
    path = Text()
    interval = Duration()
    timeout = Duration()
    unhealthy_threshold = Whole(least=1)
    healthy_threshold = Whole(least=1)
    status = Items(Whole(least=100, most=599))
    jitter = Number(least=0, most=1)
    body = Text(empty=True)
    unhealthy_interval = Duration()
    host = FieldValue()
    headers = Map(keys=FieldName(), values=FieldValue())

    @validates("path")
    def _path(self, value: str, data_key: str) -> None:
        if not value.startswith("/") or any(ord(letter) <= 32 or ord(letter) >= 127 for letter in value):
            raise ValidationError('must start with "/" and hold neither spaces nor letters outside ASCII')


def _signs() -> Items:
    """What may count as a failure: statuses, and failures by their names in `retry.on`."""
    return Items(Choice("429", "500", "501", "502", "503", "504", "connect", "reset", "timeout"))


class PassiveHealthTable(Table):
    makes = PassiveHealthConfig
    max_fails = Whole(least=0)
    fail_timeout = Duration()
    max_fail_timeout = Duration()
    max_ejected = Number(least=0, most=1)
    on = _signs()


class OutlierTable(Table):
    makes = OutlierConfig
    interval = Duration()
    minimum_requests = Whole(least=1)
    failure_rate = Number(least=0, most=1)
    latency = Number(least=0)
    ejection_time = Duration()
    max_ejection_time = Duration()
    max_ejected = Number(least=0, most=1)

    @validates("latency")
    def _latency(self, value: float, data_key: str) -> None:
        if 0 < value <= 1:
            raise ValidationError("must be more than 1, or 0 to leave time out of it")


class TimeoutsTable(Table):
    makes = TimeoutsConfig
    connect = Duration()
    read = Duration()
    write = Duration()
    tunnel = Duration()
    total = Duration()


class RetryTable(Table):
    makes = RetryConfig
    policy = Choice(*POLICIES)
    attempts = Whole(least=1, most=10)
    base_delay = Duration(zero=True)
    max_delay = Duration(zero=True)
    factor = Number(least=1, most=10)
    jitter = Number(least=0, most=1)
    on = Items(Choice("500", "502", "503", "504", "connect", "reset", "timeout"))
    budget = Number(least=0, most=1)
    max_body = Size()
    keyed = Boolean()

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> RetryConfig:
        return replace(POLICIES.get(data.get("policy", ""), RetryConfig()), **{key: plain(value) for key, value in data.items()})


class BreakerTable(Table):
    makes = BreakerConfig
    failure_threshold = Whole(least=0)
    recovery_timeout = Duration()
    half_open_requests = Whole(least=1)
    failure_rate = Number(least=0.01, most=1)
    window = Duration()
    minimum_requests = Whole(least=1)
    on = _signs()
    scope = Choice("upstream", "endpoint")

    @validates_schema
    def _something(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("failure_threshold") == 0 and "failure_rate" not in data:
            raise ValidationError("is 0 and there is no failure_rate: it would never open", "failure_threshold")


class UpstreamTlsTable(Table):
    makes = UpstreamTlsConfig
    verify = Boolean()
    ca = Text()
    server_name = Text()
    certificate = Text()
    key = Text()
    min_version = Choice("1.2", "1.3")


class DiscoverTable(Table):
    makes = DiscoverConfig
    file = Text()
    env = Text()
    dns = Text()
    api = Boolean()
    every = Duration()
    scheme = Choice("http", "https")

    @validates("dns")
    def _dns(self, value: str, data_key: str) -> None:
        host, _, port = value.rpartition(":")
        if value.startswith("_") and not host and all(0 < len(label) < 64 for label in value.rstrip(".").split(".")):
            return  # Records of a service name their ports themselves.
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValidationError('must be a name and a port, such as "cameras.internal:3001", or a service, "_http._tcp.name"')

    @validates_schema
    def _somewhere(self, data: dict[str, Any], **_: Any) -> None:
        if not (data.keys() & {"file", "env", "dns"} or data.get("api")):
            raise ValidationError("names no source: file, env, dns, or api = true")


class HashTable(Table):
    makes = HashConfig
    header = FieldName()
    cookie = FieldName()

    @validates_schema
    def _one(self, data: dict[str, Any], **_: Any) -> None:
        if len(data) != 1:
            raise ValidationError("needs either header or cookie")


class QueueTable(Table):
    makes = QueueConfig
    size = Whole(least=1)
    timeout = Duration()


class LimitTable(Table):
    makes = LimitConfig
    requests = Whole(least=1, required=True)
    adaptive = Boolean()
    minimum = Whole(least=1)


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
