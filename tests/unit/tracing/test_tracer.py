"""Which requests are traced, and what is handed over at their end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import TracingConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import trace_context
from gateway.tracing.encoding import Masks
from gateway.tracing.trace import HookSpan
from gateway.tracing.tracer import Tracer
from tests.exchange import exchange

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"


class Queue:
    def __init__(self) -> None:
        self.records: list[tuple[Any, ...]] = []

    def append(self, record: tuple[Any, ...]) -> None:
        self.records.append(record)


def tracer(sample: float, chance: float = 0.5) -> tuple[Tracer, Queue]:
    queue = Queue()
    config = TracingConfig("http://127.0.0.1:4318", sample)
    return Tracer(config, queue, Masks(str), lambda: chance), queue  # type: ignore[arg-type]


def begun(sample: float, *fields: tuple[str, str], trusted: bool = False) -> Exchange:
    one = exchange(headers=fields, trusted=trusted)
    tracer(sample)[0].begin(one)
    return one


@pytest.mark.parametrize(
    ("sample", "given", "trusted", "recorded", "continued"),
    [
        (1.0, None, False, True, False),
        (0.0, None, False, False, False),
        (0.4, None, False, False, False),
        (0.6, None, False, True, False),
        (0.0, SAMPLED, True, True, True),
        (1.0, UNSAMPLED, True, False, True),
        (0.0, SAMPLED, False, False, True),
        (1.0, UNSAMPLED, False, True, True),
        (1.0, "00-zero", True, True, False),
        (0.0, "00-zero", True, False, False),
        (1.0, "01" + SAMPLED[2:] + "-more", True, True, True),
    ],
)
def test_who_decides(
    sample: float, given: str | None, trusted: bool, recorded: bool, continued: bool
):
    one = begun(sample, *([("traceparent", given)] if given else []), trusted=trusted)
    context = trace_context(one.traceparent)
    assert context is not None and context[2] is recorded is (one.trace is not None)
    assert (context[0] == TRACE) is continued and context[1] != CALLER
    if one.trace is not None:
        assert one.trace.caller == (CALLER if continued else "")


def test_two_traceparents_are_none():
    one = begun(1.0, ("traceparent", SAMPLED), ("traceparent", SAMPLED), trusted=True)
    assert one.trace is not None and one.trace.trace_id != TRACE


def test_the_state_is_that_of_a_trace_that_goes_on():
    state = ("tracestate", "a=1"), ("tracestate", "b=2")
    one = begun(1.0, ("traceparent", SAMPLED), *state)
    assert one.trace is not None and one.trace.state == "a=1,b=2"
    other = begun(1.0, *state)
    assert other.trace is not None and other.trace.state == ""


def test_ids_are_new_each_time():
    made = [begun(share).traceparent for share in (0.0, 1.0) for _ in range(50)]
    assert len({one[3:35] for one in made}) == len({one[36:52] for one in made}) == 100


def finished(
    *, sample: float = 1.0, failed: Failed | None = None, written: bool = True, reason: str = ""
) -> Queue:
    made, queue = tracer(sample)
    one = exchange(headers={"User-Agent": "sdk/1"})
    one.route = SimpleNamespace(name="cameras", config=RouteConfig("cameras", prefix="/cameras"))
    made.begin(one)
    one.reply, one.failed, one.written, one.reason = Reply(200), failed, written, reason
    made.finish(one)
    made.finish(one)
    return queue


def test_a_request_is_handed_over_once():
    [record] = finished().records
    assert record[8][6:10] == ("sdk/1", "/cameras", "cameras", 200)


def test_one_that_is_not_recorded_is_not():
    assert finished(sample=0.0).records == []


@pytest.mark.parametrize(
    ("failure", "written", "status", "error"),
    [
        (Failure.CIRCUIT_OPEN, False, 503, "circuit_open"),
        (Failure.FORBIDDEN, False, 403, ""),
        (Failure.CLIENT_GONE, False, 0, "client_gone"),
        (Failure.CLIENT_GONE, True, 200, ""),
    ],
)
def test_what_failed(failure: Failure, written: bool, status: int, error: str):
    [record] = finished(failed=Failed(failure), written=written).records
    assert record[8][9:12] == (status, error, failure.reason)


@pytest.mark.parametrize(
    ("reason", "error"),
    [("grpc_internal", "grpc_internal"), ("grpc_not_found", ""), ("preflight", "")],
)
def test_calls_that_failed_by_their_endpoints_fault(reason: str, error: str):
    [record] = finished(reason=reason).records
    assert record[8][9:12] == (200, error, reason)


def test_spans_of_hooks_and_attempts_come_first():
    made, queue = tracer(1.0)
    one = exchange(version=(2, 0))
    made.begin(one)
    assert one.trace is not None
    trace = one.trace
    trace.spans.append(HookSpan("auth", CALLER, trace.span_id, 0.0, 1.0, ""))
    trace.attempted("origin", "endpoint", "GET", 0.0, 1.0, Reply(200))
    made.finish(one)
    waited, attempt, whole = (record for record in queue.records)
    assert attempt[3].parent == waited[3].parent == whole[1].span_id
    assert [record[0].__name__ for record in queue.records] == ["hook", "attempt", "server"]
    assert whole[8].version == "2" and whole[8].status == 0
