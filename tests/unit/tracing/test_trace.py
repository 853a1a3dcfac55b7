"""The spans of one request while it is here."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import trace_context
from gateway.tracing.trace import AttemptSpan, HookSpan, Trace, new_span_id, traced
from tests.exchange import exchange


def test_attempts_have_spans_of_their_own():
    trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    context = trace_context(trace.sends("/a?b"))
    assert context is not None and context[2] and context[1] != trace.span_id
    trace.attempted("origin", "first", "POST", 1.0, 0.5, Failed(Failure.CONNECTION_RESET))
    trace.attempted("origin", "second", "POST", 2.0, 0.5, Reply(404))
    trace.attempted("origin", "third", "POST", 3.0, 0.5, None)
    first, second, third = trace.spans
    assert isinstance(first, AttemptSpan) and isinstance(second, AttemptSpan)
    assert first[:6] == ("origin", "first", "POST", "/a?b", context[1], trace.span_id)
    assert first[6:] == (1.0, 1.5, 0, "connection_reset", 0)
    assert (second.target, second.status, second.error, second.number) == ("", 404, "404", 1)
    assert second.span_id != first.span_id
    assert isinstance(third, AttemptSpan) and third.error == "client_gone"
    assert "3 spans" in repr(trace)


def test_ids():
    assert len({new_span_id() for _ in range(100)}) == 100
    assert all(len(new_span_id()) == 16 for _ in range(100))


@pytest.fixture
def asked() -> Exchange:
    one = exchange()
    one.trace = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    one.traceparent = one.trace.traceparent(one.trace.span_id)
    return one


async def test_a_hook_that_waits(asked: Exchange):
    inside: list[str] = []

    async def hook() -> str:
        inside.append(asked.traceparent)
        return "done"

    before = asked.traceparent
    assert await traced(asked, "auth", hook()) == "done"
    assert asked.traceparent == before != inside[0]
    assert asked.trace is not None
    [span] = asked.trace.spans
    assert isinstance(span, HookSpan) and span.began <= span.ended
    assert span.name == "auth" and span.span_id in inside[0] and span.error == ""
    assert asked.trace.parent == span.parent == asked.trace.span_id


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (Failed(Failure.FORBIDDEN), "forbidden"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
async def test_a_hook_that_raises(asked: Exchange, raised: BaseException, error: str):
    async def hook() -> None:
        raise raised

    with pytest.raises(type(raised)):
        await traced(asked, "auth", hook())
    assert asked.trace is not None and asked.trace.spans[0].error == error
