"""gateway/serving/http2/write.py: replies as fields."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Reply
from gateway.core.headers import UnsafeField
from gateway.serving.http2.write import (
    head_fields,
    interim_fields,
    stated_length,
    trailer_fields,
)
from tests.exchange import exchange

TAKES = {"TE": "trailers", "Connection": "TE"}


def test_a_head():
    made = exchange()
    made.request_id = "abc"
    made.reply_blocks = [b"RateLimit: 1\r\n"]
    reply = Reply(200, ((b"X-One", b" 1 "), (b"X-Request-ID", b"theirs"), (b"Date", b"now")))
    reply.headers.append((b"Keep-Alive", b"5"))  # What an operator's hook might do.
    reply.blocks.append(b"Server-Timing: a\r\nAge: 3\r\n")
    fields = head_fields(made, reply, 5)
    assert fields == [
        (b":status", b"200"),
        (b"x-one", b"1"),
        (b"date", b"now"),
        (b"server-timing", b"a"),
        (b"age", b"3"),
        (b"ratelimit", b"1"),
        (b"content-length", b"5"),
        (b"via", b"1.1 gateway"),
        (b"x-request-id", b"abc"),
    ]


def test_fields_that_an_endpoint_repeats_are_known_by_their_lines():
    for more in ((), ((b"X-Two", b"2"),)):
        for _ in range(2):
            headers = [(b"X-One", b"1"), (b"Date", b"now"), *more]
            lines = (2, b"X-One: 1\r\nDate: now\r\n")
            reply = Reply.known(200, headers, {b"date": b"now"}, lines, 0)
            fields = head_fields(exchange(), reply, 0)
            assert fields[1:3] == [(b"x-one", b"1"), (b"date", b"now")]
            assert ((b"x-two", b"2") in fields) == bool(more)


def test_a_date_and_no_length():
    fields = dict(head_fields(exchange(), Reply(404), None))
    assert fields[b"date"].endswith(b"GMT") and b"content-length" not in fields


def test_trailers_are_announced_to_those_who_take_them():
    reply = Reply(200, ((b"Trailer", b"x-sum"),))
    assert (b"trailer", b"x-sum") in head_fields(exchange("GET", "/", TAKES), reply, None)
    assert b"trailer" not in dict(head_fields(exchange(), reply, None))
    pairs = [(b"X-Sum", b"1"), (b"Content-Length", b"3"), (b"Connection", b"x")]
    assert trailer_fields(exchange("GET", "/", TAKES), pairs) == [(b"x-sum", b"1")]
    assert trailer_fields(exchange(), pairs) == []


def test_a_field_that_no_line_may_hold_is_refused():
    with pytest.raises(UnsafeField):
        head_fields(exchange(), Reply(200, ((b"X", b"a\r\nb"),)), None)


def test_memos_are_bounded():
    for number in range(2000):
        value = b"%d" % number
        head_fields(exchange(), Reply(200, ((b"X", value), (b"Y", value * 100))), None)
        reply = Reply(200)
        reply.blocks += [b"A: %b\r\n" % value, b"B: %b\r\n" % (value * 100)]
        assert (b"a", value) in head_fields(exchange(), reply, None)


@pytest.mark.parametrize(
    ("method", "reply", "expected"),
    [
        ("GET", Reply(200, body=b"ab"), (2, True)),
        ("GET", Reply(200), (0, False)),
        ("HEAD", Reply(200, length=7), (7, False)),
        ("GET", Reply(204), (None, False)),
        ("GET", Reply(304, length=9), (9, False)),
        ("GET", Reply(304), (None, False)),
    ],
)
def test_the_length_that_is_stated(method, reply, expected):
    assert stated_length(exchange(method), reply) == expected


def test_interim_answers():
    assert interim_fields(103, [(b"Link", b"</a>")]) == [(b":status", b"103"), (b"link", b"</a>")]
