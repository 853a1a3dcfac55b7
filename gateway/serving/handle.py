"""The way of a request, in one place: match, ask, send, answer, write, finish. Everything else hangs on it.

Any failure on the way becomes one Failed and goes through the error hooks; a client that leaves cancels whatever is being
awaited; finish hooks run in every case, exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.core import problems
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.runtime.pipeline import Pipeline
from gateway.serving.admit import Admission
from gateway.serving.connection import KEEP, LAST, ClientConnection, Sent
from gateway.serving.write import write

if TYPE_CHECKING:
    from gateway.runtime.reload import Runtime

log = logging.getLogger("gateway.serving")


class Handler:
    """Answers requests on the snapshot in force when they arrive."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.draining = False
        self._in_flight = runtime.world.telemetry.in_flight

    async def __call__(self, request: web.BaseRequest) -> Sent:
        """One request's whole way, from its head to its last byte."""
        started = perf_counter()
        connection: ClientConnection = request.protocol  # type: ignore[assignment]
        snapshot = self.runtime.snapshot
        admission: Admission = connection.admission
        exchange = admission.exchange(request, connection.peer, started)
        pipeline = snapshot.unrouted
        snapshot.enter()
        self._in_flight.add()
        reply: Reply | None = None
        try:
            try:
                admission.admit(exchange, request)
                route = exchange.route = snapshot.router.match(exchange)
                pipeline = route.pipeline
                reply = await pipeline.ask(exchange)
                if reply is None:
                    answer: Reply = await route.target(exchange) if route.awaited else route.target(exchange)
                    reply = answer
                exchange.reply = reply
                await pipeline.answer(exchange, reply)
            except Failed as failed:
                reply = await self._fail(pipeline, exchange, failed, reply)
            except Exception:
                log.exception("request %s failed inside the gateway", exchange.request_id)
                reply = await self._fail(pipeline, exchange, Failed(Failure.INTERNAL), reply)
            exchange.reply = reply
            # What is left of a request's body must not be taken for the next request.
            unread = exchange.body is not None and not exchange.body.received
            close = self.draining or unread or not request.keep_alive
            try:
                return KEEP if await write(connection, exchange, reply, close) else LAST
            except Failed as failed:
                exchange.failed = failed
                log.warning("request %s: %s", exchange.request_id, failed)
                return LAST
        except asyncio.CancelledError:
            exchange.failed = exchange.failed or Failed(Failure.CLIENT_GONE)
            raise
        finally:
            if reply is not None and not isinstance(reply.body, bytes):
                reply.body.abort()
            pipeline.done(exchange)
            self._in_flight.add((), -1)
            snapshot.leave()

    async def _fail(self, pipeline: Pipeline, exchange: Exchange, failed: Failed, reply: Reply | None) -> Reply:
        """The error's reply; an answer that was there already is given up."""
        if reply is not None and not isinstance(reply.body, bytes):
            reply.body.abort()
        if failed.failure.level != "info":
            log.log(logging.getLevelName(failed.failure.level.upper()), "request %s: %s", exchange.request_id, failed)
        try:
            return await pipeline.fail(exchange, failed)
        except Exception:
            log.exception("an error hook failed for request %s", exchange.request_id)
            return problems.render(Failed(Failure.INTERNAL), exchange, self.runtime.snapshot.loaded.gateway.errors.format)
