"""Requests that the gateway itself answers: OPTIONS for the whole server, and OPTIONS and TRACE
that may go no further.

RFC 9110 section 7.6.2 (Max-Forwards) and section 9.3.7; RFC 9112 section 3.2.4 (asterisk-form).
"""

from __future__ import annotations

from dataclasses import replace

from gateway.config.tables.pipeline import RouteConfig
from gateway.core.exchange import ALLOWED_METHODS, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import lower
from gateway.routing.router import COMMON_METHODS
from gateway.runtime.snapshot import Route, Snapshot
from gateway.serving.http1.framing import hops
from gateway.upstream.connections.http1.headers import CREDENTIALS

SERVER_WIDE = "*"
"""The target, and the route's name in logs and metrics."""


ENDED_HERE = frozenset(("OPTIONS", "TRACE"))
"""Methods whose requests may be for the gateway itself."""


def find_route(exchange: Exchange, snapshot: Snapshot) -> Route:
    """The route of a request whose method is one of ENDED_HERE. Raises Failed."""
    if exchange.target == SERVER_WIDE:
        return server_wide(snapshot)
    return limited(exchange, snapshot.router.match(exchange))


def server_wide(snapshot: Snapshot) -> Route:
    """The route of `OPTIONS *`: it asks about the gateway, not about anything behind it."""
    pipeline = replace(snapshot.unrouted, finish=snapshot.unrouted.finish_failed)
    return Route(
        SERVER_WIDE, RouteConfig(name=SERVER_WIDE, prefix="/"), pipeline, _options, awaited=False
    )


def limited(exchange: Exchange, route: Route) -> Route:
    """The route of an OPTIONS or TRACE, ended here if its Max-Forwards is used up, else with one
    less. Raises Failed."""
    if exchange.method == "TRACE" and exchange.body is not None:  # RFC 9110 section 9.3.8
        raise Failed(Failure.MALFORMED, "TRACE has no content.")
    left = hops(exchange.headers.getall("Max-Forwards", ()))
    if left is None:
        return route
    if left == 0:
        return replace(
            route, target=_trace if exchange.method == "TRACE" else _options, awaited=False
        )
    exchange.forward_headers = [
        *(exchange.forward_headers or ()),
        (b"Max-Forwards", b"%d" % (left - 1)),
    ]
    return route


def _options(exchange: Exchange) -> Reply:
    methods = exchange.notes.get(ALLOWED_METHODS) or COMMON_METHODS
    allow = ", ".join(sorted({*methods, "OPTIONS"})).encode("latin-1", "replace")
    return Reply(200, ((b"Allow", allow),))


def _trace(exchange: Exchange) -> Reply:
    """The request as it was received, without what must not be shown to a script (RFC 9110 section
    9.3.8)."""
    lines = [f"TRACE {exchange.target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")]
    for name, value in exchange.raw_headers:
        if lower(name) not in CREDENTIALS:
            lines += (name, b": ", value, b"\r\n")
    return Reply(200, ((b"Content-Type", b"message/http"),), b"".join(lines) + b"\r\n")
