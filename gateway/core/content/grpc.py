"""Calls of gRPC: how they are known, and how they fail.

The protocol: github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md; statuses: doc/statuscodes.md and
doc/http-grpc-status-mapping.md.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from multidict import istr

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure, OwnFailure
from gateway.core.headers import Pair

CONTENT_TYPE: Final = "application/grpc"
_CONTENT_TYPE_FIELD = istr("Content-Type")

CALL: Final = "grpc call"
"""Key of the note on a call: True once it has been passed on by HTTP/2, where its endpoint may
answer before its client has said everything."""
DEADLINE: Final = "grpc deadline"
"""Key of the note with the client's own deadline (clock.monotonic), where no other limit is
earlier."""


class GrpcStatus(enum.IntEnum):
    """The statuses of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


NAMES = {str(status.value).encode(): status.name.lower() for status in GrpcStatus}
"""By the value of grpc-status: its name in `retry.on`."""


_COUNTS_AS = {
    "grpc_unknown": 500,
    "grpc_deadline_exceeded": 504,
    "grpc_internal": 500,
    "grpc_unavailable": 503,
    "grpc_data_loss": 500,
}
"""Calls that may have failed by their endpoint's fault, and the HTTP status as which each counts:
Envoy's, but for UNIMPLEMENTED, which any client can bring about."""


def counts_as(exchange: Exchange) -> int:
    """Return the HTTP status as which an answered call counts against its endpoint, 0 if it does
    not. A deadline that the client has set is its own affair."""
    status = _COUNTS_AS.get(exchange.reason, 0)
    return 0 if status == 504 and DEADLINE in exchange.notes else status


def is_failed_call(exchange: Exchange) -> bool:
    """Return True if an endpoint answered a call with another status than OK."""
    return exchange.reason.startswith("grpc_")


def reason_of(status: bytes | None) -> str:
    """Return the word for the access log's `reason` of a call that an endpoint answered with this
    grpc-status; "" of one that succeeded."""
    return "" if status == b"0" else f"grpc_{NAMES.get(status or b'', 'unknown')}"


_BY_HTTP = {
    400: GrpcStatus.INTERNAL,
    401: GrpcStatus.UNAUTHENTICATED,
    403: GrpcStatus.PERMISSION_DENIED,
    404: GrpcStatus.UNIMPLEMENTED,
    429: GrpcStatus.UNAVAILABLE,
    500: GrpcStatus.INTERNAL,
    502: GrpcStatus.UNAVAILABLE,
    503: GrpcStatus.UNAVAILABLE,
    504: GrpcStatus.UNAVAILABLE,
}
"""What a client takes a plain HTTP answer for (http-grpc-status-mapping.md); 500 is Google's."""

_BY_FAILURE: dict[Failure | OwnFailure, GrpcStatus] = {
    Failure.MISSING_FIELD: GrpcStatus.INVALID_ARGUMENT,
    Failure.INVALID_FIELD: GrpcStatus.INVALID_ARGUMENT,
    Failure.UNSUPPORTED_MEDIA_TYPE: GrpcStatus.INVALID_ARGUMENT,
    Failure.VERSION_REQUIRED: GrpcStatus.INVALID_ARGUMENT,
    Failure.BODY_TOO_LARGE: GrpcStatus.RESOURCE_EXHAUSTED,
    Failure.HEADERS_TOO_LARGE: GrpcStatus.RESOURCE_EXHAUSTED,
    Failure.RATE_LIMITED: GrpcStatus.RESOURCE_EXHAUSTED,
    Failure.QUOTA_EXCEEDED: GrpcStatus.RESOURCE_EXHAUSTED,
    Failure.METHOD_NOT_ALLOWED: GrpcStatus.UNIMPLEMENTED,
    Failure.GONE: GrpcStatus.UNIMPLEMENTED,
    Failure.BAD_RESPONSE: GrpcStatus.INTERNAL,
    Failure.REQUEST_TIMEOUT: GrpcStatus.DEADLINE_EXCEEDED,
    Failure.READ_TIMEOUT: GrpcStatus.DEADLINE_EXCEEDED,
    Failure.WRITE_TIMEOUT: GrpcStatus.DEADLINE_EXCEEDED,
    Failure.TIMEOUT: GrpcStatus.DEADLINE_EXCEEDED,
    Failure.DEADLINE_EXCEEDED: GrpcStatus.DEADLINE_EXCEEDED,
    Failure.CLIENT_GONE: GrpcStatus.CANCELLED,
}
"""Where the kind of failure says more than its HTTP status."""


def status_of(failure: Failure | OwnFailure) -> GrpcStatus:
    """Return the status with which a client of gRPC is told of a failure."""
    known = _BY_FAILURE.get(failure)
    return _BY_HTTP.get(failure.status, GrpcStatus.UNKNOWN) if known is None else known


def is_grpc(exchange: Exchange) -> bool:
    """Return True for a call of gRPC: a POST by its content type, which may name a format of
    messages.

    gRPC-Web, which frames its trailers as a message, is another protocol. A GET is no call whatever
    it says: a failure told with the status 200 might be stored by a cache in front.
    """
    given = exchange.headers.get(_CONTENT_TYPE_FIELD)
    if given is None or not given.startswith(CONTENT_TYPE) or exchange.method != "POST":
        return False
    return given[len(CONTENT_TYPE) : len(CONTENT_TYPE) + 1] in ("", "+", ";")


def error_fields(failed: Failed, message: str) -> list[Pair]:
    """Return the fields that tell a client of gRPC how its call failed: headers or trailers."""
    return [
        (b"grpc-status", b"%d" % status_of(failed.failure)),
        (b"grpc-message", encode_message(message)),
    ]


def as_failed_call(reply: Reply, failed: Failed, message: str) -> None:
    """Make an error's reply that of a call: headers alone ("Trailers-Only"), whose status is in
    them. The HTTP status is 200 whatever failed."""
    reply.status, reply.body, reply.length = 200, b"", 0
    reply.set(b"Content-Type", CONTENT_TYPE.encode())
    for name, value in error_fields(failed, message):
        reply.set(name, value)


_UNSAFE = re.compile(rb"[^\x20-\x24\x26-\x7e]")


def encode_message(text: str) -> bytes:
    """Return a grpc-message: UTF-8 in which all but printable ASCII, and "%", is
    percent-encoded."""
    return _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], text.encode("utf-8", "replace"))
