"""Tables of upstreams.toml: health checks, ejection and circuit breakers."""

from __future__ import annotations

from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import (
    Choice,
    Duration,
    FieldName,
    FieldValue,
    Items,
    Map,
    Number,
    Text,
    Whole,
)

SIGNS = ("502", "503", "504", "connect", "reset", "timeout")
"""What counts as a failure of an endpoint by default: statuses, and failures on the way."""


def _signs() -> Items:
    """What may count as a failure: statuses, and failures by their names in `retry.on`."""
    return Items(Choice("429", "500", "501", "502", "503", "504", "connect", "reset", "timeout"))


def _path(value: str) -> None:
    if not value.startswith("/") or any(
        ord(letter) <= 32 or ord(letter) >= 127 for letter in value
    ):
        raise ValidationError(
            'must start with "/" and hold neither spaces nor letters outside ASCII'
        )


def _headers(value: dict[str, str]) -> None:
    for name in value:
        if name.lower() in _NOT_SENT:
            raise ValidationError(
                f"{name} says how the message is framed, which is the gateway's to say"
            )


_NOT_SENT = frozenset(
    ("connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)


@table
class HealthConfig:
    """Active checks of every endpoint. Times in seconds."""

    type: str = setting(
        Choice("http", "tcp", "tls", "grpc"),
        default="http",
        doc="`tcp` is content with a connection, `tls` with a handshake (for https:// endpoints); "
        "`grpc` asks by grpc.health.v1, where `protocol` is HTTP/2",
    )
    path: str = setting(default="/health", check=_path, doc="what is asked with GET")
    service: str = setting(
        Text(empty=True),
        default="",
        doc="what `grpc` asks about; the server as a whole when left out",
    )
    interval: float = setting(Duration(), default=30.0, doc="between two checks of one endpoint")
    timeout: float = setting(Duration(), default=5.0, doc="for one check")
    unhealthy_threshold: int = setting(
        Whole(least=1), default=3, doc="failures in a row that take an endpoint out"
    )
    healthy_threshold: int = setting(
        Whole(least=1), default=2, doc="successes in a row that bring it back"
    )
    status: tuple[int, ...] = setting(
        Items(Whole(least=100, most=599)), default=(200,), doc="the statuses that count as success"
    )
    jitter: float = setting(
        Number(least=0, most=1),
        default=0.1,
        doc="the share of `interval` by which it varies, so that checks do not come at once",
    )
    body: str = setting(
        Text(empty=True), default="", doc="what the answer has to contain, in its first MiB"
    )
    unhealthy_interval: float | None = setting(
        Duration(),
        default=None,
        doc="between checks while one fails or the endpoint is out; `interval` when left out",
    )
    host: str = setting(
        FieldValue(), default="", doc="the Host header to send, when the endpoint's own will not do"
    )
    headers: dict[str, str] = setting(
        Map(keys=FieldName(), values=FieldValue()),
        default_factory=dict,
        check=_headers,
        doc="more headers to send; Host and User-Agent replace the gateway's",
    )

    def check(self) -> None:
        if self.service and self.type != "grpc":
            raise ValidationError('is for type = "grpc"', "service")


@table
class PassiveHealthConfig:
    """Takes an endpoint out of use when requests to it fail. Times in seconds."""

    max_fails: int = setting(
        Whole(least=0),
        default=3,
        doc="failed requests within `fail_timeout` that take an endpoint out; 0 switches it off",
    )
    fail_timeout: float = setting(
        Duration(),
        default=30.0,
        doc="the time in which they count, and for which the endpoint is out",
    )
    max_fail_timeout: float | None = setting(
        Duration(),
        default=None,
        doc="with it, each further time is longer by `fail_timeout`, up to this",
    )
    max_ejected: float = setting(
        Number(least=0, most=1),
        default=1.0,
        doc="the largest share of the endpoints that may be out by this at once; one always may",
    )
    on: tuple[str, ...] = setting(
        _signs(), default=SIGNS, doc="what counts as a failure, as in `retry`"
    )


def _latency(value: float) -> None:
    if 0 < value <= 1:
        raise ValidationError("must be more than 1, or 0 to leave time out of it")


@table
class OutlierConfig:
    """Compares endpoints with their peers by the requests they served. Times in seconds.

    A failure is a status from 500 on, or no answer. An endpoint is ejected when its share of
    failures or its mean time to an answer stands out; at most `max_ejected` of them at a time, but
    one always may be.
    """

    interval: float = setting(Duration(), default=10.0, doc="between two judgements")
    minimum_requests: int = setting(
        Whole(least=1), default=20, doc="an endpoint with fewer is not judged, and goes on counting"
    )
    failure_rate: float = setting(
        Number(least=0, most=1),
        default=0.2,
        doc="by how much its share of failures must exceed its peers'; 0 switches this off",
    )
    latency: float = setting(
        Number(least=0),
        default=3.0,
        check=_latency,
        doc="how many times the median of its peers' mean times its own must be; 0: never",
    )
    ejection_time: float = setting(
        Duration(),
        default=30.0,
        doc="how long it is out the first time; as much longer each time it happens again",
    )
    max_ejection_time: float = setting(Duration(), default=300.0, doc="the longest")
    max_ejected: float = setting(
        Number(least=0, most=1),
        default=0.3,
        doc="the largest share of endpoints that may be out by requests; one always may",
    )


@table
class BreakerConfig:
    """Stops sending requests to what fails. Times in seconds.

    It opens after `failure_threshold` failures in a row or, with `failure_rate`, at that share of
    failures within `window`.
    """

    failure_threshold: int = setting(
        Whole(least=0),
        default=5,
        doc="failures in a row that open it; 0 leaves it to `failure_rate`",
    )
    recovery_timeout: float = setting(
        Duration(), default=30.0, doc="how long it is open before some may try again"
    )
    half_open_requests: int = setting(
        Whole(least=1),
        default=3,
        doc="how many may try; when all succeed it closes, when one fails it opens again",
    )
    failure_rate: float | None = setting(
        Number(least=0.01, most=1),
        default=None,
        doc="the share of failures within `window` that opens it; not watched when left out",
    )
    window: float = setting(Duration(), default=10.0, doc="the time `failure_rate` is taken over")
    minimum_requests: int = setting(
        Whole(least=1), default=20, doc="with fewer within `window` the rate opens nothing"
    )
    on: tuple[str, ...] = setting(
        _signs(), default=SIGNS, doc="what counts as a failure, as in `retry`"
    )
    scope: str = setting(
        Choice("upstream", "endpoint"),
        default="upstream",
        doc="one for all, or one for each endpoint, which is left out while its own is open",
    )

    def check(self) -> None:
        if self.failure_threshold == 0 and self.failure_rate is None:
            raise ValidationError(
                "is 0 and there is no failure_rate: it would never open", "failure_threshold"
            )
