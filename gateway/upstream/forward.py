"""From an exchange to an endpoint and back: pick, send, wait, try again where that is safe.

One `Forward` per route, made at compose time. What may be retried is decided in retry.py, who gets it in pool.py, how bytes move
in transport.py; this file is the order of things. An endpoint that was picked is released exactly once, by its `_Turn`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from time import perf_counter

from gateway.config.pipeline import RouteConfig
from gateway.core.exchange import Attempt, Exchange, Reply, RequestBody
from gateway.core.failures import Failed, Failure
from gateway.core.telemetry import Telemetry
from gateway.upstream import retry
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.headers import request_head
from gateway.upstream.pool import Pool
from gateway.upstream.transport import Awaited, Connection, Transport

_NEVER = float("inf")
_BLAMED_STATUS = (502, 503, 504)
"""Statuses by which an endpoint says itself that it cannot: they count against its health and the upstream's breaker."""

_CHUNKED = b"Transfer-Encoding: chunked\r\n"


class _Turn(Awaited):
    """One attempt's hold on an endpoint: counts it in when made, out exactly once."""

    __slots__ = ("_blamed", "_held", "endpoint", "pool")

    def __init__(self, pool: Pool, endpoint: Endpoint) -> None:
        super().__init__()
        self.pool = pool
        self.endpoint = endpoint
        self._held = True
        self._blamed = False

    def answered(self, reply: Reply) -> None:
        self._blamed = reply.status in _BLAMED_STATUS
        if isinstance(reply.body, bytes):
            self.ended(None)
        super().answered(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        if not stale:
            self.ended(failed)
        super().failed(failed, stale)

    def ended(self, failed: Failed | None) -> None:
        if failed is not None:
            self.release(False if failed.failure.blames else None, failed.why)
        elif self._blamed:
            self.release(False, "answered that it is unavailable")
        else:
            self.release(True)

    def release(self, ok: bool | None, why: str = "") -> None:
        """ok: True and False count for and against the endpoint, None (the client left, say) neither."""
        if self._held:
            self._held = False
            self.pool.release(self.endpoint, ok, why)


class Forward:
    """Sends exchanges of one route to a pool."""

    def __init__(
        self,
        pool: Pool,
        transport: Transport,
        route: RouteConfig,
        telemetry: Telemetry,
        rewrite: Callable[[Exchange], str] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.pool = pool
        self._transport = transport
        self._timeout = route.timeout
        self._rewrite = rewrite
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._requests = telemetry.upstream_requests
        self._retries = telemetry.retries
        self._duration = telemetry.upstream_duration.cell((pool.name,))

    def __repr__(self) -> str:
        return f"<Forward to {self.pool!r}>"

    async def __call__(self, exchange: Exchange) -> Reply:
        """The endpoint's answer, whatever its status. Raises Failed when there is none after the last attempt."""
        pool = self.pool
        exchange.upstream = pool.name
        limit = _NEVER if self._timeout is None else self._transport.clock.monotonic() + self._timeout
        outcome, reason = await self._try(exchange, (), limit)
        if reason is None or not pool.budget.take(pool.in_flight + 1):
            return _answer(outcome)
        # The rare way: everything about retries is looked at only here.
        try:
            tried: list[Endpoint] = []
            while reason is not None and await self._wait(exchange, reason, limit):
                if isinstance(outcome, Reply) and not isinstance(outcome.body, bytes):
                    outcome.body.abort()
                tried.extend(endpoint for endpoint in pool.endpoints if endpoint.name == exchange.endpoint)
                outcome, reason = await self._try(exchange, tried, limit)
        finally:
            pool.budget.give()
        return _answer(outcome)

    async def _try(self, exchange: Exchange, tried: Sequence[Endpoint], limit: float) -> tuple[Reply | Failed, str | None]:
        """One attempt: what came of it, and the name in `retry.on` under which another may be made, if any."""
        pool = self.pool
        endpoint = pool.pick(exchange.client_ip, tried)
        exchange.endpoint = endpoint.name
        exchange.attempts += 1
        outcome: Reply | Failed
        began = perf_counter()
        try:
            outcome = await self._attempt(exchange, endpoint, limit)
            code = str(outcome.status)
        except Failed as failed:
            outcome, code = failed, "0"
        took = perf_counter() - began
        exchange.upstream_seconds += took
        self._duration.observe(took)
        self._requests.add((pool.name, endpoint.name, code))
        config = pool.config.retry
        if config is None:
            return outcome, None
        if isinstance(outcome, Reply):
            if outcome.status < 500:
                return outcome, None
            how: Failure | int = outcome.status
        else:
            how = outcome.failure
        keyed = "Idempotency-Key" in exchange.headers
        reason = retry.may_retry(config, exchange.method, how, exchange.attempts, _replayable(exchange.body), keyed)
        if reason is not None:
            why = str(outcome) if isinstance(outcome, Failed) else f"status {code}"
            exchange.tries = [*(exchange.tries or ()), Attempt(endpoint.name, took, why)]
        return outcome, reason

    async def _wait(self, exchange: Exchange, reason: str, limit: float) -> bool:
        """Backs off before another attempt; False when the route's time would be over before it."""
        config = self.pool.config.retry
        assert config is not None
        delay = retry.delay(config, exchange.attempts, self._rng)
        if self._transport.clock.monotonic() + delay >= limit:
            return False
        self._retries.add((self.pool.name, reason))
        if delay > 0:
            await asyncio.sleep(delay)
        return True

    async def _attempt(self, exchange: Exchange, endpoint: Endpoint, limit: float) -> Reply:
        """One try at one endpoint that has been picked; releases it, or leaves that to the answer's stream."""
        turn = _Turn(self.pool, endpoint)
        connection: Connection | None = None
        try:
            connection = self._transport.take(endpoint)
            if connection is None:
                connection = await self._connect(endpoint)
            try:
                return await self._exchange(exchange, turn, connection, limit)
            except Failed:
                # RFC 9112 section 9.3.1: a kept connection may have been closed while the request was on its way. Nothing was
                # answered, so a request that is safe to repeat goes out again at once, on a connection that is surely fresh.
                if not turn.stale or not retry.is_idempotent(exchange.method) or not _replayable(exchange.body):
                    raise
            turn.future = asyncio.get_running_loop().create_future()
            turn.stale = False
            connection = await self._connect(endpoint)
            return await self._exchange(exchange, turn, connection, limit)
        except Failed as failed:
            turn.ended(failed)
            raise
        except BaseException:
            if connection is not None:
                connection.give_up()
            turn.release(None)
            raise

    async def _connect(self, endpoint: Endpoint) -> Connection:
        config = self.pool.config
        return await self._transport.connect(endpoint, config.timeouts.connect, config.max_idle, config.keepalive)

    async def _exchange(self, exchange: Exchange, turn: _Turn, connection: Connection, limit: float) -> Reply:
        endpoint, body, timeouts = turn.endpoint, exchange.body, self.pool.config.timeouts
        target = exchange.target if self._rewrite is None else self._rewrite(exchange)
        if endpoint.path:
            target = endpoint.path + target
        host = exchange.headers.get("Host", "") if self.pool.config.preserve_host else endpoint.authority
        head_only = exchange.method == "HEAD"
        if body is None:
            framing = b"" if exchange.method not in ("POST", "PUT", "PATCH") else b"Content-Length: 0\r\n"
            data = request_head(exchange, target, host, framing)
            connection.send(data, turn, timeouts, head_only=head_only, limit=limit)
            return await turn.future
        whole = body.complete
        if whole is not None:
            data = request_head(exchange, target, host, b"Content-Length: %d\r\n" % len(whole)) + whole
            connection.send(data, turn, timeouts, head_only=head_only, limit=limit)
            return await turn.future
        framing = _CHUNKED if body.length is None else b"Content-Length: %d\r\n" % body.length
        data = request_head(exchange, target, host, framing)
        connection.send(data, turn, timeouts, head_only=head_only, more=True, limit=limit)
        pump = asyncio.ensure_future(_pump(body, connection, turn, chunked=body.length is None))
        try:
            return await turn.future
        finally:
            pump.cancel()


async def _pump(body: RequestBody, connection: Connection, turn: _Turn, *, chunked: bool) -> None:
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
        connection.give_up()
        turn.failed(failed, False)


def _answer(outcome: Reply | Failed) -> Reply:
    if isinstance(outcome, Failed):
        raise outcome
    return outcome


def _replayable(body: RequestBody | None) -> bool:
    return body is None or body.complete is not None
