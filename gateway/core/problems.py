"""Failures as clients see them, in three shapes of the same facts, or in the operator's own.

Rendered from fragments made once per kind of failure:

    problem           RFC 9457: {type, title, status, detail, instance, code, request_id, errors}
    envelope          {"error": {code, message, details, timestamp, requestId, correlationId}},
                      and the same in X-Error-* fields
    success_envelope  {"success": false, "error": {code, message, details, field, requestId}}
    template          JSON with placeholders, of PLACEHOLDERS

Of a Failed only `detail`, `headers`, `errors` and `facts` are shown; `why` and `by` are the
operator's. `errors`, `details` and `field` are left out when there are none. X-Request-ID is on
every reply there is, put there by serving/. Calls of gRPC get no body, but a grpc-status.

`type` is "about:blank" unless the operator publishes pages about problems (`types`): RFC 9457
section 4.2.1 has it for problems that their status explains, with the status phrase as title, and
it invents no URI that leads nowhere; what tells failures apart is `code`. `instance` is the path
that was asked for: without the query, where secrets travel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

import orjson

from gateway.core.clock import REAL, Clock
from gateway.core.content.grpc import as_failed_call, is_grpc
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure, OwnFailure
from gateway.core.headers import Pair, lower

FORMATS = ("problem", "envelope", "success_envelope")

RETRY_AFTER = b"5"
"""Seconds, on a 503 that says nothing better itself."""

PHRASES = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    422: "Unprocessable Content",
}
"""RFC 9110 section 15; Python's own are of RFC 7231 before 3.13."""

_TYPES = {
    "problem": b"application/problem+json",
    "envelope": b"application/json",
    "success_envelope": b"application/json",
}
_CORRELATION = re.compile(r"[\x21-\x7e]{1,128}")


class Fillable(Protocol):
    """A template: JSON with the placeholders `names` (config.templates)."""

    @property
    def names(self) -> frozenset[str]: ...

    def fill(self, values: Mapping[str, Any]) -> Any: ...


class _Case(NamedTuple):
    """One failure, as templates see it."""

    failed: Failed
    exchange: Exchange
    kind: _Fragments
    message: str
    clock: Clock


FACTS = (
    "limit",
    "remaining",
    "reset",
    "reset_at",
    "policy",
    "required_tier",
    "required_permission",
    "version",
    "successor",
    "sunset",
)
"""Values that a failure may state (`Failed.facts`), each where it applies."""

_VALUES: dict[str, Callable[[_Case], Any]] = {
    "code": lambda case: case.kind.code,
    "reason": lambda case: case.failed.failure.reason,
    "type": lambda case: case.kind.type,
    "title": lambda case: case.kind.title,
    "message": lambda case: case.message,
    "status": lambda case: case.kind.status,
    "request_id": lambda case: case.exchange.request_id,
    "correlation_id": lambda case: _correlation(case.exchange),
    "timestamp": lambda case: timestamp(case.clock.wall()),
    "method": lambda case: case.exchange.method,
    "path": lambda case: case.exchange.path,
    "details": lambda case: case.failed.errors or None,
    "field": lambda case: (
        (case.failed.errors[0].get("field") if case.failed.errors else "") or None
    ),
    "client": lambda case: case.exchange.identity and case.exchange.identity.client,
    "tier": lambda case: (case.exchange.identity and case.exchange.identity.tier) or None,
    "retry_after": lambda case: _retry_after(case.failed, case.kind.status),
}
PLACEHOLDERS = (*_VALUES, *FACTS)
"""What templates and messages may name."""


class _Fragments:
    """What every reply to one kind of failure has in common.

    `before` and `after` stand around the detail in the body; `middle` is `before`, the usual detail
    and `after`. `words` replace the failure's own detail, `template` the whole body.
    """

    __slots__ = (
        "after",
        "before",
        "code",
        "headers",
        "index",
        "middle",
        "status",
        "template",
        "title",
        "type",
        "words",
    )
    code: str
    status: int
    title: str
    type: str

    def __init__(
        self,
        format: str,
        failure: Failure | OwnFailure,
        status: int,
        code: str,
        kind: str,
        words: Fillable | None,
        template: Fillable | None,
    ) -> None:
        self.status, self.code, self.type = status, code, kind or "about:blank"
        self.title = failure.title if kind else PHRASES.get(status, failure.title)
        self.words, self.template = words, template
        shown = _json(code)
        if format == "problem":
            self.before = b'{"type":%b,"title":%b,"status":%d,"detail":' % (
                _json(self.type),
                _json(self.title),
                status,
            )
            self.after = b',"code":%b,"instance":' % shown
        elif format == "envelope":
            self.before = b'{"error":{"code":%b,"message":' % shown
            self.after = b',"requestId":'
        else:
            self.before = b'{"success":false,"error":{"code":%b,"message":' % shown
            self.after = b',"requestId":'
        self.middle = self.before + _json(failure.title) + self.after
        media_type = _TYPES[format] if template is None else b"application/json"
        reply = Reply(status, ((b"Content-Type", media_type), (b"Cache-Control", b"no-store")))
        reply.add(b"X-Error-Code", code.encode())
        if failure.proxy_error is not None:
            reply.add(b"Proxy-Status", _proxy_status(failure.proxy_error, code))
        self.headers = reply.headers
        self.index = reply.index


class _Kinds(dict[Failure | OwnFailure, _Fragments]):
    """What replies to failures have in common, by failure."""

    def __init__(
        self, format: str, types: str | Mapping[Failure, str], template: Fillable | None
    ) -> None:
        super().__init__()
        self._format, self._template = format, template
        self._types = types if isinstance(types, str) else ""

    def __missing__(self, failure: OwnFailure) -> _Fragments:
        kind = self._types and self._types + failure.code
        own = (failure, failure.status, failure.code, kind, None, self._template)
        made = self[failure] = _Fragments(self._format, *own)
        return made


class Problems:
    """Renders failures in one format. Mappings are by Failure.

    statuses, codes, messages: replace a kind's own. types: what the gateway's code is added to, or
    words. template, templates: bodies of all kinds, of some.
    """

    def __init__(
        self,
        format: str = "problem",
        *,
        statuses: Mapping[Failure, int] | None = None,
        codes: Mapping[Failure, str] | None = None,
        messages: Mapping[Failure, Fillable] | None = None,
        types: str | Mapping[Failure, str] = "",
        template: Fillable | None = None,
        templates: Mapping[Failure, Fillable] | None = None,
        clock: Clock = REAL,
    ) -> None:
        if template is None and format not in FORMATS:
            raise ValueError(f"unknown format of errors: {format!r}")
        format = format if format in FORMATS else "success_envelope"
        statuses, codes, messages = statuses or {}, codes or {}, messages or {}
        self.kinds = _Kinds(format, types, template)
        """By failure; those of operators' own middlewares are added when they first occur."""
        self.kinds |= {
            failure: _Fragments(
                format,
                failure,
                statuses.get(failure, failure.status),
                codes.get(failure, failure.code),
                (types and types + failure.code)
                if isinstance(types, str)
                else types.get(failure, ""),
                messages.get(failure),
                (templates or {}).get(failure, template),
            )
            for failure in Failure
        }
        self._clock = clock
        self._ending = {
            "problem": self._problem,
            "envelope": self._envelope,
            "success_envelope": self._success_envelope,
        }[format]
        self._in_fields = format == "envelope"

    def render(self, failed: Failed, exchange: Exchange) -> Reply:
        """The reply to `failed`: complete, with only the head for HEAD."""
        kind = self.kinds[failed.failure]
        message = failed.detail or failed.failure.title
        if kind.words is not None:
            values = _values(kind.words, _Case(failed, exchange, kind, message, self._clock))
            if None not in values.values():
                words = kind.words.fill(values)
                # One placeholder alone takes the type of its value.
                message = words if isinstance(words, str) else _json(words).decode()
        if kind.template is not None:
            case = _Case(failed, exchange, kind, message, self._clock)
            body = _json(kind.template.fill(_values(kind.template, case)))
        else:
            usual = message is failed.failure.title
            start = kind.middle if usual else kind.before + _json(message) + kind.after
            body = start + self._ending(failed, exchange)
        reply = Reply(kind.status, (), b"" if exchange.method == "HEAD" else body, length=len(body))
        reply.headers = kind.headers.copy()
        reply.index = kind.index.copy()
        if self._in_fields:
            reply.add(b"X-Error-Message", field_value(message))
            reply.add(b"X-Correlation-ID", field_value(_correlation(exchange)))
        _add_headers(reply, failed.headers)
        if is_grpc(exchange):
            as_failed_call(reply, failed, message)
        return reply

    def _problem(self, failed: Failed, exchange: Exchange) -> bytes:
        path = exchange.path
        if path.startswith("//"):
            # RFC 3986 section 4.2: a reference that starts with two slashes names another
            # authority.
            path = "/." + path
        ending = _json(path) + b',"request_id":' + _json(exchange.request_id)
        return (
            ending + b"}"
            if not failed.errors
            else ending + b',"errors":' + _json(failed.errors) + b"}"
        )

    def _envelope(self, failed: Failed, exchange: Exchange) -> bytes:
        details = b"" if not failed.errors else b',"details":' + _json(failed.errors)
        return b'%b,"correlationId":%b,"timestamp":"%b"%b}}' % (
            _json(exchange.request_id),
            _json(_correlation(exchange)),
            timestamp(self._clock.wall()).encode(),
            details,
        )

    def _success_envelope(self, failed: Failed, exchange: Exchange) -> bytes:
        ending = _json(exchange.request_id)
        if failed.errors:
            ending += b',"details":' + _json(failed.errors)
            if field := failed.errors[0].get("field"):
                ending += b',"field":' + _json(field)
        return ending + b"}}"


@lru_cache(maxsize=len(FORMATS))
def _problems(format: str) -> Problems:
    return Problems(format)


def render(failed: Failed, exchange: Exchange, format: str) -> Reply:
    """The reply to a failure in one of FORMATS, with the default settings."""
    return _problems(format).render(failed, exchange)


def timestamp(unix: float) -> str:
    """Return a time as RFC 3339 has it, in UTC with milliseconds."""
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def field_value(text: str) -> bytes:
    """Return text as a field's value (RFC 9110 section 5.5).

    Latin-1, other characters as "?", line breaks and controls as spaces.
    """
    if not text.isprintable():
        text = "".join([letter if letter >= " " and letter != "\x7f" else " " for letter in text])
    return text.strip().encode("latin-1", "replace")


def _correlation(exchange: Exchange) -> str:
    """The client's own X-Correlation-ID where it is one, else the request's id."""
    given = exchange.headers.get("X-Correlation-ID")
    return given if given is not None and _CORRELATION.fullmatch(given) else exchange.request_id


def _values(template: Fillable, case: _Case) -> dict[str, Any]:
    """Return what a template names, None where this failure has no such value."""
    facts = case.failed.facts
    return {
        name: facts[name] if name in facts else _VALUES[name](case) if name in _VALUES else None
        for name in template.names
    }


def _retry_after(failed: Failed, status: int) -> int | None:
    """Return the seconds of the reply's Retry-After, None where it has none."""
    for name, value in failed.headers:
        if lower(name) == b"retry-after" and value.isdigit():
            return int(value)
    return int(RETRY_AFTER) if status == 503 else None


def _add_headers(reply: Reply, headers: tuple[Pair, ...]) -> None:
    waits = reply.status != 503
    for name, value in headers:
        if b"\r" in value or b"\n" in value:
            value = value.replace(b"\r", b" ").replace(b"\n", b" ")
        reply.add(name, value)
        waits = waits or lower(name) == b"retry-after"
    if not waits:
        reply.add(b"Retry-After", RETRY_AFTER)


def _proxy_status(error: str, code: str) -> bytes:
    """Return Proxy-Status (RFC 9209), with the error's code as `details`: a string of RFC 8941."""
    value = f"gateway; error={error}"
    if code.isascii() and code.isprintable() and not set('"\\') & set(code):
        value += f'; details="{code}"'
    return value.encode()


def _json(value: object) -> bytes:
    """JSON of a value. What is no Unicode (bytes of a path that were no UTF-8) becomes "?"."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_unicode(value))


def _unicode(value: Any) -> Any:
    if isinstance(value, dict):
        return {_unicode(key): _unicode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unicode(item) for item in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
