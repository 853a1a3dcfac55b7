"""From an exchange to an endpoint and back: pick, send, wait, try again where that is safe.

One `Forward` per route, made at compose time. What may be retried is decided in retry.py, who gets it in pool.py, how bytes move
in connection.py; this file is the order of things. An endpoint that was picked is released exactly once, by its `Turn`.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from time import perf_counter

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.traffic import POLICIES
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.exchange import Attempt, Exchange, Reply, RequestBody
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.protocols.websocket import LINES, UPGRADE
from gateway.upstream import retry
from gateway.upstream.connections.http1.connection import Connection, Flight
from gateway.upstream.connections.http1.headers import request_head
from gateway.upstream.connections.http1.switched import Switched
from gateway.upstream.connections.transport import Awaited, Transport
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool

_NEVER = float("inf")
_KEY = "Idempotency-Key"

_CODES = [str(code) for code in range(1000)]
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_NO_BODY = b"Content-Length: 0\r\n"
_BODY_METHODS = frozenset(("POST", "PUT", "PATCH"))
"""Methods whose requests say so when they have no body (RFC 9110 section 8.6)."""


class Turn(Awaited):
    """One attempt's hold on an endpoint that was picked for it: lets go exactly once, for a tunnel when that ends."""

    __slots__ = ("_held", "_reply", "endpoint", "pool", "pump")

    def __init__(self, pool: Pool, endpoint: Endpoint) -> None:
        super().__init__()
        self.pump: asyncio.Future[None] | None = None
        self.pool = pool
        self.endpoint = endpoint
        self._held = True
        self._reply: Reply | None = None

    def answered(self, reply: Reply) -> None:
        self._reply = reply
        if isinstance(reply, Switched):
            self.pool.switched(self.endpoint)
        elif isinstance(reply.body, bytes):
            self.ended(None)
        super().answered(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        if not stale:
            self.ended(failed)
        super().failed(failed, stale)

    def ended(self, failed: Failed | None) -> None:
        if self.pump is not None:
            self.pump.cancel()
            self.pump = None
        if self._held:
            self._held = False
            if isinstance(self._reply, Switched):
                self.pool.release_tunnel(self.endpoint)
            else:
                release(self.pool, self.endpoint, failed or self._reply)


def release(pool: Pool, endpoint: Endpoint, outcome: Reply | Failed | None) -> None:
    """Lets go of a picked endpoint, for which `outcome` counts as it deserves; None (the client left, say) not at all."""
    if isinstance(outcome, Reply):
        status = outcome.status
        if status in pool.blamed:
            pool.release(endpoint, False, f"answered {status}", str(status))
        else:
            pool.release(endpoint, True)
    elif outcome is None:
        pool.release(endpoint, None)
    else:
        failure = outcome.failure
        pool.release(endpoint, False if failure.blames else None, outcome.why, failure.retry or "")


class Forward:
    """Sends exchanges of one route to a pool: by `await forward(exchange)`, or in steps (begin, send, record, settle)."""

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

    async def __call__(self, exchange: Exchange, picked: Endpoint | None = None) -> Reply:
        """The endpoint's answer, whatever its status; `picked` is tried first. Raises Failed when there is none in the end."""
        exchange.upstream = self.pool.name
        limit = self.limit()
        endpoint = self._pick(exchange) if picked is None else picked
        outcome, reason = await self._try(exchange, endpoint, limit)
        return await self.settle(exchange, outcome, reason, limit)

    def limit(self) -> float:
        """The moment (clock.monotonic) by which an exchange that begins now must be over."""
        return _NEVER if self._timeout is None else self._transport.clock.monotonic() + self._timeout

    def begin(self, exchange: Exchange) -> tuple[Endpoint, Connection | None]:
        """Picks an endpoint, to be released by the caller, and takes an idle connection to it if there is one. Raises Failed."""
        endpoint = self.pool.pick(exchange.client_ip)
        return endpoint, self._take(exchange, endpoint)

    def send(self, exchange: Exchange, endpoint: Endpoint, connection: Connection, flight: Flight, limit: float) -> None:
        """Sends a request that has no body, or one that is complete."""
        body = exchange.body
        if body is not None:
            whole = body.complete
            assert whole is not None
            data = self._head(exchange, endpoint, b"Content-Length: %d\r\n" % len(whole)) + whole
        else:
            data = self._head(exchange, endpoint, _NO_BODY if exchange.method in _BODY_METHODS else b"")
        connection.send(data, flight, self.pool.config.timeouts, head_only=exchange.method == "HEAD", limit=limit)

    def record(self, exchange: Exchange, endpoint: Endpoint, outcome: Reply | Failed, began: float) -> str | None:
        """Counts an attempt that began at `began` (perf_counter); the name in `retry.on` under which to try again, or None."""
        pool = self.pool
        took = perf_counter() - began
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
            exchange.tries = [*(exchange.tries or ()), Attempt(endpoint.name, took, why)]
        return reason

    async def settle(self, exchange: Exchange, outcome: Reply | Failed, reason: str | None, limit: float) -> Reply:
        """What an attempt's outcome comes to in the end, further attempts included. Raises Failed."""
        if reason is not None:
            outcome = await self._again(exchange, outcome, reason, limit)
        if isinstance(outcome, Failed):
            raise outcome
        return outcome

    async def _again(self, exchange: Exchange, outcome: Reply | Failed, reason: str | None, limit: float) -> Reply | Failed:
        """Further attempts, as long as there is a reason for one, time, and a place in the budget."""
        pool, paid, again = self.pool, False, False
        tried: list[Endpoint] = []
        try:
            while reason is not None:
                tried.extend(endpoint for endpoint in pool.endpoints if endpoint.name == exchange.endpoint)
                # What was never sent is no load on anybody: it goes to somebody else at once, whatever the budget says.
                free = reason == "connect" and any(endpoint not in tried for endpoint in pool.eligible)
                if not free and not paid:
                    budget = pool.budget
                    paid = budget.take(pool.in_flight + budget.waiting + 1, sum(self._duration.counts) - budget.made)
                    if not paid:
                        break
                if not await self._wait(exchange, outcome, 0.0 if free else None, limit):
                    break
                streaming = isinstance(outcome, Reply) and not isinstance(outcome.body, bytes)
                if streaming:
                    outcome.body.abort()  # type: ignore[union-attr] # It may hold the only place there is.
                try:
                    endpoint = self._pick(exchange, tried)
                except Failed:
                    if streaming:
                        raise
                    break  # Nobody can be asked any more, so what was answered, or how it failed, is the answer.
                self._retries.add((pool.name, reason))
                pool.budget.attempt(again)
                again = paid
                outcome, reason = await self._try(exchange, endpoint, limit)
        finally:
            if paid:
                pool.budget.give()
        return outcome

    def _pick(self, exchange: Exchange, tried: Sequence[Endpoint] = ()) -> Endpoint:
        return self.pool.pick(exchange.client_ip, tried)

    async def _try(self, exchange: Exchange, endpoint: Endpoint, limit: float) -> tuple[Reply | Failed, str | None]:
        """One attempt at a picked endpoint: what came of it, and under which name another may be made."""
        began = perf_counter()
        outcome: Reply | Failed
        try:
            outcome = await self._attempt(exchange, endpoint, limit)
        except Failed as failed:
            outcome = failed
        return outcome, self.record(exchange, endpoint, outcome, began)

    async def _wait(self, exchange: Exchange, outcome: Reply | Failed, delay: float | None, limit: float) -> bool:
        """Backs off before another attempt, for `delay` seconds if that is not None; False when there is no time for one."""
        config = self._policy
        assert config is not None
        if delay is None:
            delay = retry.delay(config, exchange.attempts, self._rng)
            said = outcome.get(b"retry-after") if isinstance(outcome, Reply) else None
            asked = retry.asked_for(said, self._transport.clock.wall()) if said is not None else 0.0
            if asked > config.max_delay:
                return False  # Longer than we would wait: the client is told, and can.
            delay = max(delay, asked)
        if self._transport.clock.monotonic() + delay >= limit:
            return False
        if delay > 0:
            self.pool.budget.waiting += 1
            try:
                await asyncio.sleep(delay)
            finally:
                self.pool.budget.waiting -= 1
        return True

    async def _attempt(self, exchange: Exchange, endpoint: Endpoint, limit: float) -> Reply:
        """One try at one endpoint that has been picked; lets go of it, or leaves that to the answer's stream."""
        turn = Turn(self.pool, endpoint)
        connection: Connection | None = None
        try:
            if exchange.body is not None and self._policy is not None:
                await self._keep(exchange, exchange.body, self._policy.max_body)
            if UPGRADE not in exchange.notes:  # A tunnel wants a socket that cannot turn out to be stale, and keeps it.
                connection = self._take(exchange, endpoint)
            if connection is None:
                connection = await self._connect(endpoint, limit)
            try:
                return await self._exchange(exchange, turn, connection, limit)
            except Failed as failed:
                # RFC 9112 section 9.3.1: a kept connection may have been closed while the request was on its way. Nothing was
                # answered, so a request that is safe to repeat goes out again at once, on a connection that is surely fresh.
                if not turn.stale or not retry.may_repeat(exchange.method, failed.failure) or not _replayable(exchange.body):
                    raise
            turn.future = asyncio.get_running_loop().create_future()
            turn.stale = False
            connection = await self._connect(endpoint, limit)
            return await self._exchange(exchange, turn, connection, limit)
        except Failed as failed:
            turn.ended(failed)
            raise
        except BaseException:
            if connection is not None:
                connection.give_up()
            turn.ended(None)
            raise

    def _take(self, exchange: Exchange, endpoint: Endpoint) -> Connection | None:
        """An idle connection, if there is one. What must not be repeated goes only where nothing speaks against it."""
        transport = self._transport
        return transport.take(endpoint) if exchange.method in retry.IDEMPOTENT else transport.take_quiet(endpoint)

    async def _keep(self, exchange: Exchange, body: RequestBody, most: int) -> None:
        """Reads a body that is small enough before it is sent, so that it can be sent again if its request may be."""
        may_be_sent_again = exchange.method in retry.IDEMPOTENT or _KEY in exchange.headers
        if may_be_sent_again and body.complete is None and body.length is not None and body.length <= most:
            await body.whole(most)

    async def _connect(self, endpoint: Endpoint, limit: float) -> Connection:
        config = self.pool.config
        timeout = config.timeouts.connect
        if limit != _NEVER:
            timeout = max(0.0, min(timeout, limit - self._transport.clock.monotonic()))
        return await self._transport.connect(endpoint, timeout, config.max_idle, config.keepalive)

    async def _exchange(self, exchange: Exchange, turn: Turn, connection: Connection, limit: float) -> Reply:
        body = exchange.body
        if UPGRADE in exchange.notes:
            turn.accept = exchange.notes[UPGRADE]
            head = self._head(exchange, turn.endpoint, LINES)
            connection.send(head, turn, self.pool.config.timeouts, limit=limit)
            return await turn.future
        if body is None or body.complete is not None:
            self.send(exchange, turn.endpoint, connection, turn, limit)
            return await turn.future
        length = body.length
        framing = _CHUNKED if length is None else b"Content-Length: %d\r\n" % length
        data = self._head(exchange, turn.endpoint, framing)
        timeouts = self.pool.config.timeouts
        connection.send(data, turn, timeouts, head_only=exchange.method == "HEAD", more=True, limit=limit)
        turn.pump = pump = asyncio.ensure_future(_pump(body, connection, turn, chunked=length is None))
        try:
            reply = await turn.future
        except BaseException:
            pump.cancel()
            raise
        if isinstance(reply.body, bytes):  # It has answered without the rest.
            pump.cancel()
            await asyncio.wait((pump,))  # Only one at a time may read a body, and the rest of it is to be read.
        return reply  # What is still arriving may depend on the rest: see `_Turn.ended`.

    def _head(self, exchange: Exchange, endpoint: Endpoint, framing: bytes) -> bytes:
        target = exchange.target if self._rewrite is None else self._rewrite(exchange)
        if endpoint.path:
            target = endpoint.path + target
        # HTTP/1.0 knows no Host, but what goes to the endpoint is HTTP/1.1, which has one.
        host = exchange.headers.get("Host") or endpoint.authority if self.pool.config.preserve_host else endpoint.authority
        return request_head(exchange, target, host, framing)


async def _pump(body: RequestBody, connection: Connection, turn: Turn, *, chunked: bool) -> None:
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
    except Failed as failed:
        # The client's body broke off or grew too large: the endpoint must not take what it has for a complete request.
        turn.pump = None
        connection.break_off(failed)
        turn.failed(failed, False)


def _replayable(body: RequestBody | None) -> bool:
    return body is None or body.complete is not None
