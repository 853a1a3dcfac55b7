"""Spans as OTLP has them, with the attributes of OpenTelemetry's HTTP conventions (1.23 and later).

A span is written as the field ScopeSpans.spans = 2, so that any number of them one after the other
are the spans of a scope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.core.methods import REGISTERED
from gateway.lifetime.logs.logqueue import Record
from gateway.tracing.protobuf import key, known, nested, read_varint, string, utf8
from gateway.tracing.trace import AttemptSpan, HookSpan

INTERNAL, SERVER, CLIENT = b"\x30\x01", b"\x30\x02", b"\x30\x03"
"""Span.kind = 6."""
_ERROR = b"\x7a\x02\x18\x02"
"""Span.status = 15 with Status.code = 3, STATUS_CODE_ERROR."""
_LOCAL, _REMOTE = b"\x85\x01\x01\x01\x00\x00", b"\x85\x01\x01\x03\x00\x00"
"""Span.flags = 16: sampled, and whether the parent is known to be of another process."""
MEMO_MAX = 1024
"""Facts that are remembered; strangers choose some."""
OTHER = "_OTHER"
"""What the conventions call a method that is not registered."""

_METHOD, _METHOD_ORIGINAL = key("http.request.method"), key("http.request.method_original")
_STATUS, _ROUTE, _RESENT = (
    key("http.response.status_code"),
    key("http.route"),
    key("http.request.resend_count"),
)
_PATH, _QUERY, _SCHEME, _FULL = (
    key("url.path"),
    key("url.query"),
    key("url.scheme"),
    key("url.full"),
)
_SERVER, _PORT, _CLIENT, _PEER = (
    key("server.address"),
    key("server.port"),
    key("client.address"),
    key("network.peer.address"),
)
_VERSION, _AGENT, _ERROR_TYPE = (
    key("network.protocol.version"),
    key("user_agent.original"),
    key("error.type"),
)
_ID, _NAME, _WHO, _CACHE, _REASON, _UPSTREAM, _HOOK = (
    key("gateway.request_id"),
    key("gateway.route"),
    key("gateway.client"),
    key("gateway.cache"),
    key("gateway.reason"),
    key("gateway.upstream"),
    key("gateway.hook"),
)


@dataclass(frozen=True, slots=True)
class Masks:
    """What spans must not show, as logs do not.

    query: masks a raw query. text: masks patterns in a text. address: makes of a client's address
    what may be shown. agent: whether User-Agent is shown.
    """

    query: Callable[[str], str]
    text: Callable[[str], str] = str
    address: Callable[[str], str | None] = str
    agent: bool = True


class Facts(NamedTuple):
    """What many requests have in common: their attributes are encoded once.

    template: the route's path or prefix. status: 0 where nothing was answered. client: who is
    calling, by name.
    """

    method: str
    scheme: str
    host: str
    version: str
    client_ip: str
    peer: str
    agent: str | None
    template: str
    route: str
    status: int
    error: str
    reason: str
    client: str | None
    cache: str


class SpanEncoder:
    """Encodes the spans of one service; records come from Tracer.finish."""

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._known: dict[tuple[Any, ...], tuple[bytes, bytes]] = {}
        """By what spans have in common: name and kind, and attributes."""

    def hook(self, record: Record) -> bytes:
        """Encode `(encode, trace_id, offset, HookSpan)`."""
        _, trace_id, offset, span = record
        assert isinstance(span, HookSpan)
        attributes = known(_HOOK, span.name)
        if span.error:
            attributes += known(_ERROR_TYPE, span.error)
        name = nested(5, utf8(f"hook {span.name}")) + INTERNAL + _LOCAL
        head = _head(trace_id, span.span_id, span.parent, offset, span.began, span.ended)
        return nested(2, head + name + attributes)

    def attempt(self, record: Record) -> bytes:
        """Encode `(encode, trace_id, offset, AttemptSpan)`."""
        _, trace_id, offset, span = record
        assert isinstance(span, AttemptSpan)
        endpoint, target = span.endpoint, span.target
        key = (span.upstream, endpoint.name, span.method, span.status, span.error, span.number)
        found = self._known.get(key)
        if found is None:
            found = self._remember(key, CLIENT, *_attempted(span))
        name, attributes = found
        head = _head(trace_id, span.span_id, span.parent, offset, span.began, span.ended)
        if target:
            path, mark, query = target.partition("?")
            if mark:
                query = f"?{self._query(query)}"
            url = f"{endpoint.scheme}://{endpoint.authority}{self._masks.text(path)}{query}"
            attributes += string(_FULL, url)
        return nested(2, b"%b%b%b%b" % (head, name, _LOCAL, attributes))

    def server(self, record: Record) -> bytes:
        """Encode `(encode, Trace, offset, began, ended, path, query, request_id, Facts)`."""
        _, trace, offset, began, ended, path, query, request_id, facts = record
        found = self._known.get(facts)
        if found is None:
            found = self._remember(facts, SERVER, *_answered(facts, self._masks))
        name, attributes = found
        head = _head(trace.trace_id, trace.span_id, trace.caller, offset, began, ended)
        own = string(_PATH, self._masks.text(path)) + string(_ID, request_id)
        if query:
            own += string(_QUERY, self._query(query))
        if trace.state:
            own += nested(3, utf8(trace.state))
        flags = _REMOTE if trace.caller else _LOCAL
        return nested(2, b"%b%b%b%b%b" % (head, name, flags, attributes, own))

    def _query(self, query: str) -> str:
        return self._masks.text(self._masks.query(query))

    def _remember(
        self, facts: tuple[Any, ...], kind: bytes, name: str, attributes: list[bytes]
    ) -> tuple[bytes, bytes]:
        made = nested(5, utf8(name)) + kind, b"".join(attributes)
        if len(self._known) >= MEMO_MAX:
            self._known.clear()
        self._known[facts] = made
        return made


def _answered(facts: Facts, masks: Masks) -> tuple[str, list[bytes]]:
    """Return the name and the attributes of a request's span."""
    shown, *parts = _method(facts.method)
    parts += (known(_SCHEME, facts.scheme), known(_VERSION, facts.version))
    for name, value in (
        (_SERVER, facts.host),
        (_CLIENT, facts.client_ip and masks.address(facts.client_ip)),
        (_PEER, facts.peer and masks.address(facts.peer)),
        (_AGENT, masks.text(facts.agent) if facts.agent and masks.agent else ""),
        (_ROUTE, facts.template),
        (_NAME, facts.route),
        (_STATUS, facts.status),
        (_ERROR_TYPE, facts.error),
        (_REASON, facts.reason),
        (_WHO, facts.client),
        (_CACHE, facts.cache),
    ):
        if value:
            parts.append(known(name, value))
    if facts.error and facts.status:  # 0: the client has left, which is its own affair.
        parts.append(_ERROR)
    return f"{shown} {facts.template}" if facts.template else shown, parts


def _attempted(span: AttemptSpan) -> tuple[str, list[bytes]]:
    """Return the name and the attributes of an attempt's span, but for its URL."""
    shown, *parts = _method(span.method)
    for name, value in (
        (_UPSTREAM, span.upstream),
        (_SERVER, span.endpoint.host),
        (_PORT, span.endpoint.port),
        (_STATUS, span.status),
        (_RESENT, span.number),
        (_ERROR_TYPE, span.error),
    ):
        if value:
            parts.append(known(name, value))
    if span.error:
        parts.append(_ERROR)
    return shown, parts


def _method(method: str) -> tuple[Any, ...]:
    """Return how a method is called, and its attributes; only registered ones are few."""
    if method in REGISTERED:
        return method, known(_METHOD, method)
    return "HTTP", known(_METHOD, OTHER), string(_METHOD_ORIGINAL, method)


def _head(
    trace_id: str, span_id: str, parent: str, offset: float, began: float, ended: float
) -> bytes:
    """Span.trace_id = 1, span_id = 2, parent_span_id = 4, start_time_unix_nano = 7 and
    end_time_unix_nano = 8. offset: what makes seconds since 1970 of the times."""
    return b"\x0a\x10%b\x12\x08%b%b\x39%b\x41%b" % (
        bytes.fromhex(trace_id),
        bytes.fromhex(span_id),
        b"\x22\x08" + bytes.fromhex(parent) if parent else b"",
        int((began + offset) * 1e9).to_bytes(8, "little"),
        int((ended + offset) * 1e9).to_bytes(8, "little"),
    )


def request(spans: bytes | bytearray, resource: bytes, scope: bytes) -> bytes:
    """Return an ExportTraceServiceRequest of encoded spans.

    resource: Resource.attributes. scope: an InstrumentationScope.
    """
    inner = nested(1, resource) + nested(2, nested(1, scope) + bytes(spans))
    return nested(1, inner)


def count(spans: bytes | bytearray) -> int:
    """Return the number of encoded spans."""
    at = found = 0
    while at < len(spans):
        size, at = read_varint(spans, at + 1)
        at += size
        found += 1
    return found


def attributes(values: dict[str, str]) -> bytes:
    """Return the attributes of a Resource: field 1."""
    return b"".join(string(key(name), value, 1) for name, value in values.items())
