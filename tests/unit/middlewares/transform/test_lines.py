"""Streams whose lines are JSON."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Reply
from gateway.middlewares import transform
from gateway.middlewares.transform.lines import ChangedLines
from tests.exchange import Stream, World, exchange, whole_body

EVENTS = (b"Content-Type", b"text/event-stream; charset=utf-8")
LINES = (b"Content-Type", b"application/x-ndjson")


async def answered(field: tuple[bytes, bytes], body: Any, **more: Any) -> Reply:
    table = {"response": {"lines": True, "body": {"set": {"b": 2}, "remove": ["secret"]}}, **more}
    reply = Reply(200, (field, (b"ETag", b'"x"')), body)
    hooks = World().build(transform, table)
    assert hooks.response is not None
    pending = hooks.response(exchange(), reply)
    assert pending is not None
    await pending
    return reply


async def test_events_are_changed_as_they_arrive():
    stream = Stream(
        b'event: x\ndata: {"a":1,"se', b'cret":9}\n\nda', b"ta: [DONE]\n\n", b"data: {}"
    )
    reply = await answered(EVENTS, stream)
    assert isinstance(reply.body, ChangedLines)
    pieces = [await reply.body.read() for _ in range(5)]
    assert pieces == [
        b"event: x\n", b'data:{"a":1,"b":2}\n\n', b"data: [DONE]\n\n", b'data:{"b":2}', b"",
    ]  # fmt: skip
    assert (reply.length, reply.get(b"etag")) == (None, b'W/"x"')
    reply.body.abort()
    assert stream.aborted == 1


async def test_lines_of_json():
    reply = await answered(LINES, b'{"secret":1}\r\nno json\n[1]\n')
    assert reply.body == b'{"b":2}\r\nno json\n[1]\n'
    assert reply.length == len(reply.body)


async def test_a_long_line_passes_as_it_comes():
    long = b'{"a":"' + b"x" * 50 + b'"}'
    stream = Stream(b"{}\n" + long[:30], long[30:], b"\n{}\n" + long + b"\n")
    reply = await answered(LINES, stream, max_body=20)
    assert await whole_body(reply) == b'{"b":2}\n' + long + b'\n{"b":2}\n' + long + b"\n"


async def test_a_coded_stream_passes():
    stream = Stream(b"\x1f\x8b")
    reply = Reply(200, (LINES, (b"Content-Encoding", b"gzip")), stream)
    table = {"response": {"lines": True, "body": {"set": {"b": 2}}}}
    hooks = World().build(transform, table)
    assert hooks.response is not None
    pending = hooks.response(exchange(), reply)
    assert pending is not None
    await pending
    assert reply.body is stream


@given(st.binary(), st.lists(st.integers(0, 40), max_size=6), st.integers(1, 10))
async def test_however_it_is_cut_the_lines_are_the_same(data: bytes, cuts: list[int], most: int):
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places) if a < b]
    stream = ChangedLines(Stream(*pieces), lambda line: line, most)
    assert await whole_body(Reply(200, body=stream)) == data


@pytest.mark.parametrize("kind", [b"text/plain", b"application/octet-stream"])
async def test_other_streams_are_not_touched(kind: bytes):
    stream = Stream(b"{}\n")
    reply = await answered((b"Content-Type", kind), stream)
    assert reply.body is stream
