"""Everything that can go wrong with a request, as one enum and one exception.

A foreign exception (OSError, a parser's error, a timeout) is mapped to a `Failure` in exactly one
place, where it is caught; from there on only `Failed` travels. `asyncio.CancelledError` is never
mapped: it passes through.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

Retry = Literal["connect", "reset", "timeout"]
"""The names a `retry.on` list uses for failures that are not a status of the upstream's."""

NO_FACTS: Mapping[str, Any] = MappingProxyType({})
"""Of a failure that states none."""


class Failure(enum.Enum):
    """One kind of failure: `code` and `status` are the client's, the rest the gateway's own.

    proxy_error: the RFC 9209 section 2.3 error type for Proxy-Status, or None when the gateway is
                 not to blame anyone.
    level:       what the gateway's own log calls it ("debug", "info", "warning", "error").
    retry:       the name under which `retry.on` may allow another attempt, or None when it never
                 may.
    blames:      whether it counts against the endpoint's health and the upstream's breaker.
    """

    # The request itself is at fault.
    MALFORMED = ("VAL_001", 400, "Malformed request")
    MISSING_FIELD = ("VAL_002", 422, "Missing field")
    INVALID_FIELD = ("VAL_003", 422, "Invalid value")
    BODY_TOO_LARGE = ("VAL_004", 413, "Request body too large")
    URI_TOO_LONG = ("VAL_005", 414, "Request target too long")
    UNSUPPORTED_MEDIA_TYPE = ("VAL_006", 415, "Unsupported media type")
    HEADERS_TOO_LARGE = ("VAL_007", 431, "Request headers too large")
    REQUEST_TIMEOUT = ("VAL_008", 408, "Request took too long to arrive")
    EXPECTATION_FAILED = ("VAL_009", 417, "Expectation failed")
    VERSION_NOT_SUPPORTED = ("VAL_010", 505, "HTTP version not supported")
    NO_ROUTE = ("ROUTE_001", 404, "No such route")
    METHOD_NOT_ALLOWED = ("ROUTE_002", 405, "Method not allowed")
    GONE = ("ROUTE_003", 410, "Version retired")
    NOT_ACCEPTABLE = ("ROUTE_004", 406, "Not acceptable")
    VERSION_REQUIRED = ("ROUTE_005", 400, "Version required")
    # Who is calling, and how often.
    UNAUTHENTICATED = ("AUTH_001", 401, "Authentication required")
    EXPIRED = ("AUTH_002", 401, "Credentials expired")
    FORBIDDEN = ("AUTH_003", 403, "Insufficient permissions")
    SUBSCRIPTION_REQUIRED = ("AUTH_003", 403, "Subscription required")
    RATE_LIMITED = ("RATE_001", 429, "Rate limit exceeded")
    QUOTA_EXCEEDED = ("RATE_002", 403, "Quota used up")
    LIMITS_UNKNOWN = ("RATE_003", 503, "Limits cannot be checked")
    # The upstream, or the way to it. Proxy-Status error types: RFC 9209 section 2.3.
    NO_ENDPOINT = ("SVC_001", 503, "Service unavailable", "destination_unavailable", "warning")
    CIRCUIT_OPEN = ("SVC_001", 503, "Service unavailable", "destination_unavailable", "warning")
    OVERLOADED = ("SVC_001", 503, "Service overloaded", "connection_limit_reached", "warning")
    CONNECT_FAILED = (
        "SVC_004",
        502,
        "Bad gateway",
        "connection_refused",
        "warning",
        "connect",
        True,
    )
    DNS_FAILED = ("SVC_004", 502, "Bad gateway", "dns_error", "warning", "connect", True)
    TLS_FAILED = ("SVC_004", 502, "Bad gateway", "tls_protocol_error", "warning", "connect", True)
    NOT_RECEIVED = (
        "SVC_004",
        502,
        "Bad gateway",
        "connection_terminated",
        "warning",
        "connect",
        True,
    )
    CONNECTION_RESET = (
        "SVC_004",
        502,
        "Bad gateway",
        "connection_terminated",
        "warning",
        "reset",
        True,
    )
    BAD_RESPONSE = ("SVC_004", 502, "Bad gateway", "http_protocol_error", "warning", "reset", True)
    INCOMPLETE_RESPONSE = (
        "SVC_004",
        502,
        "Bad gateway",
        "http_response_incomplete",
        "warning",
        "reset",
        True,
    )
    CONNECT_TIMEOUT = (
        "SVC_003",
        504,
        "Upstream timeout",
        "connection_timeout",
        "warning",
        "connect",
        True,
    )
    READ_TIMEOUT = (
        "SVC_003",
        504,
        "Upstream timeout",
        "connection_read_timeout",
        "warning",
        "timeout",
        True,
    )
    WRITE_TIMEOUT = (
        "SVC_003",
        504,
        "Upstream timeout",
        "connection_write_timeout",
        "warning",
        "timeout",
        True,
    )
    TIMEOUT = (
        "SVC_003",
        504,
        "Upstream timeout",
        "http_response_timeout",
        "warning",
        "timeout",
        True,
    )
    # A client's own deadline (grpc-timeout) says nothing about the endpoint.
    DEADLINE_EXCEEDED = ("SVC_003", 504, "Deadline exceeded", "http_response_timeout")
    # RFC 9111 section 5.2.1.7: asked for with only-if-cached, and not stored.
    NOT_CACHED = ("CACHE_001", 504, "Not in the cache")
    # The gateway itself, and a client that left before its answer (499 is nginx's word, for the log
    # only).
    INTERNAL = ("SVC_002", 500, "Internal error", "proxy_internal_error", "error")
    CLIENT_GONE = ("CLIENT_001", 499, "Client closed the connection", None, "debug")

    def __init__(
        self,
        code: str,
        status: int,
        title: str,
        proxy_error: str | None = None,
        level: str = "info",
        retry: Retry | None = None,
        blames: bool = False,
    ) -> None:
        self.code = code
        self.status = status
        self.title = title
        self.proxy_error = proxy_error
        self.level = level
        self.retry = retry
        self.blames = blames
        self.reason = self._name_.lower()
        """The word for the access log's `reason` and the `reason` label of gateway_failures_total.
        """

    # Enum members are singletons; without this their tuple values make MALFORMED-like twins aliases
    # of each other.
    def __new__(cls, *values: object) -> Failure:
        member = object.__new__(cls)
        member._value_ = len(cls.__members__) + 1
        return member


@dataclass(frozen=True, slots=True)
class OwnFailure:
    """A kind of failure of an operator's own middleware: what `Context.failure` returns.

    It has what a Failure has. It never blames an upstream, and no other attempt is made for it.
    """

    code: str
    status: int
    title: str
    reason: str = ""
    proxy_error: ClassVar[None] = None
    level: ClassVar[str] = "info"
    retry: ClassVar[None] = None
    blames: ClassVar[bool] = False


_OWN_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")


def own_failure(code: str, status: int, title: str) -> OwnFailure:
    """Return a kind of failure with a code and a status of one's own.

    The code is in the body, and in lower case the `reason` of logs and metrics. Raises ValueError.
    """
    if not _OWN_CODE.fullmatch(code):
        raise ValueError(f"a failure's code is capitals, digits and _, not {code!r}")
    if failures_called(code) or failures_called(code.lower()):
        raise ValueError(f"{code} is a failure of the gateway's own")
    if not 400 <= status <= 599:
        raise ValueError(f"a failure's status is from 400 to 599, not {status}")
    return OwnFailure(code, status, title, code.lower())


def failures_called(word: str) -> tuple[Failure, ...]:
    """Return the failures with a code ("SVC_003") or a reason ("read_timeout").

    None for an unknown word.
    """
    return tuple(failure for failure in Failure if word in (failure.code, failure.reason))


def failure_words() -> list[str]:
    """Every code and reason there is."""
    return sorted({failure.code for failure in Failure} | {failure.reason for failure in Failure})


class Failed(Exception):
    """A request that failed; answered by the pipeline's error hooks.

    detail:  one sentence for the client; nothing internal in it.
    headers: raw pairs to add to the error's reply, e.g. Retry-After, Allow, WWW-Authenticate.
    errors:  for 422, one `{"field", "code", "message"}` each.
    facts:   values for clients by name (core.problems.FACTS): limit, required_tier ...
    why:     for operators only (the log, `gateway why`, `explain`), never for the client: which
             rule decided, and the value that it did not allow.
    by:      the name of the hook that decided, "" when the gateway itself did.
    at:      the key that decided, below the hook's table; below the upstream's once one was asked,
             else in gateway.toml, as ("server", "max_body").
    client:  whose credentials were refused, where they name a client all the same.
    """

    __slots__ = ("at", "by", "client", "detail", "errors", "facts", "failure", "headers", "why")

    def __init__(
        self,
        failure: Failure | OwnFailure,
        detail: str = "",
        *,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        errors: list[dict[str, str]] | None = None,
        facts: Mapping[str, Any] = NO_FACTS,
        why: str = "",
        by: str = "",
        at: tuple[str | int, ...] = (),
        client: str = "",
    ) -> None:
        super().__init__(failure, detail)
        self.failure: Failure | OwnFailure = failure
        self.detail = detail
        self.headers = headers
        self.errors = errors
        self.facts = facts
        self.why = why
        self.by = by
        self.at = at
        self.client = client

    def __str__(self) -> str:
        return f"{self.failure.reason}: {self.why or self.detail or self.failure.title}"
