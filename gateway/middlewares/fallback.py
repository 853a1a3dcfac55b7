"""Static answers instead of errors: a page while an upstream is down, an empty list.

    [[fallback.responses]] on = ["SVC_001", "read_timeout", "502"]     # codes, failures' own names,
    or statuses; the first table that fits answers routes = ["cameras"]                        #
    names of routes; all of the pipeline's when left out status = 200
    # default: the status the error has headers = { Cache-Control = "max-age=5" }   # default:
    no-store json = { cameras = [] }                     # or body = "...", which is text/plain
    unless headers say otherwise

The answer carries X-Fallback with the failure's code, so that it is not taken for the upstream's.
Log and metrics keep the failure as their reason. A status in `on` is the one a failure has of
itself, before error_handler changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from marshmallow import ValidationError, fields

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import FieldName, FieldValue, Map, Text, Whole, schema_of
from gateway.config.toml.problems import nearest
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure, OwnFailure, failure_words, failures_called
from gateway.core.headers import FRAMING, HOP_BY_HOP, Pair
from gateway.core.hooks import ConfigProblem, Context, Hooks

MARKER = b"X-Fallback"


def _headers(value: Mapping[str, str]) -> None:
    for name in value:
        if name.lower().encode() in FRAMING | HOP_BY_HOP:
            raise ValidationError(f"{name} is the gateway's to set")


@table
class ResponseConfig:
    """One answer that stands in for an error; it has `body` or `json`."""

    on: tuple[str, ...] = setting(
        doc='codes, failures\' names, statuses as text: `["SVC_001", "read_timeout", "502"]`'
    )
    routes: tuple[str, ...] = setting(
        default=(), doc="names of routes; all of the pipeline's when left out"
    )
    status: int | None = setting(
        Whole(least=200, most=599), default=None, doc="the error's own when left out"
    )
    headers: Mapping[str, str] = setting(
        Map(keys=FieldName(), values=FieldValue()),
        default_factory=dict,
        check=_headers,
        doc="`Cache-Control: no-store` is added when not among them",
    )
    body: str = setting(
        Text(empty=True), default="", doc="text, `text/plain` unless `headers` say otherwise"
    )
    json: Any = setting(
        fields.Raw(), default=None, doc="anything TOML can say, sent as JSON; in place of `body`"
    )

    def check(self) -> None:
        if self.body and self.json is not None:
            raise ValidationError("stands beside body; an answer has one of them", "json")


@table
class FallbackConfig:
    """Answers, in the order in which they are tried."""

    responses: tuple[ResponseConfig, ...] = setting(doc="tried in order: `[[fallback.responses]]`")


CONFIG = schema_of(FallbackConfig)


class _Answer:
    """One table, ready to be sent."""

    __slots__ = ("body", "headers", "routes", "status")

    def __init__(self, config: ResponseConfig) -> None:
        self.routes = frozenset(config.routes)
        self.status = config.status
        self.body = config.body.encode() if config.json is None else orjson.dumps(config.json)
        headers: list[Pair] = [
            (name.encode(), value.encode("latin-1")) for name, value in config.headers.items()
        ]
        names = {name.lower() for name in config.headers}
        if self.body and "content-type" not in names:
            headers.append(
                (
                    b"Content-Type",
                    b"application/json"
                    if config.json is not None
                    else b"text/plain; charset=utf-8",
                )
            )
        if "cache-control" not in names:
            headers.append((b"Cache-Control", b"no-store"))
        self.headers = tuple(headers)

    def reply(self, exchange: Exchange, failed: Failed) -> Reply:
        status = self.status
        if status is None:
            status = failed.failure.status if exchange.reply is None else exchange.reply.status
        body = b"" if exchange.method == "HEAD" else self.body
        reply = Reply(status, self.headers, body, length=len(self.body))
        shown = None if exchange.reply is None else exchange.reply.get(b"x-error-code")
        reply.add(MARKER, shown or failed.failure.code.encode())
        if status >= 400:
            # Still an error, so what a client can do about it (Retry-After, WWW-Authenticate,
            # Allow) stays true.
            for name, value in failed.headers:
                reply.add(name, value)
        return reply


class Fallback:
    """Finds the answer to a failure: the first of those that name it and the route."""

    def __init__(self, config: FallbackConfig) -> None:
        answers: dict[Failure | OwnFailure, list[_Answer]] = {}
        for number, response in enumerate(config.responses):
            answer = _Answer(response)
            for place, word in enumerate(response.on):
                for failure in _failures(word, ("responses", number, "on", place)):
                    if answer not in answers.setdefault(failure, []):
                        answers[failure].append(answer)
        self._answers = {failure: tuple(found) for failure, found in answers.items()}

    def error(self, exchange: Exchange, failed: Failed) -> Reply | None:
        for answer in self._answers.get(failed.failure, ()):
            if not answer.routes or (
                exchange.route is not None and exchange.route.name in answer.routes
            ):
                return answer.reply(exchange, failed)
        return None


def _failures(word: str, at: tuple[str | int, ...]) -> tuple[Failure, ...]:
    found = failures_called(word) or tuple(
        failure for failure in Failure if str(failure.status) == word
    )
    if not found:
        statuses = {str(failure.status) for failure in Failure}
        raise ConfigProblem(
            f"no failure is called {word!r}",
            at=at,
            hint=nearest(word, (*failure_words(), *statuses)),
        )
    return found


def build(config: Any, context: Context) -> Hooks:
    return Hooks(error=Fallback(config).error)
