from __future__ import annotations

import pytest
from multidict import CIMultiDict

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.serving.http1.write import write_complete, write_stream
from tests.origin import fields_of


class Out:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.drained = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    async def drain(self) -> None:
        self.drained += 1

    def abort(self) -> None:
        self.aborted = True


class Stream:
    def __init__(self, *chunks: bytes | Failed) -> None:
        self.chunks = list(chunks)

    async def read(self) -> bytes:
        chunk = self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, Failed):
            raise chunk
        return chunk

    def abort(self) -> None:
        pass


def exchange(method: str = "GET", version: tuple[int, int] = (1, 1)) -> Exchange:
    return Exchange(method, "/", CIMultiDict(), (), version=version, request_id="id-1")


async def write(out: Out, one: Exchange, reply: Reply, close: bool) -> bool:
    if isinstance(reply.body, bytes):
        return write_complete(out, one, reply, close)
    return await write_stream(out, one, reply, close)


async def test_a_complete_reply_is_one_write():
    out, one = Out(), exchange()
    reply = Reply(200, [(b"Content-Type", b"text/plain")], b"hello")
    reply.blocks.append(b"X-Block: 1\r\n")
    one.reply_blocks = [b"X-Limit: 2\r\n"]
    assert await write(out, one, reply, close=False)
    (data,) = out.writes
    head, _, body = data.partition(b"\r\n\r\n")
    fields = fields_of(head)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (fields["content-length"], fields["x-block"], fields["x-limit"], fields["via"]) == ("5", "1", "2", "1.1 gateway")
    assert "connection" not in fields and fields["date"].endswith("GMT")
    assert (body, one.bytes_out, one.written) == (b"hello", 5, True)


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
async def test_replies_without_a_body(method, reply, length):
    out = Out()
    await write(out, exchange(method), reply, close=False)
    head, _, body = b"".join(out.writes).partition(b"\r\n\r\n")
    assert body == b""
    assert fields_of(head).get("content-length") == length


async def test_a_head_answer_of_unknown_length_says_none():
    out = Out()
    reply = Reply(200)
    reply.length = None
    await write(out, exchange("HEAD"), reply, close=False)
    assert "content-length" not in fields_of(out.writes[0])


async def test_streams_are_chunked_or_counted_or_ended_by_the_connection():
    for version, length, framing, body, kept in (
        ((1, 1), None, ("transfer-encoding", "chunked"), b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", True),
        ((1, 1), 3, ("content-length", "3"), b"abc", True),
        ((1, 0), None, ("connection", "close"), b"abc", False),
        ((1, 0), 3, ("connection", "keep-alive"), b"abc", True),
    ):
        out, one = Out(), exchange(version=version)
        assert await write(out, one, Reply(200, body=Stream(b"ab", b"c"), length=length), close=False) is kept
        head, _, rest = b"".join(out.writes).partition(b"\r\n\r\n")
        assert fields_of(head)[framing[0]] == framing[1]
        assert (rest, one.bytes_out, out.drained) == (body, 3, 2)


async def test_a_stream_that_breaks_off_breaks_the_connection_off():
    out = Out()
    with pytest.raises(Failed):
        await write(out, exchange(), Reply(200, body=Stream(b"ab", Failed(Failure.INCOMPLETE_RESPONSE))), close=False)
    assert out.aborted
    assert not b"".join(out.writes).endswith(b"0\r\n\r\n")


async def test_the_request_id_is_ours_and_an_origins_date_is_kept():
    out = Out()
    reply = Reply(299, [(b"X-Request-ID", b"theirs"), (b"Date", b"Thu, 01 Jan 1970 00:00:00 GMT")])
    await write(out, exchange(), reply, close=True)
    fields = fields_of(out.writes[0])
    assert (fields["x-request-id"], fields["date"], fields["connection"]) == ("id-1", "Thu, 01 Jan 1970 00:00:00 GMT", "close")
    assert out.writes[0].startswith(b"HTTP/1.1 299 \r\n")
