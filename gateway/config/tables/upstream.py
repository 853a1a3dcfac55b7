"""`[upstream.NAME]`: a pool of endpoints. The tables below it stand in modules of their own."""

from __future__ import annotations

from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.endpoints import (
    DiscoverConfig,
    EndpointConfig,
    HashConfig,
    UpstreamTlsConfig,
)
from gateway.config.tables.health import (
    BreakerConfig,
    HealthConfig,
    OutlierConfig,
    PassiveHealthConfig,
)
from gateway.config.tables.schema import Choice, Duration, EndpointUrl, FieldName, Text, Whole
from gateway.config.tables.traffic import LimitConfig, QueueConfig, RetryConfig, TimeoutsConfig


@table
class UpstreamConfig:
    """One pool of endpoints. Times in seconds.

    `health`, `passive_health`, `outlier`, `retry` and `circuit_breaker` are None without their
    table: then they are off.
    """

    endpoints: tuple[EndpointConfig, ...] = setting(
        default=(), doc="the addresses: `[[upstream.NAME.endpoints]]`"
    )
    url: str = setting(
        EndpointUrl(), default="", doc="one endpoint, in short; put in front of `endpoints`"
    )
    protocol: str = setting(
        Choice("http1", "h2", "h2c", "auto"),
        default="http1",
        doc="what its endpoints speak: `h2` HTTP/2 over TLS, `h2c` HTTP/2 in clear text, `auto`"
        " what an https:// endpoint chooses (ALPN); HTTP/2 needs the extra `http2`"
        " ([grpc.md](grpc.md))",
    )
    balance: str = setting(
        Choice("least_connections", "round_robin", "ip_hash", "hash", "random", "random_two"),
        default="least_connections",
        doc="`least_connections` picks the smallest (in flight + 1) / weight (of more than 20"
        " endpoints the smallest of 20, others each time), `random_two` that of two taken"
        " by chance; `ip_hash` keeps a client's address on one endpoint, `hash` what its "
        "table names; all of them are weighted",
    )
    health: HealthConfig | None = setting(
        default=None, doc="active checks: `[upstream.NAME.health]`"
    )
    passive_health: PassiveHealthConfig | None = setting(
        default=None, doc="what failing requests say: `[upstream.NAME.passive_health]`"
    )
    outlier: OutlierConfig | None = setting(
        default=None, doc="what stands out among its peers: `[upstream.NAME.outlier]`"
    )
    timeouts: TimeoutsConfig = setting(default=TimeoutsConfig(), doc="`[upstream.NAME.timeouts]`")
    retry: RetryConfig | None = setting(default=None, doc="`[upstream.NAME.retry]`")
    circuit_breaker: BreakerConfig | None = setting(
        default=None, doc="`[upstream.NAME.circuit_breaker]`"
    )
    max_idle: int = setting(
        Whole(least=0), default=256, doc="connections kept open per endpoint while unused"
    )
    keepalive: float = setting(Duration(), default=60.0, doc="how long one of them may stay unused")
    preserve_host: bool = setting(
        default=True, doc="whether the client's Host is sent on; otherwise the endpoint's own"
    )
    tls: UpstreamTlsConfig | None = setting(
        default=None, doc="`[upstream.NAME.tls]`, for endpoints whose URL says https"
    )
    on_empty: str = setting(
        Choice("fail", "try_all"),
        default="fail",
        doc="when no endpoint can be picked: answer 503, or pick among all of them whatever "
        "is known (gateway_upstream_try_all is 1 meanwhile)",
    )
    fallback: str = setting(
        default="",
        doc="an upstream to ask when this one has no endpoint, is full or its circuit is open",
    )
    slow_start: float = setting(
        Duration(zero=True),
        default=0.0,
        doc="for so long the weight of an endpoint that joins or recovers grows from a tenth",
    )
    zone: str = setting(
        Text(empty=True),
        default="",
        doc='where this gateway stands, e.g. `"${ZONE:-}"`: endpoints of other zones are '
        "picked only when none of this one can be",
    )
    discover: DiscoverConfig | None = setting(
        default=None, doc="further endpoints: `[upstream.NAME.discover]`"
    )
    hash: HashConfig = setting(
        default=HashConfig(), doc='for `balance = "hash"`: `[upstream.NAME.hash]`'
    )
    queue: QueueConfig | None = setting(
        default=None,
        doc="whether requests wait when every endpoint is full: `[upstream.NAME.queue]`",
    )
    limit: LimitConfig | None = setting(
        default=None, doc="requests at a time: `[upstream.NAME.limit]`"
    )
    deadline_header: str = setting(
        FieldName(),
        default="",
        doc="a header that tells endpoints the milliseconds left for the exchange, where the "
        "route's `timeout` or `timeouts.total` limits it",
    )
    name: str = ""

    def __post_init__(self) -> None:
        if self.url:
            object.__setattr__(self, "endpoints", (EndpointConfig(self.url), *self.endpoints))

    def check(self) -> None:
        if (self.hash != HashConfig()) != (self.balance == "hash"):
            raise ValidationError('balance = "hash" and a hash table belong together', "hash")
