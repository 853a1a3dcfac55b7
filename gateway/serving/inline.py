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
from typing import Any

from gateway.core.exchange import Reply
from gateway.core.failures import Failed
from gateway.runtime.pipeline import Step
from gateway.serving.http1.write import write_complete
from gateway.serving.passage import Passage
from gateway.upstream.attempt import Attempt, State
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.forward import Forward
from gateway.upstream.retry import may_repeat

log = logging.getLogger("gateway.serving")


class Inline(Passage):
    """A Passage that is told of its Attempt's outcome. The client's connection calls `start`, and `cancel` when it is lost."""

    __slots__ = ("_attempt", "_forward", "_task", "_upstream")

    _attempt: Attempt | None
    _forward: Forward
    _task: asyncio.Task[bool] | None
    _upstream: Connection | None

    def start(self) -> None:
        """Takes the request as far as it goes without waiting."""
        self._task = self._upstream = self._attempt = None
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
            assert self._attempt is not None
            self._attempt.ended()
            self._upstream.give_up()
            self._finish(False, asyncio.CancelledError())

    def _send(self, forward: Forward) -> None:
        self._forward = forward
        attempt = self._attempt = forward.begin(self.exchange)
        upstream = self._upstream = forward.take(self.exchange, attempt)
        if upstream is None:
            self._later(self._connect(attempt))
            return
        attempt.notify = self._arrived
        forward.send(self.exchange, attempt, upstream)

    def _arrived(self, attempt: Attempt) -> None:
        """The attempt has an outcome, or its connection was stale."""
        self._upstream = None
        outcome = attempt.outcome
        if attempt.stale:
            assert isinstance(outcome, Failed)
            if may_repeat(self.exchange.method, outcome.failure):
                self._later(self._connect(attempt))  # See Forward._must_resend: it is sent again, on a fresh connection.
                return
            attempt.failed(outcome, False)
            return
        reason = self._forward.record(self.exchange, attempt)
        if isinstance(outcome, Reply):
            self.reply = outcome
        if reason is not None:
            self._later(self._settle(attempt, reason))
        elif isinstance(outcome, Failed):
            self._fail(outcome)
        else:
            assert outcome is not None
            if isinstance(outcome.body, bytes):
                self._complete(outcome)
            else:
                self._later(self._deliver(outcome))

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
        if self._attempt is not None and self._attempt.state is State.HELD:
            self._attempt.ended()
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

    async def _connect(self, attempt: Attempt) -> bool:
        try:
            return await self.deliver(await self._forward(self.exchange, attempt))
        except Exception as error:
            return await self.fail(error)

    async def _settle(self, attempt: Attempt, reason: str) -> bool:
        try:
            return await self.deliver(await self._forward.settle(self.exchange, attempt, reason))
        except Exception as error:
            return await self.fail(error)

    async def _deliver(self, reply: Reply) -> bool:
        try:
            return await self.deliver(reply)
        except Exception as error:
            return await self.fail(error)
