"""From an exchange to an endpoint and back: pick, send, wait, try again where that is safe.

One `Forward` per route, made at compose time. What may be retried is decided in retry.py, who gets it in pool/, how bytes move
in connections/; this file is the order of things. An endpoint that was picked is released exactly once, by its Attempt.
"""

from __future__ import annotations

import asyncio
import logging
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import perf_counter

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.traffic import POLICIES
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.exchange import AttemptRecord, Exchange, Reply, RequestBody
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.core.wait import Wait, foreign, own
from gateway.protocols.websocket import LINES, UPGRADE
from gateway.upstream import retry
from gateway.upstream.attempt import NEVER, Attempt, State
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.http1.headers import request_head
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool

log = logging.getLogger("gateway.upstream")

_KEY = "Idempotency-Key"

_CODES = [str(code) for code in range(1000)]
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_NO_BODY = b"Content-Length: 0\r\n"
_BODY_METHODS = frozenset(("POST", "PUT", "PATCH"))
"""Methods whose requests say so when they have no body (RFC 9110 section 8.6)."""


class Forward:
    """Sends exchanges of one route to a pool: by `await forward(exchange)`, or in steps (begin, take, send, record, settle)."""

    def __init__(
        self,
        pool: Pool,
        transport: Transport,
        route: RouteConfig,
        telemetry: Telemetry,
        rewrite: Callable[[Exchange], str] | None = None,
        rng: random.Random | None = None,
        config: UpstreamConfig | None = None,
    ) -> None:
        """`config` is what the pool will go by when this is used, None for what it goes by now."""
        pool_config = config or pool.config
        self.pool = pool
        self._transport = transport
        timeouts = [seconds for seconds in (route.timeout, pool_config.timeouts.total) if seconds is not None]
        self._timeout = min(timeouts, default=None)
        self._policy = POLICIES[route.retry] if route.retry else pool_config.retry
        self._rewrite = rewrite
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._requests = telemetry.upstream_requests.values
        self._retries = telemetry.retries
        self._duration = telemetry.upstream_duration.cell((pool.name,))

    def __repr__(self) -> str:
        return f"<Forward to {self.pool!r}>"

    @own
    async def __call__(self, exchange: Exchange, attempt: Attempt | None = None) -> Reply:
        """The endpoint's answer, whatever its status. Raises Failed when there is none in the end.

        attempt: the first one, if it has begun: its endpoint is picked, and stale or not connected yet.
        """
        exchange.upstream = self.pool.name
        if attempt is None:
            attempt = self.begin(exchange)
        reason = await self._try(exchange, attempt)
        return await self.settle(exchange, attempt, reason)

    def begin(self, exchange: Exchange, tried: Sequence[Endpoint] = ()) -> Attempt:
        """An attempt at a picked endpoint, to be ended by the caller. Raises Failed."""
        timeout = self._timeout
        limit = NEVER if timeout is None else self._transport.clock.monotonic() + timeout
        return Attempt(self.pool, self._pick(exchange, tried), limit)

    def take(self, exchange: Exchange, attempt: Attempt) -> Connection | None:
        """An idle connection for the attempt, if there is one."""
        # What must not be repeated goes only where nothing speaks against it.
        transport, endpoint = self._transport, attempt.endpoint
        return transport.take(endpoint) if exchange.method in retry.IDEMPOTENT else transport.take_quiet(endpoint)

    def send(self, exchange: Exchange, attempt: Attempt, connection: Connection) -> None:
        """Sends a request that has no body, or one that is complete."""
        body = exchange.body
        if body is not None:
            whole = body.complete
            assert whole is not None
            data = self._head(exchange, attempt, b"Content-Length: %d\r\n" % len(whole)) + whole
        else:
            data = self._head(exchange, attempt, _NO_BODY if exchange.method in _BODY_METHODS else b"")
        connection.send(data, attempt, self.pool.config.timeouts, head_only=exchange.method == "HEAD", limit=attempt.limit)

    def record(self, exchange: Exchange, attempt: Attempt) -> str | None:
        """Counts an attempt that has an outcome; the name in `retry.on` under which to try again, or None."""
        pool, endpoint, outcome = self.pool, attempt.endpoint, attempt.outcome
        took = perf_counter() - attempt.began
        exchange.upstream = pool.name
        exchange.endpoint = endpoint.name
        exchange.attempts += 1
        exchange.upstream_seconds += took
        duration = self._duration  # HistogramCell.observe and Family.add, without the calls.
        duration.counts[bisect_left(duration.bounds, took)] += 1
        duration.total += took
        how: Failure | int
        if isinstance(outcome, Reply):
            how = outcome.status
            self._requests[(pool.name, endpoint.name, _CODES[how])] += 1
            if how < 500:
                return None
        else:
            assert outcome is not None
            how = outcome.failure
            self._requests[(pool.name, endpoint.name, "0")] += 1
        config = self._policy
        if config is None:
            return None
        keyed = _KEY in exchange.headers
        # An endpoint that has seen a WebSocket's handshake may have acted upon it: only one that was never sent goes out again.
        replayable = _replayable(exchange.body) and UPGRADE not in exchange.notes
        reason = retry.may_retry(config, exchange.method, how, exchange.attempts, replayable, keyed)
        if reason is not None:
            why = str(outcome) if isinstance(outcome, Failed) else f"status {how}"
            exchange.tries = [*(exchange.tries or ()), AttemptRecord(endpoint.name, took, why)]
        return reason

    async def settle(self, exchange: Exchange, attempt: Attempt, reason: str | None) -> Reply:
        """What an attempt's outcome comes to in the end, further attempts included. Raises Failed."""
        outcome = attempt.outcome
        if reason is not None:
            outcome = await self._again(exchange, attempt, reason)
        if isinstance(outcome, Failed):
            raise outcome
        assert outcome is not None
        return outcome

    async def _again(self, exchange: Exchange, attempt: Attempt, reason: str | None) -> Reply | Failed | None:
        """Further attempts, as long as there is a reason for one, time, and a place in the budget."""
        pool, paid, again = self.pool, False, False
        tried: list[Endpoint] = []
        try:
            while reason is not None:
                tried.append(attempt.endpoint)
                # What was never sent is no load on anybody: it goes to somebody else at once, whatever the budget says.
                free = reason == "connect" and any(endpoint not in tried for endpoint in pool.eligible)
                if not free and not paid:
                    budget = pool.budget
                    paid = budget.take(pool.in_flight + budget.waiting + 1, sum(self._duration.counts) - budget.made)
                    if not paid:
                        break
                if not await self._wait(exchange, attempt, 0.0 if free else None):
                    break
                streaming = attempt.state is State.STREAMING
                attempt.give_up()  # It may hold the only place there is.
                try:
                    endpoint = self._pick(exchange, tried)
                except Failed:
                    if streaming:
                        raise
                    break  # Nobody can be asked any more, so what was answered, or how it failed, is the answer.
                self._retries.add((pool.name, reason))
                pool.budget.attempt(again)
                again = paid
                attempt = Attempt(pool, endpoint, attempt.limit)
                reason = await self._try(exchange, attempt)
        except BaseException:
            attempt.give_up()
            raise
        finally:
            if paid:
                pool.budget.give()
        return attempt.outcome

    def _pick(self, exchange: Exchange, tried: Sequence[Endpoint] = ()) -> Endpoint:
        return self.pool.pick(exchange.client_ip, tried)

    async def _wait(self, exchange: Exchange, attempt: Attempt, delay: float | None) -> bool:
        """Backs off before another attempt, for `delay` seconds if that is not None; False when there is no time for one."""
        config, outcome = self._policy, attempt.outcome
        assert config is not None
        if delay is None:
            delay = retry.delay(config, exchange.attempts, self._rng)
            said = outcome.get(b"retry-after") if isinstance(outcome, Reply) else None
            asked = retry.asked_for(said, self._transport.clock.wall()) if said is not None else 0.0
            if asked > config.max_delay:
                return False  # Longer than we would wait: the client is told, and can.
            delay = max(delay, asked)
        if self._transport.clock.monotonic() + delay >= attempt.limit:
            return False
        if delay > 0:
            self.pool.budget.waiting += 1
            try:
                await asyncio.sleep(delay)
            finally:
                self.pool.budget.waiting -= 1
        return True

    async def _try(self, exchange: Exchange, attempt: Attempt) -> str | None:
        """Sends one attempt and waits for its outcome; the name under which another may be made.

        Lets go of the endpoint, or leaves that to the answer's stream.
        """
        connection: Connection | None = None
        attempt.notify = None  # The outcome is awaited here; a callback of the short way would handle it twice.
        try:
            if exchange.body is not None and self._policy is not None:
                await self._keep(exchange, exchange.body, self._policy.max_body)
            # A tunnel wants a socket that cannot turn out to be stale, and keeps it. An attempt that was stale wants a fresh one.
            if UPGRADE not in exchange.notes and not attempt.stale:
                connection = self.take(exchange, attempt)
            if connection is not None:
                await self._exchange(exchange, attempt, connection)
            if attempt.outcome is None or self._must_resend(exchange, attempt):
                connection = await self._connect(attempt)
                await self._exchange(exchange, attempt, connection)
        except Failed as failed:
            attempt.failed(failed, False)
        except BaseException:
            if connection is not None:
                connection.give_up()
            attempt.ended()
            raise
        return self.record(exchange, attempt)

    def _must_resend(self, exchange: Exchange, attempt: Attempt) -> bool:
        """Whether a stale attempt goes out again at once, on a connection that is surely fresh.

        RFC 9112 section 9.3.1: a kept connection may have been closed while the request was on its way. Nothing was answered, so
        a request that is safe to repeat may be sent again; any other has failed.
        """
        failed = attempt.outcome
        if not attempt.stale:
            return False
        assert isinstance(failed, Failed)
        if retry.may_repeat(exchange.method, failed.failure) and _replayable(exchange.body):
            return True
        raise failed

    async def _keep(self, exchange: Exchange, body: RequestBody, most: int) -> None:
        """Reads a body that is small enough before it is sent, so that it can be sent again if its request may be."""
        may_be_sent_again = exchange.method in retry.IDEMPOTENT or _KEY in exchange.headers
        if may_be_sent_again and body.complete is None and body.length is not None and body.length <= most:
            await body.whole(most)

    async def _connect(self, attempt: Attempt) -> Connection:
        config = self.pool.config
        timeout = config.timeouts.connect
        if attempt.limit != NEVER:
            timeout = max(0.0, min(timeout, attempt.limit - self._transport.clock.monotonic()))
        return await foreign(self._transport.connect(attempt.endpoint, timeout, config.max_idle, config.keepalive))

    async def _exchange(self, exchange: Exchange, attempt: Attempt, connection: Connection) -> None:
        """Sends the request on `connection` and waits until the attempt has an outcome."""
        body = exchange.body
        outcome: Wait[Attempt] = Wait()
        attempt.resend(outcome.wake)
        if UPGRADE in exchange.notes:
            attempt.accept = exchange.notes[UPGRADE]
            head = self._head(exchange, attempt, LINES)
            connection.send(head, attempt, self.pool.config.timeouts, limit=attempt.limit)
            await outcome
            return
        if body is None or body.complete is not None:
            self.send(exchange, attempt, connection)
            await outcome
            return
        length = body.length
        framing = _CHUNKED if length is None else b"Content-Length: %d\r\n" % length
        data = self._head(exchange, attempt, framing)
        timeouts, head_only = self.pool.config.timeouts, exchange.method == "HEAD"
        connection.send(data, attempt, timeouts, head_only=head_only, more=True, limit=attempt.limit)
        attempt.pump = pump = asyncio.ensure_future(_pump(body, connection, attempt, chunked=length is None))
        try:
            await outcome
        except BaseException:
            pump.cancel()
            raise
        if attempt.state is not State.STREAMING:  # It has an outcome without the rest, or after all of it.
            await asyncio.wait((pump,))  # Only one at a time may read a body, and the rest of it is to be read.

    def _head(self, exchange: Exchange, attempt: Attempt, framing: bytes) -> bytes:
        endpoint = attempt.endpoint
        target = exchange.target if self._rewrite is None else self._rewrite(exchange)
        if endpoint.path:
            target = endpoint.path + target
        # HTTP/1.0 knows no Host, but what goes to the endpoint is HTTP/1.1, which has one.
        host = exchange.headers.get("Host") or endpoint.authority if self.pool.config.preserve_host else endpoint.authority
        return request_head(exchange, target, host, framing)


async def _pump(body: RequestBody, connection: Connection, attempt: Attempt, *, chunked: bool) -> None:
    """Sends a body on as it arrives, no faster than the endpoint takes it and no further than its answer."""
    try:
        while True:
            connection.hold()
            chunk = await body.read()
            if connection.closed:
                return
            if not chunk:
                break
            drain = connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if drain is not None:
                await drain
        if chunked:
            connection.write(b"0\r\n\r\n")
        connection.sent()
        attempt.pump = None
    except Exception as error:
        # The client's body broke off, grew too large, or reading it failed inside the gateway: the endpoint must not take what
        # it has for a complete request.
        if not isinstance(error, Failed):
            log.exception("reading a request's body went wrong")
        failed = error if isinstance(error, Failed) else Failed(Failure.INTERNAL, why=repr(error))
        attempt.pump = None
        connection.break_off(failed)
        attempt.failed(failed, False)


def _replayable(body: RequestBody | None) -> bool:
    return body is None or body.complete is not None
