"""Tables of upstreams.toml: timeouts, retries, limits and the queue before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.config.tables.declare import setting, table
from gateway.config.tables.health import SIGNS
from gateway.config.tables.schema import Choice, Duration, Items, Number, Size, Whole


@table
class TimeoutsConfig:
    """Times in seconds."""

    connect: float = setting(Duration(), default=5.0, doc="for a connection to come about")
    read: float = setting(
        Duration(zero=True), default=30.0, doc="between two bytes of the answer; 0 means no limit"
    )
    write: float = setting(
        Duration(zero=True),
        default=30.0,
        doc="between two bytes of the request that are taken; 0 means no limit",
    )
    tunnel: float = setting(
        Duration(),
        default=3600.0,
        doc="without a byte either way until a WebSocket is closed ([http.md](http.md#websocket))",
    )
    call: float = setting(
        Duration(),
        default=300.0,
        doc="without a byte either way until a call of gRPC is ended whose client may say more "
        "([grpc.md](grpc.md#deadlines))",
    )
    total: float | None = setting(
        Duration(), default=None, doc="for an exchange with its retries; none when left out"
    )


_GRPC = (
    "aborted",
    "cancelled",
    "deadline_exceeded",
    "internal",
    "resource_exhausted",
    "unavailable",
    "unknown",
)
GRPC_STATUSES = frozenset(_GRPC)
"""The statuses of gRPC in `retry.on`."""


@table
class RetryConfig:
    """How often a request is tried, and when. Times in seconds."""

    policy: str = setting(
        Choice("read", "idempotent_write", "write", "critical"),
        default="",
        doc="the defaults of the other keys",
    )
    attempts: int = setting(
        Whole(least=1, most=10), default=3, doc="in all, the first one included"
    )
    base_delay: float = setting(Duration(zero=True), default=0.1, doc="the wait after the first")
    max_delay: float = setting(
        Duration(zero=True), default=2.0, doc="the longest wait, with its jitter"
    )
    factor: float = setting(
        Number(least=1, most=10), default=2.0, doc="by which the wait grows each time"
    )
    jitter: float = setting(
        Number(least=0, most=1),
        default=0.3,
        doc="the largest share of a wait that chance adds to it",
    )
    on: tuple[str, ...] = setting(
        Items(Choice("500", "502", "503", "504", "connect", "reset", "timeout", *_GRPC)),
        default=SIGNS,
        doc="what is retried: statuses; `connect` no connection, `reset` it broke or the "
        "answer was no HTTP, `timeout` no answer in time; of calls of gRPC that fail at once, "
        "the names of their statuses ([grpc.md](grpc.md#retries))",
    )
    budget: float = setting(
        Number(least=0, most=1),
        default=0.2,
        doc="retries at a time, as a share of the requests under way; three are always "
        "allowed, and a burst when there was none for a while "
        "([docs/resilience.md](resilience.md#retries)). What was never sent (`connect`) "
        "goes to another endpoint outside of it",
    )
    max_body: int = setting(
        Size(),
        default=65536,
        doc="bodies of up to this are read before they are sent, so that they can be sent again",
    )
    keyed: bool = setting(
        default=False, doc="whether only requests with an Idempotency-Key are sent again"
    )

    @classmethod
    def of_toml(cls, given: Mapping[str, Any]) -> RetryConfig:
        """Make a config whose other keys are those of the policy."""
        return replace(POLICIES.get(given.get("policy", ""), cls()), **given)


POLICIES: dict[str, RetryConfig] = {
    "read": RetryConfig("read", attempts=4, base_delay=0.1, max_delay=2.0),
    "idempotent_write": RetryConfig(
        "idempotent_write", attempts=4, base_delay=0.2, max_delay=5.0, keyed=True
    ),
    "write": RetryConfig("write", attempts=1),
    "critical": RetryConfig("critical", attempts=2, base_delay=1.0, max_delay=1.3, on=("503",)),
}
"""What `policy` stands for, in an upstream's `retry` and as a route's `retry`."""


@table
class QueueConfig:
    """The queue for requests that find every endpoint full. Times in seconds."""

    size: int = setting(
        Whole(least=1), default=100, doc="requests that may wait; more are answered 503 at once"
    )
    timeout: float = setting(
        Duration(), default=1.0, doc="how long one may wait before it is answered 503"
    )


@table
class LimitConfig:
    """How many requests may be under way at a time."""

    requests: int = setting(Whole(least=1), doc="at a time, over all endpoints")
    adaptive: bool = setting(
        default=False,
        doc="let fewer through while answers are slow ([resilience.md](resilience.md#overload))",
    )
    minimum: int = setting(Whole(least=1), default=10, doc="the fewest")
