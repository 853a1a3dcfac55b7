"""The way of a request, step by step: admit, match, ask, send, answer, write, finish. Everything else hangs on it.

`Passage.run` drives all of it as a coroutine; inline.py drives the same steps from callbacks where nothing has to be awaited. Any
failure on the way becomes one Failed and goes through the error hooks; finish hooks run in every case, exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from gateway.core import problems
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.runtime.pipeline import Pipeline
from gateway.runtime.snapshot import Route
from gateway.serving.http1.write import write_complete, write_stream
from gateway.serving.server_wide import limited, server_wide

if TYPE_CHECKING:
    from gateway.serving.handle import Handler
    from gateway.serving.http1.connection import ClientConnection

log = logging.getLogger("gateway.serving")

_UNAMBIGUOUS = (Failure.NO_ROUTE, Failure.METHOD_NOT_ALLOWED)
_ENDED_HERE = frozenset(("OPTIONS", "TRACE"))
"""Methods whose requests may be for the gateway itself."""


class Passage:
    """One request on its way through the snapshot that was in force when it arrived.

    `close` says that the client's connection ends after this reply, whatever the reply turns out to be.
    """

    __slots__ = ("close", "connection", "exchange", "handler", "pipeline", "reply", "route", "snapshot")

    def __init__(self, handler: Handler, connection: ClientConnection, exchange: Exchange, close: bool) -> None:
        self.handler = handler
        self.connection = connection
        self.exchange = exchange
        self.close = close
        self.reply: Reply | None = None
        self.route: Route | None = None
        snapshot = self.snapshot = handler.runtime.snapshot
        self.pipeline: Pipeline = snapshot.unrouted
        snapshot.active += 1
        handler.in_flight.values[()] += 1

    def match(self) -> Route:
        """Checks the request and finds its route. Raises Failed."""
        exchange = self.exchange
        try:
            self.connection.admission.admit(exchange)
            if exchange.target == "*":
                route = server_wide(self.snapshot)
            else:
                route = self.snapshot.router.match(exchange)
                if exchange.method in _ENDED_HERE:
                    route = limited(exchange, route)
        except Failed as failed:
            # Who sent something ambiguous may mean anything by what follows it.
            self.close = self.close or failed.failure not in _UNAMBIGUOUS or exchange.method == "CONNECT"
            raise
        self.route = exchange.route = route
        self.pipeline = route.pipeline
        return route

    async def run(self) -> bool:
        """The whole way. Returns whether the client's connection can be used again; `finish` is to follow."""
        try:
            self.match()
            reply = await self.pipeline.ask(self.exchange)
        except Exception as error:
            return await self.fail(error)
        return await self.carry_on(reply)

    async def carry_on(self, reply: Reply | None) -> bool:
        """The way after the request hooks: sends the request on unless one of them has answered it."""
        exchange, route = self.exchange, self.route
        assert route is not None
        try:
            if reply is None:
                reply = await route.target(exchange) if route.awaited else route.target(exchange)
            return await self.deliver(reply)
        except Exception as error:
            return await self.fail(error)

    async def deliver(self, reply: Reply) -> bool:
        """The way after the target has answered. Raises what response hooks raise."""
        self.reply = self.exchange.reply = reply
        await self.pipeline.answer(self.exchange, reply)
        return await self.write()

    async def fail(self, error: Exception) -> bool:
        """The way of a request that failed, wherever: error hooks, then their reply."""
        failed = self.blame(error)
        try:
            self.reply = await self.pipeline.fail(self.exchange, failed)
        except Exception:
            self.reply = self.last_resort()
        return await self.write()

    def blame(self, error: Exception) -> Failed:
        """The Failed that an exception means; gives up an answer that was already there."""
        exchange = self.exchange
        self.abort()
        if isinstance(error, Failed):
            level = error.failure.level
            if level != "info":
                log.log(logging.getLevelName(level.upper()), "request %s: %s", exchange.request_id, error)
            return error
        log.error("request %s failed inside the gateway", exchange.request_id, exc_info=error)
        return Failed(Failure.INTERNAL)

    def last_resort(self) -> Reply:
        """The reply when the error hooks themselves have failed."""
        log.exception("an error hook failed for request %s", self.exchange.request_id)
        self.exchange.failed = failed = Failed(Failure.INTERNAL)
        return problems.render(failed, self.exchange, self.snapshot.loaded.gateway.errors.format)

    async def write(self) -> bool:
        """Sends the reply. Returns whether the client's connection can be used again."""
        exchange, reply = self.exchange, self.reply
        assert reply is not None
        exchange.reply = reply
        # What is left of a request's body must not be taken for the next request.
        close = self.close or self.handler.draining or (exchange.body is not None and not exchange.body.received)
        if isinstance(reply.body, bytes):
            return write_complete(self.connection, exchange, reply, close)
        try:
            return await write_stream(self.connection, exchange, reply, close)
        except Failed as failed:
            exchange.failed = failed
            log.warning("request %s: %s", exchange.request_id, failed)
            return False

    def abort(self) -> None:
        """Gives up an answer that is still arriving."""
        if self.reply is not None and not isinstance(self.reply.body, bytes):
            self.reply.body.abort()

    def finish(self, error: BaseException | None = None) -> None:
        """The end of it, however it ended. `error` is what ended it early, if anything did."""
        exchange = self.exchange
        if error is not None and exchange.failed is None:
            gone = isinstance(error, asyncio.CancelledError)
            exchange.failed = Failed(Failure.CLIENT_GONE if gone else Failure.INTERNAL)
        reply = self.reply
        if reply is not None and not isinstance(reply.body, bytes):
            reply.body.abort()
        self.pipeline.done(exchange)
        self.handler.in_flight.values[()] -= 1
        self.snapshot.leave()
