"""How long, how often and how many, as `upstreams.toml` says it: timeouts, retries, limits and the queue before them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from marshmallow import post_load

from gateway.config.tables.health import SIGNS
from gateway.config.tables.schema import Boolean, Choice, Duration, Items, Number, Size, Table, Whole
from gateway.config.toml.sources import plain


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


class TimeoutsTable(Table):
    makes = TimeoutsConfig
    connect = Duration()
    read = Duration()
    write = Duration()
    tunnel = Duration()
    total = Duration()


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


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Requests that find every endpoint full wait: at most `size` of them, each for at most `timeout` seconds."""

    size: int = 100
    timeout: float = 1.0


class QueueTable(Table):
    makes = QueueConfig
    size = Whole(least=1)
    timeout = Duration()


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """At most `requests` under way at a time; `adaptive` lowers that, down to `minimum`, while answers take longer than usual."""

    requests: int
    adaptive: bool = False
    minimum: int = 10


class LimitTable(Table):
    makes = LimitConfig
    requests = Whole(least=1, required=True)
    adaptive = Boolean()
    minimum = Whole(least=1)
