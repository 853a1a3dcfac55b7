"""Header fields of requests to endpoints over HTTP/2, and of their answers.

Which fields of a client's go on is decided in one place for all versions (http1/headers.py); here
they take the form that RFC 9113 section 8 has: names in lower case, the request line and Host as
pseudo-fields, nothing about the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import HOP_BY_HOP, NOT_TRAILERS, Pair, lower
from gateway.protocols.grpc import format_timeout
from gateway.protocols.http2.session import NeverIndexed
from gateway.upstream.connections.http1.fields import MAX_FIELDS, InvalidAnswer, understand
from gateway.upstream.connections.http1.headers import CREDENTIALS, forwarded_fields, passes, traced

_MEMO = "fields for HTTP/2"
_NOT_SENT = HOP_BY_HOP | {b"grpc-timeout"}
TRAILERS: Pair = (b"te", b"trailers")
"""A server of gRPC answers no call without it; to others it says what holds for every request:
trailers are understood here (RFC 9110 section 10.1.4)."""


class Http2Reply(Reply):
    """A reply that came by HTTP/2."""

    __slots__ = ()

    version = "2.0"


def request_fields(
    exchange: Exchange, target: str, host: str, scheme: bytes, left: float | None
) -> list[Pair]:
    """Return the fields of a request, pseudo-fields first.

    left: the seconds that a call of gRPC has, None for what is none or has no limit.
    """
    lines = forwarded_fields(exchange)
    known = exchange.memo.get(_MEMO)
    if known is None or known[0] is not lines:
        known = exchange.memo[_MEMO] = (lines, _pairs(lines))
    made: list[Pair] = [
        (b":method", exchange.method.encode()),
        (b":scheme", scheme),
        (b":authority", host.encode("utf-8", "surrogateescape")),
        (b":path", target.encode("utf-8", "surrogateescape")),
        (b"x-request-id", exchange.request_id.encode()),
        TRAILERS,
    ]
    if traced(exchange):
        made.append((b"traceparent", exchange.traceparent.encode()))
    if left is not None:
        made.append((b"grpc-timeout", format_timeout(left)))
    elif (said := exchange.headers.get("grpc-timeout")) is not None:
        made.append((b"grpc-timeout", said.encode("utf-8", "surrogateescape")))
    made += known[1]
    return made


def _pairs(lines: bytes) -> list[Pair]:
    """Return lines as pairs. RFC 7541 section 7.1.3: credentials stay out of the table that
    requests of other clients share."""
    made: list[Pair] = []
    for line in lines.split(b"\r\n"):
        raw, _, value = line.partition(b": ")
        name = lower(raw)
        if name in CREDENTIALS:
            made.append(NeverIndexed(name, value))
        elif name and name not in _NOT_SENT:
            made.append((name, value))
    return made


def trailer_fields(trailers: Iterable[Pair]) -> list[Pair]:
    """Return what of a request's trailers goes on."""
    pairs = [(lower(name), value) for name, value in trailers]
    return [pair for pair in pairs if pair[0] not in NOT_TRAILERS and passes(pair[0])]


def status_of(fields: Sequence[Pair]) -> int:
    """Return an answer's status. The codec has checked it: it is there, first, and of three digits.
    Raises InvalidAnswer."""
    status = int(fields[0][1])
    if status > 599:
        raise InvalidAnswer(f"the status {status}")  # RFC 9110 section 15
    return status


class Answers:
    """Makes replies of one connection's answers, whose fields are often the same again."""

    __slots__ = ("_last", "_status", "_understood")

    def __init__(self) -> None:
        self._last: Sequence[Pair] | None = None
        self._status = 0
        self._understood = understand([])

    def reply(self, fields: Sequence[Pair]) -> Reply:
        """Return the reply that begins with these fields. `length` is what Content-Length says,
        None where it says nothing. Raises InvalidAnswer."""
        if fields == self._last:
            status, understood = self._status, self._understood
        else:
            if len(fields) > MAX_FIELDS:
                raise InvalidAnswer(f"more than {MAX_FIELDS} header fields")
            status, understood = status_of(fields), understand(list(fields[1:]))
            self._last, self._status, self._understood = fields, status, understood
        headers, index, joined, length, _, _ = understood
        if status == 204:
            length = 0
        return Http2Reply.known(status, headers.copy(), index.copy(), joined, length)
