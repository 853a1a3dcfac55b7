"""The way of a request that asks for a WebSocket: that of any other up to the endpoint's 101, then a tunnel.

Everything of the configuration is let go of when the tunnel stands, so that a reload can retire it however long the tunnel lasts:
all but the hooks that give back what they took, which nobody else can. The other finish hooks run when the tunnel ends, as they
are in force then for the route of the same name: what those of its own time need (a log file, say) may be closed by then.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.protocols.websocket import LINES, UPGRADE, asks, check_request
from gateway.runtime.pipeline import Pipeline
from gateway.runtime.snapshot import Route
from gateway.serving.http1.write import make_head
from gateway.serving.passage import Passage
from gateway.serving.tunnel import Tunnel
from gateway.upstream.connections.http1.switched import Switched

if TYPE_CHECKING:
    from gateway.serving.handle import Handler
    from gateway.serving.http1.connection import ClientConnection


def _gone(exchange: Exchange) -> None:
    """The target of a route that is kept for its name only."""


class Upgrade(Passage):
    """A Passage that may end as a tunnel. `tunnel` is None until it stands."""

    __slots__ = ("tunnel",)

    def __init__(self, handler: Handler, connection: ClientConnection, exchange: Exchange, close: bool) -> None:
        super().__init__(handler, connection, exchange, close)
        self.tunnel: Tunnel | None = None

    @staticmethod
    def wanted(connection: ClientConnection, exchange: Exchange) -> bool:
        """Whether this is a request for one: aiohttp has stopped parsing behind it, and it names what can be tunnelled."""
        return connection.switching and asks(exchange)

    def match(self) -> Route:
        """As ever; and the handshake must be sound, unless the gateway answers the request itself."""
        route = super().match()
        if route.config.upstream:
            try:
                self.exchange.notes[UPGRADE] = check_request(self.exchange)
            except Failed:
                self.close = True  # What follows may be meant for a tunnel, or as another request.
                raise
        return route

    async def run(self) -> bool:
        keep = await super().run()
        tunnel = self.tunnel
        if tunnel is None:
            return keep
        try:
            await asyncio.shield(tunnel.over)  # Cancelling this task must not cancel what others look at.
        except asyncio.CancelledError:
            if not tunnel.over.done():  # Else it is only aiohttp's way of saying that the client is gone.
                tunnel.abort()
                raise
        return False

    async def write(self) -> bool:
        reply = self.reply
        if not isinstance(reply, Switched):
            return await super().write()
        transport = self.connection.transport
        if reply.status != 101 or transport is None:  # A response hook thought better of it, or the client has left.
            reply.abort()
            return await super().write()
        self._join(reply, transport)
        self._let_go()
        return False

    def abort(self) -> None:
        if isinstance(self.reply, Switched):
            self.reply.abort()
        else:
            super().abort()

    def finish(self, error: BaseException | None = None) -> None:
        tunnel, exchange = self.tunnel, self.exchange
        self.abort()
        if tunnel is None:
            super().finish(error)
            return
        self.handler.tunnels.discard(tunnel)
        exchange.bytes_in = tunnel.client.count
        exchange.bytes_out = tunnel.upstream.count
        exchange.reason = tunnel.reason
        snapshot = self.handler.runtime.snapshot
        route = snapshot.route(exchange.route.name)
        if route is not None:
            exchange.route = route
            pipeline, hooks = route.pipeline, route.pipeline.finish
        else:
            pipeline, hooks = snapshot.unrouted, snapshot.unrouted.finish_failed
        replace(pipeline, finish=tuple(hook for hook in hooks if hook not in pipeline.release)).done(exchange)
        self.pipeline.done(exchange)
        self.handler.in_flight.values[()] -= 1

    def _join(self, reply: Switched, transport: asyncio.Transport) -> None:
        """Answers the client and joins the two sockets; not a byte that came early on either side is lost."""
        exchange, connection = self.exchange, self.connection
        tunnel = self.tunnel = Tunnel(reply.idle, asyncio.get_running_loop(), self._ended)
        client, upstream = tunnel.client, tunnel.upstream
        client.transport = transport
        taken = reply.take_over(upstream)
        if taken is None:
            upstream.lost = True
        else:
            upstream.transport = taken
        exchange.written = True
        upstream.count = len(reply.rest)
        upstream.frames.feed(reply.rest)
        transport.write(make_head(exchange, reply, LINES, close=False) + reply.rest)
        reply.rest = b""
        early = connection.give_away(client)
        self.handler.tunnels.add(tunnel)
        if upstream.lost:
            transport.close()
            return
        if early:
            client.data_received(early)
        if not connection.writing_paused:
            upstream.resume()
        if self.handler.draining:
            tunnel.go_away("shutdown")

    def _let_go(self) -> None:
        """Of the configuration that brought the tunnel about."""
        snapshot, route = self.snapshot, self.route
        assert route is not None
        self.pipeline = Pipeline(route.pipeline.name, finish=route.pipeline.release)
        self.exchange.route = replace(route, pipeline=self.pipeline, target=_gone, status=())
        del self.snapshot, self.route
        snapshot.leave()

    def _ended(self, tunnel: Tunnel) -> None:
        """Both sockets are closed; aiohttp hears of its own only now, and cancels whoever waits for `tunnel.over`."""
        self.abort()
        self.connection.connection_lost(None)
