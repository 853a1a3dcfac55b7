"""From an exchange to an endpoint and back: pick, send, wait, retry where that is safe.

One `Forward` per route, made at compose time. What may be retried is decided in retry.py, who gets
it in pool/, how bytes move in connections/; this file is the order of things. An endpoint that was
picked is released exactly once, by its Attempt.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from time import perf_counter
from typing import Final

from mypy_extensions import mypyc_attr

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.traffic import GRPC_STATUSES, POLICIES, RetryConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.core.content.grpc import CALL, DEADLINE, NAMES, is_grpc
from gateway.core.exchange import AttemptRecord, Exchange, Reply, RequestBody
from gateway.core.failures import Failed, Failure, OwnFailure
from gateway.core.telemetry import HistogramCell, Telemetry
from gateway.core.wait import own, sleep
from gateway.protocols.grpc import parse_timeout
from gateway.protocols.websocket import UPGRADE
from gateway.upstream import retry
from gateway.upstream.attempt import Attempt, State
from gateway.upstream.connections.interfaces import NEVER, Stream
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.pool import Pool
from gateway.upstream.pump import Pump

_KEY = "Idempotency-Key"

DEFAULT_RETRY = RetryConfig()

_CODES: Final = [str(code) for code in range(1000)]


@mypyc_attr(allow_interpreted_subclasses=True)
class Forward:
    """Send exchanges of one route to a pool: `await forward(exchange)`."""

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
        """config: the pool's configuration when this is used, None for its current one."""
        pool_config = config or pool.config
        self.pool = pool
        self._transport = transport
        timeouts = [
            seconds
            for seconds in (route.timeout, pool_config.timeouts.total)
            if seconds is not None
        ]
        self._timeout = min(timeouts, default=None)
        self._policy = POLICIES[route.retry] if route.retry else pool_config.retry
        self._http2 = pool_config.protocol != "http1"
        retried = () if self._policy is None else self._policy.on
        self._retries_grpc = self._http2 and not GRPC_STATUSES.isdisjoint(retried)
        self._rewrite = rewrite
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._requests = telemetry.upstream_requests.values
        self._retries = telemetry.retries
        self._duration = telemetry.upstream_duration.cell((pool.name,))
        self._by_endpoint = telemetry.upstream_endpoint_duration

    def __repr__(self) -> str:
        return f"<Forward to {self.pool!r}>"

    def key(self, exchange: Exchange) -> str:
        """Return what balancing by hash goes by."""
        return exchange.client_ip

    @own
    async def __call__(self, exchange: Exchange) -> Reply:
        """The endpoint's answer, whatever its status. Raises Failed if there is none in the end."""
        pool, timeout = self.pool, self._timeout
        exchange.upstream, body, policy = pool.name, exchange.body, self._policy
        if body is not None and policy is not None and body.complete is None:
            await self._keep(exchange, body, policy.max_body)
        limit = NEVER if timeout is None else self._transport.clock.monotonic() + timeout
        if self._http2 and is_grpc(exchange):
            limit = await self._begin_call(exchange, limit)
        attempt, retries = Attempt(pool, pool.pick(self.key(exchange)), exchange, limit), None
        try:
            while True:
                stream: Stream | None = None
                try:
                    # A tunnel wants a socket that cannot turn out to be stale, and keeps it.
                    if not attempt.accept:
                        stream = self._transport.take(attempt.endpoint, look=body is not None)
                    while True:
                        if stream is None:
                            stream = await self._connect(exchange, attempt)
                            attempt.resend()
                        if self.send(exchange, attempt, stream):
                            await self._send_body(exchange, attempt, stream)
                        else:
                            await attempt
                        if not (attempt.stale and self._must_resend(exchange, attempt)):
                            break
                        stream = None
                except Failed as failed:
                    attempt.failed(failed, False)
                except BaseException:
                    self._give_up(exchange, attempt, stream)
                    raise
                if (reason := self.record(exchange, attempt)) is None:
                    break
                retries = retries or Retries(self, exchange)
                following = await retries.next(attempt, reason)
                if following is None:
                    break
                attempt = following
        finally:
            if retries is not None:
                retries.end()
        outcome = attempt.outcome
        if outcome.__class__ is Failed:
            raise outcome
        return outcome  # type: ignore[return-value]

    def send(self, exchange: Exchange, attempt: Attempt, stream: Stream) -> bool:
        """Send the request: its head, and its body if all of that is here. True when the body is to
        follow."""
        endpoint, config = attempt.endpoint, self.pool.config
        target = exchange.target if self._rewrite is None else self._rewrite(exchange)
        if endpoint.path:
            target = endpoint.path + target
        if (trace := exchange.trace) is not None:
            exchange.traceparent = trace.sends(target)
        # HTTP/1.0 knows no Host, but what goes to the endpoint is HTTP/1.1, which has one.
        host = (
            exchange.headers.get("Host") or endpoint.authority
            if config.preserve_host
            else endpoint.authority
        )
        return stream.send(exchange, target, host, attempt, config.timeouts, attempt.limit)

    def record(self, exchange: Exchange, attempt: Attempt) -> str | None:
        """Count an attempt that has an outcome; the name in `retry.on` under which to try again, or
        None."""
        pool, endpoint, outcome = self.pool, attempt.endpoint, attempt.outcome
        took = perf_counter() - attempt.began
        name = exchange.endpoint = endpoint.name
        exchange.attempts += 1
        exchange.upstream_seconds += took
        duration = self._duration  # HistogramCell.observe and Family.add, without the calls.
        bucket = bisect_left(duration.bounds, took)
        duration.counts[bucket] += 1
        duration.total += took
        own = endpoint.duration or self._cell(endpoint)
        own.counts[bucket] += 1
        own.total += took
        if exchange.trace is not None:
            self._trace(exchange, attempt, took)
        how: Failure | OwnFailure | int | str
        if type(outcome) is not Failed:
            how = outcome.status  # type: ignore[union-attr]
            self._requests[(pool.name, name, _CODES[how])] += 1
            if how < 500:
                if not self._retries_grpc:
                    return None
                how = _grpc_status(outcome)  # type: ignore[arg-type]
        else:
            assert outcome is not None
            how = outcome.failure
            if how is Failure.TIMEOUT and self._timeout is not None:
                outcome.why += f", {self._timeout:g} s"
            self._requests[(pool.name, name, "0")] += 1
        config = self._policy
        if config is None:
            return None
        keyed = _KEY in exchange.headers
        # An endpoint may have acted upon a WebSocket's handshake: only one that was never sent goes
        # out again.
        replayable = _replayable(exchange.body) and UPGRADE not in exchange.notes
        if not replayable and exchange.bytes_in:
            return None  # An endpoint over HTTP/2 may refuse what it has begun to read.
        reason = retry.may_retry(config, exchange.method, how, exchange.attempts, replayable, keyed)
        if reason is not None:
            why = str(outcome) if isinstance(outcome, Failed) else f"status {how}"
            exchange.tries = [*(exchange.tries or ()), AttemptRecord(name, took, why)]
        return reason

    def _cell(self, endpoint: Endpoint) -> HistogramCell:
        cell = endpoint.duration = self._by_endpoint.cell((self.pool.name, endpoint.name))
        return cell

    def _give_up(self, exchange: Exchange, attempt: Attempt, stream: Stream | None) -> None:
        """Let go of an attempt without an outcome, such as that of a client which has left."""
        if stream is not None:
            stream.give_up()
        attempt.ended()
        self._trace(exchange, attempt, perf_counter() - attempt.began)

    def _trace(self, exchange: Exchange, attempt: Attempt, took: float) -> None:
        """End the span of an attempt, if the request is recorded."""
        if exchange.trace is not None:
            asked = self.pool.name, attempt.endpoint, exchange.method
            exchange.trace.attempted(*asked, attempt.began, took, attempt.outcome)

    async def back_off(self, exchange: Exchange, attempt: Attempt, at_once: bool) -> bool:
        """Wait before another attempt, unless it is made `at_once`; False when there is no time for
        one."""
        config, outcome, delay = self._policy, attempt.outcome, 0.0
        assert config is not None
        if not at_once:
            said = outcome.get(b"retry-after") if isinstance(outcome, Reply) else None
            asked = retry.asked_for(said, self._transport.clock.wall()) if said is not None else 0.0
            if asked > config.max_delay:
                return False  # Longer than we would wait: the client gets the answer, and can.
            delay = max(retry.delay(config, exchange.attempts, self._rng), asked)
        if self._transport.clock.monotonic() + delay >= attempt.limit:
            return False
        if delay > 0:
            self.pool.budget.waiting += 1
            try:
                await sleep(delay)
            finally:
                self.pool.budget.waiting -= 1
        return True

    def first_attempts(self) -> int:
        """The number of first attempts at this upstream since the start."""
        return sum(self._duration.counts) - self.pool.budget.made

    def count_retry(self, reason: str) -> None:
        """In gateway_retries_total."""
        self._retries.add((self.pool.name, reason))

    async def _send_body(self, exchange: Exchange, attempt: Attempt, stream: Stream) -> None:
        """Send the body as it arrives, until the attempt has an outcome."""
        assert exchange.body is not None
        pump = Pump(exchange.body, stream, attempt)
        pump.start()
        try:
            await attempt
        except BaseException:
            pump.cancel()
            raise
        if attempt.state is not State.STREAMING:
            await pump.over  # Only one at a time may read a body, and the rest of it is to be read.

    def _must_resend(self, exchange: Exchange, attempt: Attempt) -> bool:
        """Return True if a stale attempt goes out again at once, on a fresh connection.

        RFC 9112 section 9.3.1: a kept connection may have been closed while the request was on its
        way. Nothing was answered, so a request that is safe to repeat may be sent again; any other
        has failed.
        """
        failed = attempt.outcome
        assert isinstance(failed, Failed)
        if retry.may_repeat(exchange.method, failed.failure) and _replayable(exchange.body):
            return True
        raise failed

    async def _keep(self, exchange: Exchange, body: RequestBody, most: int) -> None:
        """Read a small body before it is sent, so that a request that may be sent again can be."""
        may_be_sent_again = exchange.method in retry.IDEMPOTENT or _KEY in exchange.headers
        if may_be_sent_again and body.length is not None and body.length <= most:
            await body.whole(most)

    async def _begin_call(self, exchange: Exchange, limit: float) -> float:
        """The limit of a call of gRPC, whose client may have a deadline of its own. Raises Failed
        where that has passed.

        A message that is here is kept whole, so that it can be sent again.
        """
        body = exchange.body
        exchange.notes[CALL] = False
        if body is not None and body.complete is None and body.received:
            most = DEFAULT_RETRY.max_body if self._policy is None else self._policy.max_body
            if getattr(body, "arrived", most + 1) <= most:
                await body.whole(most)
        said = exchange.headers.get("grpc-timeout")
        seconds = None if said is None else parse_timeout(said)
        if seconds is None:
            return limit
        left = seconds - (perf_counter() - exchange.started)
        if left <= 0:
            raise Failed(Failure.DEADLINE_EXCEEDED, why="the client's deadline has passed")
        deadline = self._transport.clock.monotonic() + left
        if deadline < limit:
            exchange.notes[DEADLINE] = limit = deadline
        return limit

    async def _connect(self, exchange: Exchange, attempt: Attempt) -> Stream:
        config = self.pool.config
        timeout = config.timeouts.connect
        if attempt.limit != NEVER:
            timeout = max(0.0, min(timeout, attempt.limit - self._transport.clock.monotonic()))
        connect = self._transport.connect
        if attempt.accept:
            connect = self._transport.connect_http1  # A WebSocket takes the connection over.
        try:
            return await connect(attempt.endpoint, timeout, config.max_idle, config.keepalive)
        except Failed as failed:
            if (
                failed.failure is Failure.CONNECT_TIMEOUT
                and exchange.notes.get(DEADLINE, NEVER) <= self._transport.clock.monotonic()
            ):
                raise Failed(Failure.DEADLINE_EXCEEDED, why=failed.why) from None
            raise


class Retries:
    """The further attempts of one exchange: whether there is another, when, and at which endpoint.

    `end` follows, however they ended: it gives the place in the pool's budget back.
    """

    __slots__ = ("_exchange", "_forward", "_paid", "_retried", "_tried")

    def __init__(self, forward: Forward, exchange: Exchange) -> None:
        self._forward = forward
        self._exchange = exchange
        self._tried: list[Endpoint] = []
        self._paid = self._retried = False

    async def next(self, attempt: Attempt, reason: str) -> Attempt | None:
        """The attempt that follows `attempt`, as long as there is time for one and a place in the
        budget.

        None when what came of `attempt` is the answer. Raises Failed where that has been given up
        for another endpoint and there is none.
        """
        forward, exchange, pool = self._forward, self._exchange, self._forward.pool
        tried = self._tried
        tried.append(attempt.endpoint)
        # What was never sent is no load on any endpoint: it goes to another one at once, whatever
        # the budget says.
        free = reason == "connect" and any(endpoint not in tried for endpoint in pool.eligible)
        if not free and not self._paid:
            budget = pool.budget
            self._paid = budget.take(pool.in_flight + budget.waiting + 1, forward.first_attempts())
            if not self._paid:
                return None
        try:
            if not await forward.back_off(exchange, attempt, free):
                return None
            streaming = attempt.state is State.STREAMING
            attempt.give_up()  # It may hold the only place there is.
            try:
                endpoint = pool.pick(forward.key(exchange), tried)
            except Failed:
                if streaming:
                    raise
                return None
        except BaseException:
            attempt.give_up()
            raise
        forward.count_retry(reason)
        pool.budget.attempt(self._retried)
        self._retried = self._paid
        return Attempt(pool, endpoint, exchange, attempt.limit)

    def end(self) -> None:
        """There are no more."""
        if self._paid:
            self._forward.pool.budget.give()


def _grpc_status(reply: Reply) -> str:
    """The status of a call that failed at once, by its name in `retry.on`; "" for others. One that
    comes behind messages is the client's business: it has them."""
    status = reply.index.get(b"grpc-status")
    return "" if status is None else NAMES.get(status, "")


def _replayable(body: RequestBody | None) -> bool:
    return body is None or body.complete is not None
