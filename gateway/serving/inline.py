"""The short way: a request carried through in callbacks, without a task of its own.

The common request needs no coroutine: it has no body, its hooks are plain functions, a kept connection to the endpoint is idle,
and the answer comes complete. `Inline` drives the steps of a Passage for it: `start` is called from the client's parser,
`answered` from the endpoint's. Whenever something has to be awaited after all (a connect, a retry, a stream, an awaited hook),
the rest of the same Passage goes on in a task. A client cannot tell the two ways apart, and the same tests run over both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Iterator
from time import perf_counter
from typing import Any

from gateway.core.exchange import Reply
from gateway.core.failures import Failed
from gateway.runtime.pipeline import Step
from gateway.serving.http1.write import write_complete
from gateway.serving.passage import Passage
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.forward import Forward, release
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.retry import may_repeat

log = logging.getLogger("gateway.serving")


class Inline(Passage):
    """A Passage that is its own upstream Flight. The client's connection calls `start`, and `cancel` when it is lost."""

    __slots__ = ("_began", "_endpoint", "_forward", "_holds", "_limit", "_streaming", "_task", "_upstream")

    _began: float
    _endpoint: Endpoint
    _forward: Forward
    _holds: bool
    _limit: float
    _streaming: Reply | None
    _task: asyncio.Task[bool] | None
    _upstream: Connection | None

    def start(self) -> None:
        """Takes the request as far as it goes without waiting."""
        self._task = self._upstream = self._streaming = None
        self._holds = False
        try:
            route = self.match()
            pipeline = route.pipeline
            if not pipeline.plain:
                self._later(self._ask(iter(pipeline.request)))
                return
            exchange = self.exchange
            steps = iter(pipeline.request)
            for hook, _ in steps:
                reply: Reply | Awaitable[Reply | None] | None = hook(exchange)
                if reply is not None:
                    if isinstance(reply, Reply):
                        self._complete(reply)
                    else:
                        self._later(self._ask(steps, reply))
                    return
            target = route.target
            if isinstance(target, Forward):
                self._send(target)
            elif route.awaited:
                self._later(self.carry_on(None))
            else:
                self._complete(target(exchange))
        except Exception as error:
            self._fail(error)

    def cancel(self) -> None:
        """The client has left: so that nobody works for it any more, what is under way is ended."""
        if self._task is not None:
            self._task.cancel()
        elif self._upstream is not None:
            self._upstream.give_up()
            release(self._forward.pool, self._endpoint, None)
            self._finish(False, asyncio.CancelledError())

    def _send(self, forward: Forward) -> None:
        endpoint, upstream = forward.begin(self.exchange)
        self._forward, self._endpoint, self._upstream = forward, endpoint, upstream
        if upstream is None:
            self._holds = True
            self._later(self._connect())
            return
        self._limit = forward.limit()
        self._began = perf_counter()
        forward.send(self.exchange, endpoint, upstream, self, self._limit)

    # The Flight.

    def answered(self, reply: Reply) -> None:
        self._upstream = None
        forward, endpoint = self._forward, self._endpoint
        whole = isinstance(reply.body, bytes)
        self.reply = reply
        if whole:
            release(forward.pool, endpoint, reply)
        else:
            self._streaming = reply  # `ended` lets go of the endpoint.
        reason = forward.record(self.exchange, endpoint, reply, self._began)
        if reason is not None:
            self._later(self._settle(reply, reason))
        elif whole:
            self._complete(reply)
        else:
            self._later(self._deliver(reply))

    def failed(self, failed: Failed, stale: bool) -> None:
        self._upstream = None
        forward, endpoint = self._forward, self._endpoint
        if stale and may_repeat(self.exchange.method, failed.failure):
            release(forward.pool, endpoint, None)
            self._later(self.carry_on(None))  # See Forward._attempt: nothing was answered, so it is sent again.
            return
        release(forward.pool, endpoint, failed)
        reason = forward.record(self.exchange, endpoint, failed, self._began)
        if reason is not None:
            self._later(self._settle(failed, reason))
        else:
            self._fail(failed)

    def ended(self, failed: Failed | None) -> None:
        release(self._forward.pool, self._endpoint, failed or self._streaming)

    # The rest of the way, at once.

    def _complete(self, reply: Reply) -> None:
        exchange = self.exchange
        self.reply = exchange.reply = reply
        try:
            for hook, _ in self.pipeline.response:
                hook(exchange, reply)
        except Exception as error:
            self._fail(error)
            return
        self._write(reply)

    def _fail(self, error: Exception) -> None:
        failed = self.blame(error)
        try:
            self.reply = self.pipeline.fail_plain(self.exchange, failed)
        except Exception:
            self.reply = self.last_resort()
        self._write(self.reply)

    def _write(self, reply: Reply) -> None:
        if isinstance(reply.body, bytes):
            self.exchange.reply = reply
            close = self.close or self.handler.draining
            self._finish(write_complete(self.connection, self.exchange, reply, close))
        else:
            self._later(self.write())

    def _finish(self, keep: bool, error: BaseException | None = None) -> None:
        self.finish(error)
        self.connection.inline_done(keep)

    # The rest of the way, in a task.

    def _later(self, rest: Coroutine[Any, Any, bool]) -> None:
        self._task = asyncio.get_running_loop().create_task(rest)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[bool]) -> None:
        """The task has ended; perhaps before it began, so what it would have let go of is let go of here."""
        if self._holds:
            release(self._forward.pool, self._endpoint, None)
        if task.cancelled():
            self._finish(False, asyncio.CancelledError())
            return
        error = task.exception()
        if error is not None:
            log.error("request %s was dropped", self.exchange.request_id, exc_info=error)
        self._finish(error is None and task.result(), error)

    async def _ask(self, steps: Iterator[Step], begun: Awaitable[Reply | None] | None = None) -> bool:
        try:
            reply = await self.pipeline.ask_on(self.exchange, steps, begun)
        except Exception as error:
            return await self.fail(error)
        return await self.carry_on(reply)

    async def _connect(self) -> bool:
        self._holds = False
        try:
            return await self.deliver(await self._forward(self.exchange, self._endpoint))
        except Exception as error:
            return await self.fail(error)

    async def _settle(self, outcome: Reply | Failed, reason: str) -> bool:
        try:
            return await self.deliver(await self._forward.settle(self.exchange, outcome, reason, self._limit))
        except Exception as error:
            return await self.fail(error)

    async def _deliver(self, reply: Reply) -> bool:
        try:
            return await self.deliver(reply)
        except Exception as error:
            return await self.fail(error)
