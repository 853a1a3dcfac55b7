"""Trailer fields behind chunks, however they are split."""

from __future__ import annotations

import asyncio

import pytest

from gateway.serving.codec import Data, End, Head
from gateway.serving.http1.codec import Http1Codec
from gateway.serving.http1.limits import Limits
from gateway.serving.http1.trailers import LINE_MAX, TrailerReader, body_start

BODY = (
    b"5\r\nhello\r\n6;name=x\r\n world\r\n0\r\nX-Sum: 1\r\nContent-Type: "
    b"text/html\r\nX-Other: a b\r\n\r\n"
)
FOUND = [(b"X-Sum", b"1"), (b"X-Other", b"a b")]
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_fields_are_found_wherever_it_is_split():
    for split in range(len(BODY) + 1):
        reader = TrailerReader()
        reader.feed(BODY[:split])
        reader.feed(BODY[split:])
        assert reader.fields == FOUND, split


@pytest.mark.parametrize(
    ("description", "body", "fields"),
    [
        ("none", b"1\r\na\r\n0\r\n\r\n", []),
        ("a chunk that looks like the end", b"9\r\n0\r\nX: y\r\n\r\n0\r\n\r\n", []),
        (
            "what follows is another message's",
            b"0\r\nX-A: 1\r\n\r\nX-B: 2\r\n\r\n",
            [(b"X-A", b"1")],
        ),
        ("what belongs before the body", b"0\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n", []),
        ("an odd field", b"0\r\nX A: 1\r\nX-B: 2\r\n\r\n", [(b"X-B", b"2")]),
        ("no size", b"zz\r\n0\r\nX-A: 1\r\n\r\n", []),
        ("a line without end", b"1" * (LINE_MAX + 2), []),
    ],
)
def test_what_is_found(description, body, fields):
    reader = TrailerReader()
    reader.feed(body)
    assert reader.fields == fields


@pytest.mark.parametrize(
    ("before", "data", "start"),
    [
        (b"", b"POST / HTTP/1.1\r\n\r\nbody", 19),
        (b"", b"\r\n\r\nPOST / HTTP/1.1\r\n\r\nbody", 23),
        (b"\r\n\r", b"\nbody", 1),
        (b"\r\n", b"\r\nbody", 2),
        (b"a: b", b"\r\n\r\nbody", 4),
        (b"", b"POST", -1),
    ],
)
def test_where_a_body_begins(before, data, start):
    assert body_start(before, data) == start


async def test_they_come_with_the_end_of_the_body_wherever_it_is_split():
    sent = HEAD + BODY + GET
    for split in range(len(sent) + 1):
        codec = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop())
        events = [*codec.feed(sent[:split]), *codec.feed(sent[split:])]
        assert isinstance(events[0], Head) and events[0].more
        assert b"".join(event.data for event in events if isinstance(event, Data)) == b"hello world"
        assert [event for event in events if isinstance(event, End)] == [End(FOUND)], split
        assert isinstance(events[-1], Head) and events[-1].method == "GET"


async def test_what_is_not_announced_is_not_looked_for():
    codec = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop())
    (head,) = codec.feed(HEAD.replace(b"Trailer: X-Sum\r\n", b"") + BODY)
    assert isinstance(head, Head) and head.body == b"hello world"
