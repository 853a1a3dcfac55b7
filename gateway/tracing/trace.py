"""A request's place in a trace, and the spans below its own while it is here.

Ids are hexadecimal, as W3C Trace Context writes them. A Trace is `Exchange.trace`; neither sampling
nor export is known here.
"""

from __future__ import annotations

from collections.abc import Awaitable
from random import getrandbits
from time import perf_counter
from typing import Any, NamedTuple

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.core.wait import driven, own

SAMPLED = "01"
NOT_SAMPLED = "00"


def new_span_id() -> str:
    """Return 16 random hexadecimal digits, not all of them zero."""
    return f"{getrandbits(64) or 1:016x}"


class HookSpan(NamedTuple):
    """A hook that waited. began: perf_counter seconds. error: what it raised, "" if nothing."""

    name: str
    span_id: str
    parent: str
    began: float
    ended: float
    error: str


class AttemptSpan(NamedTuple):
    """An attempt at an endpoint, up to the head of its answer.

    endpoint: has scheme, host and port. target: as it was sent, "" when nothing was. status: 0
    without an answer; `error` then says why. number: how many attempts came before.
    """

    upstream: str
    endpoint: Any
    method: str
    target: str
    span_id: str
    parent: str
    began: float
    ended: float
    status: int
    error: str
    number: int


class Trace:
    """The recorded spans of one request.

    caller: the span id of the client's traceparent, "" without one. state: its tracestate.
    parent: the span that new ones are below: the request's own, or that of the hook which waits.
    """

    __slots__ = (
        "_attempts",
        "_sent",
        "_target",
        "caller",
        "parent",
        "span_id",
        "spans",
        "state",
        "trace_id",
    )

    def __init__(self, trace_id: str, span_id: str, caller: str = "", state: str = "") -> None:
        self.trace_id = trace_id
        self.span_id = self.parent = span_id
        self.caller = caller
        self.state = state
        self.spans: list[HookSpan | AttemptSpan] = []
        self._sent = self._target = ""
        self._attempts = 0

    def __repr__(self) -> str:
        return f"<Trace {self.trace_id}, {len(self.spans)} spans>"

    def traceparent(self, span_id: str) -> str:
        """Return the field for what `span_id` asks."""
        return f"00-{self.trace_id}-{span_id}-{SAMPLED}"

    def sends(self, target: str) -> str:
        """Begin an attempt's span; return the traceparent that goes out with the request."""
        self._sent, self._target = new_span_id(), target
        return self.traceparent(self._sent)

    def attempted(
        self, upstream: str, endpoint: Any, method: str, began: float, took: float, outcome: Any
    ) -> None:
        """End an attempt's span. outcome: a Reply, a Failed, or None where the client left."""
        error, status = "client_gone", 0
        if isinstance(outcome, Failed):
            error = outcome.failure.reason
        elif outcome is not None:
            status = outcome.status
            error = str(status) if status >= 400 else ""
        span_id, target = self._sent or new_span_id(), self._target
        self._sent = self._target = ""
        name = upstream, endpoint, method, target
        ids = span_id, self.parent, began, began + took
        # A NamedTuple's own costs as much again.
        span = tuple.__new__(AttemptSpan, (*name, *ids, status, error, self._attempts))
        self.spans.append(span)
        self._attempts += 1


@own
async def traced(exchange: Exchange, name: str, begun: Awaitable[Any]) -> Any:
    """Await what the hook `name` has begun, as `driven` does, in a span of its own."""
    trace = exchange.trace
    outer, before, began, error = trace.parent, exchange.traceparent, perf_counter(), ""
    trace.parent = span_id = new_span_id()
    exchange.traceparent = trace.traceparent(span_id)
    try:
        return await driven(begun)
    except BaseException as raised:
        failed = isinstance(raised, Failed)
        error = raised.failure.reason if failed else type(raised).__name__  # type: ignore[attr-defined]
        raise
    finally:
        trace.spans.append(HookSpan(name, span_id, outer, began, perf_counter(), error))
        trace.parent, exchange.traceparent = outer, before
