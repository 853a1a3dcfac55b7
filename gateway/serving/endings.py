"""Early ends of requests: map exceptions to failures, give up replies, find the pipeline that
answers."""

from __future__ import annotations

import logging

from gateway.core.content.grpc import error_fields, is_grpc
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.headers import takes_trailers
from gateway.runtime.operators.hooks import HookError
from gateway.runtime.pipeline import Pipeline
from gateway.runtime.snapshot import Snapshot
from gateway.serving.codec import Outlet
from gateway.upstream.connections.http1.switched import Switched

log = logging.getLogger("gateway.serving")


def broken_off(exchange: Exchange, outlet: Outlet, failed: Failed) -> bool:
    """Break off a reply that has begun, since a shorter one must not look complete. False when none
    has."""
    if exchange.written:
        exchange.failed = failed
        reply = exchange.reply
        if (
            reply is not None
            and reply.length is None
            and is_grpc(exchange)
            and takes_trailers(exchange.headers)
        ):
            # Its status says that it is not whole, and why.
            outlet.end(exchange, error_fields(failed, failed.detail or failed.failure.title))
        else:
            outlet.abort()
    return exchange.written


def pipeline_of(exchange: Exchange, snapshot: Snapshot) -> Pipeline:
    """The pipeline of its route, or that of requests that match none."""
    route = exchange.route
    return snapshot.unrouted_for(exchange) if route is None else route.pipeline


def abandon(exchange: Exchange) -> None:
    """Give up an answer that is still arriving."""
    reply = exchange.reply
    if reply is not None:
        if not isinstance(reply.body, bytes):
            reply.body.abort()
        elif isinstance(reply, Switched):
            reply.abort()


def blame(exchange: Exchange, error: Exception) -> Failed:
    """The Failed that an exception means."""
    if isinstance(error, Failed):
        level = error.failure.level
        if level != "info":
            log.log(
                logging.getLevelName(level.upper()), "request %s: %s", exchange.request_id, error
            )
        return error
    log.error("request %s failed inside the gateway", exchange.request_id, exc_info=error)
    return Failed(Failure.INTERNAL, why=_fault(error))


def _fault(error: Exception) -> str:
    """Return an exception's type and the line that raised it. Its words may hold anything."""
    if isinstance(error, HookError) and error.__cause__ is None:
        return str(error)
    origin = error.__cause__ or error
    trace = origin.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(origin).__name__
    code = trace.tb_frame.f_code
    return f"{type(origin).__name__} in {code.co_filename}:{trace.tb_lineno}, {code.co_name}"
