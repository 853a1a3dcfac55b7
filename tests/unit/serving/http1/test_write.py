from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import UnsafeField
from gateway.serving.http1.write import complete, interim_head, last_chunk, stream_head
from tests.origin import fields_of


def exchange(method: str = "GET", version: tuple[int, int] = (1, 1)) -> Exchange:
    return Exchange(method, "/", CIMultiDict(), (), version=version, request_id="id-1")


def test_a_complete_reply_is_one_write():
    one = exchange()
    reply = Reply(200, [(b"Content-Type", b"text/plain")], b"hello")
    reply.blocks.append(b"X-Block: 1\r\n")
    one.reply_blocks = [b"X-Limit: 2\r\n"]
    data = complete(one, reply, close=False)
    head, _, body = data.partition(b"\r\n\r\n")
    fields = fields_of(head)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (fields["content-length"], fields["x-block"], fields["x-limit"], fields["via"]) == (
        "5",
        "1",
        "2",
        "1.1 gateway",
    )
    assert "connection" not in fields and fields["date"].endswith("GMT")
    assert (body, one.bytes_out) == (b"hello", 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X-A", b"a\r\nX-B: b"),
        (b"X-A", b"a\nX-B: b"),
        (b"X-A", b"a\rb"),
        (b"X-A: 1\r\nX-B", b"a"),
    ],
)
@pytest.mark.parametrize("joined", [None, (0, b"")])
def test_a_field_that_no_line_may_hold_is_refused(name, value, joined):
    reply = Reply(200)
    reply.headers.append((name, value))  # Even by a hook that goes around the methods.
    reply.joined = joined
    with pytest.raises(UnsafeField):
        complete(exchange(), reply, close=False)


@pytest.mark.parametrize(
    ("method", "reply", "length"),
    [
        ("HEAD", Reply(200, body=b"hello"), "5"),
        ("HEAD", Reply(200, length=77), "77"),
        ("GET", Reply(204), None),
        ("GET", Reply(304), None),
        ("GET", Reply(304, length=77), "77"),
        ("GET", Reply(200), "0"),
    ],
)
def test_replies_without_a_body(method, reply, length):
    head, _, body = complete(exchange(method), reply, close=False).partition(b"\r\n\r\n")
    assert body == b""
    assert fields_of(head).get("content-length") == length


def test_a_head_answer_of_unknown_length_says_none():
    reply = Reply(200)
    reply.length = None
    assert "content-length" not in fields_of(complete(exchange("HEAD"), reply, close=False))


def test_streams_are_chunked_or_counted_or_ended_by_the_connection():
    for version, length, framing, chunked, close in (
        ((1, 1), None, ("transfer-encoding", "chunked"), True, False),
        ((1, 1), 3, ("content-length", "3"), False, False),
        ((1, 0), None, ("connection", "close"), False, True),
        ((1, 0), 3, ("connection", "keep-alive"), False, False),
    ):
        reply = Reply(200, length=length)
        reply.length = length
        head, *rest = stream_head(exchange(version=version), reply, close=False)
        assert fields_of(head)[framing[0]] == framing[1]
        assert rest == [chunked, close]


TRAILERS = ((b"X-Sum", b"1"), (b"Set-Cookie", b"a=b"), (b"Content-Type", b"text/html"))


@pytest.mark.parametrize(
    ("fields", "trailers", "end"),
    [
        ({}, (), b"0\r\n\r\n"),
        ({}, TRAILERS, b"0\r\n\r\n"),
        ({"TE": "trailers"}, TRAILERS, b"0\r\n\r\n"),
        ({"TE": "trailers", "Connection": "TE"}, TRAILERS, b"0\r\nX-Sum: 1\r\n\r\n"),
    ],
)
def test_trailers_go_to_clients_that_take_them(fields, trailers, end):
    one = exchange()
    one.headers = CIMultiDict(fields)
    assert last_chunk(one, trailers) == end


def test_interim_answers():
    assert (
        interim_head(103, [(b"Link", b"</a>")]) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    )
    assert interim_head(199, []) == b"HTTP/1.1 199 \r\n\r\n"


def test_the_request_id_is_ours_and_an_origins_date_is_kept():
    reply = Reply(299, [(b"X-Request-ID", b"theirs"), (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT")])
    data = complete(exchange(), reply, close=True)
    fields = fields_of(data)
    assert (fields["x-request-id"], fields["date"], fields["connection"]) == (
        "id-1",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "close",
    )
    assert data.startswith(b"HTTP/1.1 299 \r\n")
