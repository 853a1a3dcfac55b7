"""Spans from the queue to a collector, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from gateway.config.tables.schema import schema_of
from gateway.config.tables.server import TracingConfig
from gateway.core.telemetry import trace_spans_dropped
from gateway.lifetime.logs import logqueue, posting
from gateway.tracing.encoding import Masks, SpanEncoder
from gateway.tracing.exporter import SpanQueue
from gateway.tracing.trace import HookSpan
from tests.collector import collecting, rejecting

SPAN = HookSpan("auth", "00f067aa0ba902b7", "", 1.0, 2.0, "")
RECORD = (SpanEncoder(Masks(str)).hook, "4bf92f3577b34da6a3ce929d0e0e4736", 0.0, SPAN)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logqueue, "_OPEN", set())
    monkeypatch.setattr(posting, "FIRST_PAUSE", 0.001)


def queue(url: str, **more: Any) -> SpanQueue:
    return SpanQueue(schema_of(TracingConfig)().load({"otlp": url, **more}))


async def ended(one: SpanQueue) -> None:
    one.close()
    assert await asyncio.to_thread(one.wait, 10)


async def test_a_batch_arrives():
    with collecting() as collector:
        one = queue(collector.url + "/", service="edge", headers={"X-Key": "top"})
        for _ in range(300):
            one.append(RECORD)
        one.flush()
        spans = await asyncio.to_thread(collector.wait, 300)
        assert "top" not in repr(one)
        await ended(one)
    path, fields, _ = collector.got[0]
    assert (path, fields["content-type"]) == ("/v1/traces", "application/x-protobuf")
    assert fields["x-key"] == "top" and len(spans) == 300 and one.dropped == 0
    resource = spans[0].resource
    assert resource["service.name"] == "edge" and resource["process.pid"] == str(os.getpid())
    assert len(resource["service.instance.id"]) == 36


async def test_what_waits_when_it_closes_is_sent():
    with collecting() as collector:
        one = queue(f"{collector.url}/otlp/v1/traces")
        one.append(RECORD)
        await ended(one)
    assert len(collector.spans) == 1 and collector.got[0][0] == "/otlp/v1/traces"


@pytest.mark.parametrize("answers", [[(503, b"")], [(429, b""), (502, b"")]])
async def test_a_busy_collector_is_asked_again(answers: list[tuple[int, bytes]]):
    with collecting() as collector:
        collector.answers = list(answers)
        one = queue(collector.url)
        one.append(RECORD)
        one.flush()
        assert len(await asyncio.to_thread(collector.wait, 1)) == 1
        await ended(one)
    assert one.dropped == 0


@pytest.mark.parametrize(
    ("answer", "lost"),
    [((400, b""), 3), ((200, rejecting(2)), 2), ((200, rejecting(9)), 3), ((200, b"{}"), 0)],
)
async def test_what_the_collector_refuses_is_counted(answer: tuple[int, bytes], lost: int):
    with collecting() as collector:
        collector.answers = [answer]
        one = queue(collector.url)
        for _ in range(3):
            one.append(RECORD)
        await ended(one)
    assert trace_spans_dropped.get((one.name, "failed")) == one.dropped == lost


async def test_no_collector_drops_and_counts():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        one = queue(f"http://127.0.0.1:{taken.getsockname()[1]}")
        for _ in range(5):
            one.append(RECORD)
        await ended(one)
    assert one.dropped == 5 and trace_spans_dropped.get((one.name, "failed")) == 5


async def test_no_more_than_the_backlog_waits():
    one = queue("http://127.0.0.1:9")
    one._handed = one._backlog + 1  # As if the thread were stuck.
    one.append(RECORD)
    one.flush()
    assert one.dropped == 1 and trace_spans_dropped.get((one.name, "refused")) == 1
    one._handed = 0
    await ended(one)


async def test_a_copy_of_the_process_is_another_instance():
    with collecting() as collector:
        one = queue(collector.url)
        for _ in range(2):
            one.append(RECORD)
            one.flush()
            await asyncio.to_thread(collector.wait, 1 + len(collector.spans) // 1)
            while not one.idle:
                await asyncio.sleep(0)
            one._jobs.put(logqueue._Order.STOP)
            assert await asyncio.to_thread(one.wait, 10)
            one.restart()
        await ended(one)
    first, second = (span.resource["service.instance.id"] for span in collector.spans)
    assert first != second
