"""The admin API's answers as marshmallow schemas.

Handlers dump through them, and the OpenAPI document is made of them.

A field that is not here is not shown, so a secret in the state cannot get out by mistake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from marshmallow import Schema, fields, validate

from gateway.config.toml.problems import shown_path
from gateway.core.problems import PHRASES

CONDITIONS = ("healthy", "degraded", "unhealthy")


def described(description: str) -> dict[str, str]:
    return {"description": description}


class Ready(Schema):
    """Whether new requests should be sent here."""

    ready = fields.Boolean(required=True)


class Endpoint(Schema):
    """One address of an upstream."""

    name = fields.String(required=True)
    url = fields.String()
    status = fields.String(
        required=True, metadata=described("healthy, unhealthy, or unknown before the first check")
    )
    eligible = fields.Boolean(metadata=described("Whether it may be picked now"))
    weight = fields.Float(
        metadata=described("At the moment: it grows while the endpoint starts slowly")
    )
    backup = fields.Boolean()
    draining = fields.Boolean(metadata=described("It finishes what it has and gets nothing new"))
    zone = fields.String()
    circuit = fields.String(
        allow_none=True,
        metadata=described("Where each endpoint has a breaker: closed, open or half-open"),
    )
    max_connections = fields.Integer(metadata=described("0: no limit"))
    in_flight = fields.Integer(required=True)
    idle = fields.Integer(metadata=described("Connections kept open"))
    last_error = fields.String(allow_none=True)
    ejected_for = fields.Float(
        metadata=described("Seconds until failed requests no longer keep it out")
    )
    checked_ago = fields.Float(
        allow_none=True, metadata=described("Seconds since the last health check")
    )
    check_seconds = fields.Float(allow_none=True, metadata=described("How long that took"))


class Circuit(Schema):
    """An upstream's circuit breaker."""

    state = fields.String(required=True, metadata=described("closed, open or half-open"))
    failures = fields.Integer(metadata=described("In a row"))
    retry_after = fields.Float(
        allow_none=True, metadata=described("Seconds until it lets a request try")
    )


class Services(Schema):
    """Every upstream as /admin/health has it."""

    services = fields.List(fields.Nested(lambda: Upstream()), required=True)


class Registration(Schema):
    """A service of its own (`name`), or an endpoint for an upstream (`service`).

    What is left out is as in the configuration.
    """

    service = fields.String(metadata=described("The upstream's name"))
    name = fields.String(metadata=described("The service's name"))
    url = fields.String()
    weight = fields.Integer(strict=True)
    max_connections = fields.Integer(strict=True, metadata=described("Of an endpoint"))
    backup = fields.Boolean(metadata=described("Of an endpoint"))
    drain = fields.Boolean(metadata=described("Of an endpoint"))
    zone = fields.String(metadata=described("Of an endpoint"))
    health_endpoint = fields.String(metadata=described("Of a service: the path to check"))
    timeout = fields.Raw(metadata=described("Of a service: a duration, such as 30s"))
    circuit_breaker_enabled = fields.Boolean(metadata=described("Of a service"))


class Registered(Schema):
    """An endpoint that was registered, or taken out."""

    service = fields.String(required=True)
    name = fields.String(required=True, metadata=described("The same"))
    url = fields.String(required=True)
    kept = fields.Boolean(metadata=described("Whether it outlasts a restart"))


class Drained(Schema):
    """An endpoint that an operator gives nothing new, or again something."""

    service = fields.String(required=True)
    url = fields.String(required=True)
    draining = fields.Boolean(
        required=True, metadata=described("Also true where the configuration says so")
    )
    in_flight = fields.Integer(metadata=described("Requests that it finishes"))
    eligible = fields.Integer(
        required=True, metadata=described("Endpoints of the upstream that may be picked now")
    )


class CircuitReset(Schema):
    """A circuit breaker that was closed by hand."""

    service = fields.String(required=True)
    state = fields.String(required=True)


class PurgedName(Schema):
    """A name by which answers were purged."""

    kind = fields.String(required=True, validate=validate.OneOf(("url", "prefix", "tag", "all")))
    value = fields.String(required=True)


class Purged(Schema):
    """What was purged of the caches."""

    purged = fields.List(fields.Nested(PurgedName), required=True)
    soft = fields.Boolean(
        required=True, metadata=described("Whether the answers stay, and are stale")
    )


class Upstream(Schema):
    """One pool of endpoints."""

    name = fields.String()
    status = fields.String(required=True, validate=validate.OneOf(CONDITIONS))
    balance = fields.String()
    in_flight = fields.Integer()
    retrying = fields.Integer()
    waiting = fields.Integer(metadata=described("Requests in the queue"))
    limit = fields.Integer(
        allow_none=True,
        metadata=described("How many requests may be under way now; null: no limit"),
    )
    registered = fields.Boolean(metadata=described("At run time, as a service of its own"))
    trying_all = fields.Boolean(metadata=described("None is well, so all are picked (on_empty)"))
    circuit = fields.Nested(Circuit, allow_none=True)
    endpoints = fields.List(fields.Nested(Endpoint), required=True)


class Store(Schema):
    """The shared store that counts limits."""

    name = fields.String(required=True, metadata=described("Its URL without secrets"))
    status = fields.String(required=True, validate=validate.OneOf(CONDITIONS))
    reason = fields.String(allow_none=True, metadata=described("Why it cannot be used"))
    gateways = fields.Integer(metadata=described("Gateways that have lately said that they use it"))


class Health(Schema):
    """The gateway's condition: that of the worst upstream that a route needs and nothing stands in
    for, and degraded at least while the shared store is away."""

    status = fields.String(required=True, validate=validate.OneOf(CONDITIONS))
    store = fields.Nested(Store, metadata=described("With a shared store"))
    upstreams = fields.Dict(keys=fields.String(), values=fields.Nested(Upstream), required=True)


class ConfiguredUpstream(Schema):
    """An upstream as the configuration has it."""

    balance = fields.String()
    endpoints = fields.List(fields.String())


class Route(Schema):
    """A route as the configuration has it."""

    name = fields.String(required=True)
    match = fields.String(required=True)
    kind = fields.String(metadata=described("What `match` is: path or prefix"))
    methods = fields.List(fields.String(), metadata=described("Empty: all"))
    hosts = fields.List(fields.String(), metadata=described("Empty: all"))
    target = fields.String(
        metadata=described("An upstream's name, or \"builtin:\" and an answer of the gateway's own")
    )


class Pipeline(Schema):
    """A pipeline's middleware lists, in order, and its routes."""

    file = fields.String()
    request = fields.List(fields.String(), required=True)
    response = fields.List(fields.String(), required=True)
    error = fields.List(fields.String(), required=True)
    routes = fields.List(fields.Nested(Route), required=True)


class Config(Schema):
    """The configuration in force, by names; values, some of which are secret, are not shown."""

    hash = fields.String(required=True, metadata=described("As in gateway_config_info"))
    loaded_at = fields.Float(required=True, metadata=described("Unix time in seconds"))
    files = fields.List(fields.String(), required=True)
    warnings = fields.List(fields.String())
    upstreams = fields.Dict(keys=fields.String(), values=fields.Nested(ConfiguredUpstream))
    pipelines = fields.Dict(keys=fields.String(), values=fields.Nested(Pipeline), required=True)


class Worker(Schema):
    """One of several workers."""

    worker = fields.Integer(required=True, metadata=described("Its number, as in the log"))
    pid = fields.Integer(required=True)
    serving = fields.Boolean(metadata=described("False while it starts"))
    restarts = fields.Integer(metadata=described("How often it was started again"))
    connections = fields.Integer(metadata=described("Open connections of clients"))
    in_flight = fields.Integer(metadata=described("Requests being handled"))


class PastReload(Schema):
    """A configuration that was taken or refused."""

    at = fields.Float(required=True, metadata=described("Unix time in seconds"))
    ok = fields.Boolean(required=True)
    hash = fields.String(required=True, metadata=described("Of what is in force since"))
    changes = fields.List(fields.String(), required=True, metadata=described("At most 50"))
    problems = fields.List(fields.String(), required=True, metadata=described("At most 50"))


class Status(Schema):
    """The process in numbers; with several workers, all of them together."""

    version = fields.String(required=True)
    pid = fields.Integer(required=True)
    uptime_seconds = fields.Float(required=True)
    configuration = fields.String(metadata=described("Hash of the configuration in force"))
    connections = fields.Integer(metadata=described("Open connections of clients"))
    in_flight = fields.Integer(metadata=described("Requests being handled"))
    snapshots_alive = fields.Integer(
        metadata=described("1, and one more for each earlier configuration with requests left")
    )
    python = fields.String()
    compiled = fields.Boolean(metadata=described("Whether a request's way is compiled"))
    addresses = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata=described("Where it really listens, by table: listen, redirect, admin, metrics"),
    )
    ready = fields.Boolean(metadata=described("Whether new requests should be sent here"))
    waiting = fields.List(fields.String(), metadata=described("What waits for a restart"))
    reloads = fields.List(
        fields.Nested(lambda: PastReload()), metadata=described("The last ones, the newest first")
    )
    workers = fields.List(
        fields.Nested(Worker), metadata=described("Of more than one: each of them")
    )


class RequestSummary(Schema):
    """Requests since the start; times are bounds of buckets."""

    total = fields.Integer(required=True)
    by_status = fields.Dict(keys=fields.String(), values=fields.Integer())
    error_rate = fields.Float(metadata=described("The share answered with 500 and above"))
    in_flight = fields.Integer()
    mean_ms = fields.Float(allow_none=True)
    p50_ms = fields.Float(allow_none=True)
    p95_ms = fields.Float(allow_none=True)
    p99_ms = fields.Float(allow_none=True)


class ServiceSummary(Schema):
    """Attempts at one upstream since the start."""

    status = fields.String(required=True, validate=validate.OneOf(CONDITIONS))
    circuit = fields.String(allow_none=True)
    requests = fields.Integer(required=True)
    errors = fields.Integer(metadata=described("Without an answer, or with one from 500 on"))
    mean_ms = fields.Float(allow_none=True, metadata=described("To the answer's head"))


class Summary(Schema):
    """The most important metrics since the start."""

    uptime_seconds = fields.Float(required=True)
    requests = fields.Nested(RequestSummary, required=True)
    services = fields.Dict(keys=fields.String(), values=fields.Nested(ServiceSummary))
    rate_limited = fields.Integer()
    authentication = fields.Dict(
        keys=fields.String(), values=fields.Integer(), metadata=described("By result")
    )
    cache = fields.Dict(keys=fields.String(), values=fields.Integer())
    failures = fields.Dict(
        keys=fields.String(), values=fields.Integer(), metadata=described("By reason")
    )


class ConfigProblem(Schema):
    """One finding in a configuration file, where an editor can jump to it."""

    file = fields.Function(lambda problem: shown_path(problem.file), required=True)
    line = fields.Integer(required=True)
    column = fields.Integer(required=True)
    severity = fields.String(required=True, validate=validate.OneOf(("error", "warning")))
    message = fields.String(required=True)
    hint = fields.String()


class Reloaded(Schema):
    """A reload that was taken. `problems` are warnings."""

    ok = fields.Boolean(required=True)
    hash = fields.String(required=True)
    changes = fields.List(
        fields.String(), required=True, metadata=described("Names of what differs, never values")
    )
    waiting = fields.List(fields.String(), metadata=described("What waits for a restart"))
    problems = fields.List(fields.Nested(ConfigProblem), required=True)


class Problem(Schema):
    """A problem (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String()


class ReloadRefused(Problem):
    """A reload that was refused: `hash` is that of the configuration still in force."""

    hash = fields.String(required=True)
    problems = fields.List(fields.Nested(ConfigProblem), required=True)


def answer(schema: type[Schema], value: Any, status: int = 200) -> web.Response:
    """`value` as JSON, as much of it as `schema` names."""
    return web.Response(
        text=json.dumps(schema().dump(value)), status=status, content_type="application/json"
    )


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as application/problem+json."""
    return _problem(Problem, status, {"detail": detail}, headers)


def refused(outcome: Any) -> web.Response:
    """Answer a reload that found errors in the configuration (runtime.reload.Outcome)."""
    count = sum(1 for found in outcome.problems if found.severity == "error")
    detail = f"{count} error{'' if count == 1 else 's'}; the configuration in force stays as it is"
    return _problem(
        ReloadRefused,
        422,
        {"detail": detail, "hash": outcome.hash, "problems": outcome.problems},
        None,
    )


def _problem(
    schema: type[Problem], status: int, more: dict[str, Any], headers: Mapping[str, str] | None
) -> web.Response:
    body = schema().dump(
        {"type": "about:blank", "title": PHRASES.get(status, "Error"), "status": status, **more}
    )
    return Nameless(
        text=json.dumps(body),
        status=status,
        headers=headers,
        content_type="application/problem+json",
    )


class Nameless(web.Response):
    """A response without a Server field, also where no application's signal takes it out."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self._headers.popall("Server", None)
