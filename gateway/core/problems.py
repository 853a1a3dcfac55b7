"""Failures as clients see them, in three shapes of the same facts.

Rendered from fragments made once per kind of failure:

    problem           RFC 9457: {type, title, status, detail, instance, code, request_id, errors}
    envelope          {"error": {code, message, details, timestamp, requestId, correlationId}},
                      and the same in X-Error-* fields
    success_envelope  {"success": false, "error": {code, message, details, field, requestId}}

Of a Failed only `detail`, `headers` and `errors` are shown; `why` and `by` are the operator's.
`errors`, `details` and `field` are left out when there are none. X-Request-ID is on every reply
there is, put there by serving/.

`type` is "about:blank" unless the operator publishes pages about problems (`type_base`): RFC 9457
section 4.2.1 has it for problems that their status explains, with the status phrase as title, and
it invents no URI that leads nowhere; what tells failures apart is `code`. `instance` is the path
that was asked for: without the query, where secrets travel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus

import orjson

from gateway.core.clock import REAL, Clock
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
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


class _Fragments:
    """What every reply to one kind of failure has in common.

    `before` and `after` stand around the detail in the body; `middle` is `before`, the usual detail
    and `after`.
    """

    __slots__ = ("after", "before", "fixed", "headers", "index", "message", "middle", "status")

    def __init__(
        self, format: str, failure: Failure, status: int, message: str | None, type_base: str
    ) -> None:
        self.status = status
        self.fixed = message is not None
        """Whether the operator's message replaces the failure's own detail."""
        self.message = failure.title if message is None else message
        code = _json(failure.code)
        if format == "problem":
            kind = type_base + failure.code if type_base else "about:blank"
            title = failure.title if type_base else PHRASES.get(status, failure.title)
            self.before = b'{"type":%b,"title":%b,"status":%d,"detail":' % (
                _json(kind),
                _json(title),
                status,
            )
            self.after = b',"code":%b,"instance":' % code
        elif format == "envelope":
            self.before = b'{"error":{"code":%b,"message":' % code
            self.after = b',"requestId":'
        else:
            self.before = b'{"success":false,"error":{"code":%b,"message":' % code
            self.after = b',"requestId":'
        self.middle = self.before + _json(self.message) + self.after
        reply = Reply(status, ((b"Content-Type", _TYPES[format]), (b"Cache-Control", b"no-store")))
        reply.add(b"X-Error-Code", failure.code.encode())
        if failure.proxy_error is not None:
            reply.add(b"Proxy-Status", b"gateway; error=" + failure.proxy_error.encode())
        self.headers = reply.headers
        self.index = reply.index


class Problems:
    """Renders failures in one format.

    `statuses` and `messages` replace a kind's own; `type_base` plus its code is its type.
    """

    def __init__(
        self,
        format: str = "problem",
        *,
        statuses: Mapping[Failure, int] | None = None,
        messages: Mapping[Failure, str] | None = None,
        type_base: str = "",
        clock: Clock = REAL,
    ) -> None:
        if format not in FORMATS:
            raise ValueError(f"unknown format of errors: {format!r}")
        statuses, messages = statuses or {}, messages or {}
        self._fragments = {
            failure: _Fragments(
                format,
                failure,
                statuses.get(failure, failure.status),
                messages.get(failure),
                type_base,
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
        fragments = self._fragments[failed.failure]
        if failed.detail and not fragments.fixed:
            message = failed.detail
            start = fragments.before + _json(message) + fragments.after
        else:
            message = fragments.message
            start = fragments.middle
        body = start + self._ending(failed, exchange)
        reply = Reply(
            fragments.status, (), b"" if exchange.method == "HEAD" else body, length=len(body)
        )
        reply.headers = fragments.headers.copy()
        reply.index = fragments.index.copy()
        if self._in_fields:
            reply.add(b"X-Error-Message", field_value(message))
            reply.add(b"X-Correlation-ID", field_value(_correlation(exchange)))
        _add_headers(reply, failed.headers)
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
        now = datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="milliseconds")
        details = b"" if not failed.errors else b',"details":' + _json(failed.errors)
        return b'%b,"correlationId":%b,"timestamp":"%bZ"%b}}' % (
            _json(exchange.request_id),
            _json(_correlation(exchange)),
            now[:-6].encode(),
            details,
        )

    def _success_envelope(self, failed: Failed, exchange: Exchange) -> bytes:
        ending = _json(exchange.request_id)
        if failed.errors:
            ending += b',"details":' + _json(failed.errors)
            if field := failed.errors[0].get("field"):
                ending += b',"field":' + _json(field)
        return ending + b"}}"


def failures_called(word: str) -> tuple[Failure, ...]:
    """Return the failures with a code ("SVC_003") or a reason ("read_timeout").

    None for an unknown word.
    """
    return tuple(failure for failure in Failure if word in (failure.code, failure.reason))


def failure_words() -> list[str]:
    """Every code and reason there is."""
    return sorted({failure.code for failure in Failure} | {failure.reason for failure in Failure})


@lru_cache(maxsize=len(FORMATS))
def _problems(format: str) -> Problems:
    return Problems(format)


def render(failed: Failed, exchange: Exchange, format: str) -> Reply:
    """The reply to a failure in one of FORMATS, with the default settings."""
    return _problems(format).render(failed, exchange)


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


def _add_headers(reply: Reply, headers: tuple[Pair, ...]) -> None:
    waits = reply.status != 503
    for name, value in headers:
        if b"\r" in value or b"\n" in value:
            value = value.replace(b"\r", b" ").replace(b"\n", b" ")
        reply.add(name, value)
        waits = waits or lower(name) == b"retry-after"
    if not waits:
        reply.add(b"Retry-After", RETRY_AFTER)


def _json(value: object) -> bytes:
    """JSON of a string or a list of errors.

    What is no Unicode (bytes of a path that were no UTF-8) becomes "?".
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_unicode(value))


def _unicode(value: object) -> object:
    if isinstance(value, list):
        return [{key: _unicode(text) for key, text in error.items()} for error in value]
    return str(value).encode("utf-8", "replace").decode()
