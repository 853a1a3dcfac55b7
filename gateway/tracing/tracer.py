"""Which requests are traced under one configuration, and what is kept of them when they end."""

from __future__ import annotations

from collections.abc import Callable
from os import urandom
from random import random
from time import perf_counter, time

from multidict import istr

from gateway.config.tables.server import TracingConfig
from gateway.core.content.grpc import counts_as
from gateway.core.exchange import Exchange
from gateway.core.headers import trace_context
from gateway.lifetime.logs.logqueue import LogQueue
from gateway.tracing.encoding import Facts, Masks, SpanEncoder
from gateway.tracing.trace import NOT_SAMPLED, HookSpan, Trace

BATCH = 256
_VERSIONS = {(1, 0): "1.0", (1, 1): "1.1", (2, 0): "2"}
_new = tuple.__new__  # A NamedTuple's own costs as much again.
_TRACEPARENT, _TRACESTATE, _AGENT = istr("traceparent"), istr("tracestate"), istr("User-Agent")


class Tracer:
    """Begins traces and ends them.

    Every request gets a traceparent of its own, for what it asks: that of the client's trace where
    it has sent a valid one, else of a new one. Whether it is recorded the client decides if its
    peer is a trusted proxy, else chance.
    """

    __slots__ = ("_append", "_encoder", "_ids", "_random", "_sample")

    def __init__(
        self,
        config: TracingConfig,
        queue: LogQueue,
        masks: Masks,
        random: Callable[[], float] = random,
    ) -> None:
        self._sample = config.sample
        self._append = queue.append
        self._encoder = SpanEncoder(masks)
        self._random = random
        self._ids: list[str] = []
        """Traceparents of traces that are not recorded, made ahead."""

    def __repr__(self) -> str:
        return f"<Tracer, sample {self._sample:g}>"

    def begin(self, exchange: Exchange) -> None:
        """Give a request its traceparent, and a Trace if it is recorded."""
        if _TRACEPARENT in exchange.headers:
            self._go_on(exchange)
            return
        traceparent = self._ids.pop() if self._ids else self._new()
        if self._random() < self._sample:
            self._record(exchange, traceparent[3:35], traceparent[36:52])
        else:
            exchange.traceparent = traceparent

    def _new(self) -> str:
        """Make traceparents: in a batch that costs a fifth of one at a time."""
        ids = urandom(24 * BATCH).hex()
        self._ids += [
            f"00-{ids[at : at + 32]}-{ids[at + 32 : at + 48]}-{NOT_SAMPLED}"
            for at in range(0, len(ids), 48)
        ]
        return self._ids.pop()

    def _go_on(self, exchange: Exchange) -> None:
        """Continue the client's trace; begin one where its field is not valid (section 4.3)."""
        given = exchange.headers.getall(_TRACEPARENT)
        own = self._ids.pop() if self._ids else self._new()
        context = trace_context(given[0]) if len(given) == 1 else None
        trace_id, caller, sampled = context or (own[3:35], "", False)
        if context is None or not exchange.trusted:
            sampled = self._random() < self._sample
        if sampled:
            self._record(exchange, trace_id, own[36:52], caller)
        else:
            exchange.traceparent = f"00-{trace_id}-{own[36:52]}-{NOT_SAMPLED}"

    def _record(self, exchange: Exchange, trace_id: str, span_id: str, caller: str = "") -> None:
        state = ",".join(exchange.headers.getall(_TRACESTATE, ())) if caller else ""
        exchange.trace = trace = Trace(trace_id, span_id, caller, state)
        exchange.traceparent = trace.traceparent(span_id)

    def finish(self, exchange: Exchange) -> None:
        """The finish hook of every pipeline: hands the spans of a recorded request over."""
        trace = exchange.trace
        if trace is None:
            return
        exchange.trace = None
        ended, append, encoder = perf_counter(), self._append, self._encoder
        offset = time() - ended
        for span in trace.spans:
            encode = encoder.hook if isinstance(span, HookSpan) else encoder.attempt
            append((encode, trace.trace_id, offset, span))
        times = (offset, exchange.started, ended)
        own = (exchange.path, exchange.query, exchange.request_id)
        append((encoder.server, trace, *times, *own, _facts(exchange)))


def _facts(exchange: Exchange) -> Facts:
    failed, identity, route = exchange.failed, exchange.identity, exchange.route
    status, error, reason = exchange.status(), "", exchange.reason
    if failed is not None:
        reason = failed.failure.reason
    if status >= 499:
        error = str(status) if failed is None else reason
    elif failed is None and reason and counts_as(exchange):
        error = reason
    version = _VERSIONS.get(exchange.version, "1.1")
    return _new(
        Facts,
        (
            exchange.method,
            exchange.scheme,
            exchange.host,
            version,
            exchange.client_ip,
            exchange.peer,
            exchange.headers.get(_AGENT),
            "" if route is None else route.config.path or route.config.prefix,
            "" if route is None else route.name,
            0 if status == 499 else status,  # Nothing was answered.
            error,
            reason,
            None if identity is None else identity.client,
            exchange.cache,
        ),
    )
