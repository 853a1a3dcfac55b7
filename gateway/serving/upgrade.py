"""The end of a request's way that got a 101: a tunnel takes over.

Everything of the configuration is let go of when the tunnel stands, so that a reload can retire it
however long the tunnel lasts: all but the hooks that give back what they took, which nothing else
can. The other finish hooks run when the tunnel ends, as they are in force then for the route of the
same name: what those of its own time need (a log file, say) may be closed by then.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.core.exchange import Exchange
from gateway.runtime.pipeline import Pipeline
from gateway.serving.codec import Outlet
from gateway.serving.rechecks import Rechecks
from gateway.serving.server import Server
from gateway.serving.tunnel import Tunnel
from gateway.upstream.connections.http1.switched import Switched


def _gone(exchange: Exchange) -> None:
    """The target of a route that is kept for its name only."""


def join(exchange: Exchange, outlet: Outlet, reply: Switched, server: Server) -> None:
    """Answer the client 101 and join the two sockets; not a byte that came early on either side is
    lost."""
    rest, reply.rest = reply.rest, b""
    rechecks: Rechecks | None = None
    came_by = exchange.route.pipeline
    pipeline = _let_go(exchange, outlet)

    def ended(tunnel: Tunnel) -> None:
        if rechecks is not None:
            rechecks.close()
        reply.abort()
        server.tunnels.discard(tunnel)
        _finish(exchange, tunnel, pipeline, server)
        outlet.taken_back()

    tunnel = Tunnel(reply.idle, asyncio.get_running_loop(), ended)
    client, upstream = tunnel.client, tunnel.upstream
    taken = reply.take_over(upstream)
    if taken is None:
        upstream.lost = True
    else:
        upstream.transport = taken
    upstream.count = len(rest)
    upstream.frames.feed(rest)
    exchange.written = True
    client.transport, early, congested = outlet.give_away(exchange, reply, rest, client)
    server.tunnels.add(tunnel)
    if upstream.lost:
        client.transport.close()
        return
    if early:
        client.data_received(early)
    if not congested:
        upstream.resume()
    if server.draining:
        tunnel.go_away("shutdown")
    if came_by.rechecks:
        rechecks = Rechecks(exchange, tunnel, server, came_by)


def _let_go(exchange: Exchange, outlet: Outlet) -> Pipeline:
    """Of the configuration that brought the tunnel about; returns what is left of its pipeline."""
    route = exchange.route
    release = route.pipeline.release
    pipeline = Pipeline(route.pipeline.name, finish=release, finish_failed=release)
    exchange.route = replace(route, pipeline=pipeline, target=_gone, status=())
    snapshot, outlet.snapshot = outlet.snapshot, None
    snapshot.leave()
    return pipeline


def _finish(exchange: Exchange, tunnel: Tunnel, pipeline: Pipeline, server: Server) -> None:
    exchange.bytes_in = tunnel.client.count
    exchange.bytes_out = tunnel.upstream.count
    exchange.reason = tunnel.reason
    snapshot = server.runtime.snapshot
    route = snapshot.route(exchange.route.name)
    if route is not None:
        exchange.route = route
        current, hooks = route.pipeline, route.pipeline.finish
    else:
        current, hooks = snapshot.unrouted, snapshot.unrouted.finish_failed
    replace(current, finish=tuple(hook for hook in hooks if hook not in current.release)).done(
        exchange
    )
    pipeline.done(exchange)
    server.in_flight.level -= 1
