"""Bodies that hooks put in place of those that came."""

from __future__ import annotations

import pytest

from gateway.core.content.bodies import ReplacedBody, ResumedStream
from gateway.core.content.replies import DIGESTS
from gateway.core.exchange import Reply
from gateway.core.failures import Failed
from tests.exchange import Stream, exchange, whole_body


async def test_a_replaced_body_is_complete_and_read_once():
    body = ReplacedBody(b"abc")
    assert (body.complete, body.length, body.received) == (b"abc", 3, True)
    assert await body.whole(3) == b"abc"
    assert (await body.read(), await body.read()) == (b"abc", b"")
    with pytest.raises(Failed):
        await body.whole(2)


async def test_a_resumed_stream_gives_all_of_it():
    rest = Stream(b"c", b"d")
    stream = ResumedStream(b"ab", rest)
    assert await whole_body(Reply(200, body=stream)) == b"abcd"
    stream.abort()
    assert rest.aborted == 1
    assert stream.trailers == ()


async def test_a_body_is_replaced_with_what_says_how_long_it_is():
    one = exchange("POST", headers={"Content-Digest": "x"}, drop_headers=frozenset((b"x",)))
    one.replace_body(b"[1]")
    assert one.body is not None
    assert await one.body.read() == b"[1]"
    assert one.drop_headers == DIGESTS | {b"x"}
    assert one.forward_headers is None
    one.replace_body(b"{}", b"application/json")
    assert one.forward_headers == [(b"Content-Type", b"application/json")]
    assert b"content-type" in (one.drop_headers or ())
