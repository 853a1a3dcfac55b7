"""The admin application: plain aiohttp, for operators and Prometheus.

It reads the running gateway through `AdminState` and changes it only by `reload`. Who may call is
guard.py's, what answers look like answers.py's.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Iterable

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_async.aio import time
from prometheus_client import Histogram
from prometheus_client.exposition import gzip_accepted

from gateway.admin import answers, arguments, clients, purging, services
from gateway.admin.answers import answer, refused
from gateway.admin.audit import AdminAudit
from gateway.admin.dashboard import page
from gateway.admin.dashboard.live import Live
from gateway.admin.dashboard.page import ACCESS, LIVE
from gateway.admin.guard import HEADER, MAX_BODY, Access, guard
from gateway.admin.metrics import exposition
from gateway.admin.openapi import Answer, Endpoint, document, refusal
from gateway.admin.requests import explain, why
from gateway.admin.services import changed
from gateway.admin.state import STATE, AdminState
from gateway.admin.summary import summary
from gateway.config.tables.addresses import AdminConfig

DOCUMENT: web.AppKey[str] = web.AppKey("document", str)

SECONDS = Histogram(
    "gateway_admin_request_duration_seconds",
    "How long calls of the admin API took",
    ["endpoint"],
    buckets=(0.01, 0.1, 1, 10),
)


async def metrics(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    await state.refresh()
    body, content_type = await exposition(
        state.telemetry, request.headers.get("Accept", ""), state.others
    )
    response = web.Response(
        body=body, headers={"Content-Type": content_type}, zlib_executor_size=MAX_BODY
    )
    if gzip_accepted(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def ready(request: web.Request) -> web.StreamResponse:
    is_ready = request.app[STATE].ready()
    return answer(answers.Ready, {"ready": is_ready}, 200 if is_ready else 503)


async def health(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    await state.refresh()
    condition = state.health()
    return answer(answers.Health, condition, 503 if condition["status"] == "unhealthy" else 200)


async def config(request: web.Request) -> web.StreamResponse:
    return answer(answers.Config, request.app[STATE].config())


async def status(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    await state.refresh()
    return answer(answers.Status, state.status())


async def reload(request: web.Request) -> web.StreamResponse:
    outcome = await request.app[STATE].reload()
    return answer(answers.Reloaded, outcome) if outcome.ok else refused(outcome)


async def openapi(request: web.Request) -> web.StreamResponse:
    return web.Response(text=request.app[DOCUMENT], content_type="application/json")


async def reset_circuit(request: web.Request) -> web.StreamResponse:
    name = request.match_info["service"]
    reset = answer(answers.CircuitReset, {"service": name, "state": "closed"})
    return changed(name, request.app[STATE].reset_circuit(name), "has no circuit breaker", reset)


async def metrics_summary(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    await state.refresh()
    return answer(answers.Summary, summary(state.telemetry, state.health(), state.status()))


TEXT_FORMATS = ("text/plain", "application/openmetrics-text")

NO_UPSTREAM = refusal(404, "There is no such upstream")

ENDPOINTS = (
    Endpoint(
        "GET",
        "/metrics",
        metrics,
        "Metrics, for Prometheus",
        (Answer(200, "All of them", None, TEXT_FORMATS),),
    ),
    Endpoint(
        "GET",
        "/admin/ready",
        ready,
        "Whether new requests should be sent here",
        (
            Answer(200, "They should", answers.Ready),
            Answer(503, "Not yet, or no longer", answers.Ready),
        ),
        open=True,
    ),
    Endpoint(
        "GET",
        "/admin/health",
        health,
        "The condition of every upstream",
        (
            Answer(200, "Healthy or degraded", answers.Health),
            Answer(503, "Unhealthy", answers.Health),
        ),
    ),
    Endpoint(
        "GET",
        "/admin/config",
        config,
        "The configuration in force",
        (Answer(200, "By names", answers.Config),),
    ),
    Endpoint(
        "GET",
        "/admin/status",
        status,
        "The process in numbers",
        (Answer(200, "These", answers.Status),),
    ),
    Endpoint(
        "POST",
        "/admin/reload",
        reload,
        "Reads the configuration anew",
        (
            Answer(200, "Taken", answers.Reloaded),
            refusal(422, "Refused; the configuration in force stays", answers.ReloadRefused),
        ),
    ),
    Endpoint(
        "POST",
        "/admin/circuit-breaker/{service}/reset",
        reset_circuit,
        "Closes an upstream's circuit breaker",
        (
            Answer(200, "Closed", answers.CircuitReset),
            NO_UPSTREAM,
            refusal(409, "It has no circuit breaker"),
        ),
    ),
    *services.ENDPOINTS,
    *clients.ENDPOINTS,
    *page.ENDPOINTS,
    *purging.ENDPOINTS,
    *why.ENDPOINTS,
    *explain.ENDPOINTS,
    Endpoint(
        "GET",
        "/admin/metrics/summary",
        metrics_summary,
        "The most important metrics since the start, without Prometheus",
        (Answer(200, "These", answers.Summary),),
    ),
    Endpoint("GET", "/admin/openapi.json", openapi, "This document", (Answer(200, "OpenAPI 3.1"),)),
)


PUBLIC = frozenset(("/metrics", "/admin/ready", "/admin/health"))
"""What the listener for metrics serves."""


NO_TOKENS = AdminConfig()


def make_app(
    state: AdminState,
    config: AdminConfig = NO_TOKENS,
    paths: Collection[str] | None = None,
    audit: AdminAudit | None = None,
) -> web.Application:
    """The application over `state`, with all endpoints or those at `paths`.

    `config` says who may use it, `audit` is told what was changed or refused.
    """
    access = Access(config)
    endpoints = [endpoint for endpoint in ENDPOINTS if paths is None or endpoint.path in paths]
    open_paths = frozenset(endpoint.path for endpoint in endpoints if endpoint.open)
    middlewares = [guard(access, open_paths, audit)]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app[STATE] = state
    app[ACCESS] = access
    if paths is None:
        _feed(app, Live(state))
    app[DOCUMENT] = json.dumps(document(ENDPOINTS, not access.open))
    app.on_response_prepare.append(_without_server)
    routes: list[web.AbstractRoute] = []
    for endpoint in endpoints:
        handler = time(SECONDS.labels(endpoint.path))(_parsed(endpoint))
        # RFC 9110 section 9.1: what has GET has HEAD.
        methods = ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,)
        routes += [app.router.add_route(method, endpoint.path, handler) for method in methods]
    if config.origins:
        _share(app, config.origins, routes)
    return app


def _parsed(endpoint: Endpoint) -> Handler:
    """Return the handler that finds its arguments parsed."""
    if endpoint.query is None and endpoint.body is None:
        return endpoint.handler

    async def handle(request: web.Request) -> web.StreamResponse:
        await arguments.parse(request, endpoint.query, endpoint.body)
        return await endpoint.handler(request)

    return handle


def _share(
    app: web.Application, origins: Collection[str], routes: Iterable[web.AbstractRoute]
) -> None:
    """Let pages of these origins ask. Cookies are not taken from them: they bring a token."""
    from aiohttp_cors import ResourceOptions, setup

    options = ResourceOptions(allow_headers=("Authorization", "Content-Type", HEADER), max_age=600)
    cors = setup(app, defaults=dict.fromkeys(origins, options))
    for route in routes:
        cors.add(route)


def _feed(app: web.Application, live: Live) -> None:
    """Have the dashboard's snapshots made while the application runs."""
    app[LIVE] = live

    async def running(app: web.Application) -> AsyncIterator[None]:
        live.start()
        yield
        live.close()

    app.cleanup_ctx.append(running)


async def _without_server(request: web.Request, response: web.StreamResponse) -> None:
    """Keep the versions of Python and aiohttp to ourselves."""
    response.headers.popall("Server", None)
