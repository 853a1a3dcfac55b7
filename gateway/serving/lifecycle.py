"""Run one request: match, request hooks, target, response hooks, reply, finish hooks. The order of
things, and nothing else.

`serve` is a coroutine that core/drive.py drives: it waits for nothing but what core/wait.py offers,
and where there is nothing to wait for it runs to its end inside the parser's callback. It knows no
protocol and no socket; its client is an Outlet.
"""

from __future__ import annotations

import logging
from typing import Any

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.wait import STOPPED
from gateway.protocols.websocket import UPGRADE, asks, check_request
from gateway.runtime.snapshot import Route, Snapshot
from gateway.serving.codec import Outlet
from gateway.serving.endings import abandon, blame, broken_off, pipeline_of
from gateway.serving.server import Server
from gateway.serving.server_wide import ENDED_HERE, find_route
from gateway.serving.upgrade import join
from gateway.upstream.connections.http1.switched import Switched

log = logging.getLogger("gateway.serving")

_UNAMBIGUOUS = (
    Failure.NO_ROUTE,
    Failure.METHOD_NOT_ALLOWED,
    Failure.NOT_ACCEPTABLE,
    Failure.VERSION_REQUIRED,
)


async def serve(exchange: Exchange, outlet: Outlet, server: Server) -> None:
    """Everything that happens to a request, on the snapshot in force when it arrived."""
    snapshot = outlet.snapshot = server.runtime.snapshot
    in_flight = server.in_flight
    snapshot.active += 1
    in_flight.level += 1
    if snapshot.tracer is not None:
        snapshot.tracer.begin(exchange)
    try:
        try:
            route = match(exchange, outlet, snapshot)
            pipeline = route.pipeline
            reply: Any = pipeline.ask(exchange) if pipeline.request else None
            if reply is not None and not isinstance(reply, Reply):
                reply = await reply
            if reply is None:
                reply = route.target(exchange)
                if route.awaited:
                    reply = await reply
            exchange.reply = reply
            if pipeline.response and (pending := pipeline.answer(exchange, reply)) is not None:
                await pending
            if type(reply) is Reply and type(reply.body) is bytes:
                outlet.send(exchange, reply)
            else:
                await deliver(exchange, outlet, reply, server)
            return
        except Exception as error:
            failing = fail(exchange, outlet, server, snapshot, error)
        await failing  # Not in the handler: see tests/unit/test_compiled.py.
    except BaseException:
        if exchange.failed is None:
            exchange.failed = Failed(Failure.CLIENT_GONE)
        raise
    finally:
        if outlet.snapshot is not None:  # Else a tunnel has taken the rest over.
            in_flight.level -= 1
            finish(exchange, outlet, snapshot)


def match(exchange: Exchange, outlet: Outlet, snapshot: Snapshot) -> Route:
    """Check the request and find its route. Raises Failed."""
    try:
        outlet.admission.admit(exchange)
        ours = exchange.method in ENDED_HERE
        route = exchange.route = (
            find_route(exchange, snapshot) if ours else snapshot.router.match(exchange)
        )
        if outlet.switching and asks(exchange) and route.config.upstream:
            exchange.notes[UPGRADE] = check_request(exchange)
    except Failed as failed:
        # A client that sent something ambiguous may mean anything by what follows it.
        if failed.failure not in _UNAMBIGUOUS or exchange.method == "CONNECT":
            outlet.last = True
        raise
    return route


async def deliver(exchange: Exchange, outlet: Outlet, reply: Reply, server: Server) -> None:
    """Send a reply that is not simply complete: a stream as it arrives, or the 101 that begins a
    tunnel."""
    if isinstance(reply, Switched):
        if reply.status == 101 and outlet.open:
            join(exchange, outlet, reply, server)
            return
        reply.abort()  # A response hook decided otherwise, or the client has left.
    body = reply.body
    if isinstance(body, bytes):
        outlet.send(exchange, reply)
        return
    outlet.begin(exchange, reply)
    try:
        while chunk := await body.read():
            exchange.bytes_out += len(chunk)
            room = outlet.write(chunk)
            if room is not None:
                await room
        outlet.end(exchange, getattr(body, "trailers", ()))
    except StopIteration as stop:
        raise RuntimeError(STOPPED) from stop


async def fail(
    exchange: Exchange, outlet: Outlet, server: Server, snapshot: Snapshot, error: Exception
) -> None:
    """Answer a request that failed, wherever; what has begun to be answered can only be broken
    off."""
    failed = blame(exchange, error)
    abandon(exchange)
    if broken_off(exchange, outlet, failed):
        return
    try:
        reply = pipeline_of(exchange, snapshot).fail(exchange, failed)
        if not isinstance(reply, Reply):
            reply = await reply
        exchange.reply = reply
        await deliver(exchange, outlet, reply, server)
    except Exception as second:
        abandon(exchange)
        if broken_off(exchange, outlet, blame(exchange, second)):
            return
        log.exception("an error hook failed for request %s", exchange.request_id)
        exchange.failed = failed = Failed(Failure.INTERNAL)
        exchange.reply = snapshot.render(exchange, failed)
        outlet.send(exchange, exchange.reply)


def finish(exchange: Exchange, outlet: Outlet, snapshot: Snapshot) -> None:
    """The end of it, however it ended: gives up what still arrives, runs the finish hooks, lets the
    snapshot go."""
    reply, route = exchange.reply, exchange.route
    if reply is not None and not (type(reply) is Reply and type(reply.body) is bytes):
        abandon(exchange)
    try:
        (snapshot.unrouted if route is None else route.pipeline).done(exchange)
    finally:
        outlet.snapshot = None
        snapshot.leave()
