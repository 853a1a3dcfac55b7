"""What takes an endpoint or an upstream out of use, as `upstreams.toml` says it: checks, failures, peers, circuit breakers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from marshmallow import ValidationError, validates, validates_schema

from gateway.config.tables.schema import Choice, Duration, FieldName, FieldValue, Items, Map, Number, Table, Text, Whole

SIGNS = ("502", "503", "504", "connect", "reset", "timeout")
"""By what a request shows that an endpoint cannot: statuses it answers, and failures on the way to it and back."""


def _signs() -> Items:
    """What may count as a failure: statuses, and failures by their names in `retry.on`."""
    return Items(Choice("429", "500", "501", "502", "503", "504", "connect", "reset", "timeout"))


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


class PassiveHealthTable(Table):
    makes = PassiveHealthConfig
    max_fails = Whole(least=0)
    fail_timeout = Duration()
    max_fail_timeout = Duration()
    max_ejected = Number(least=0, most=1)
    on = _signs()


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
