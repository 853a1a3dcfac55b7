"""Bodies of answers: changed on their way, and held to their length. The rest of Reply is in
tests/unit/core/test_exchange.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.content.replies import ChangedStream, MeasuredStream, WrongLength
from gateway.core.exchange import Reply
from gateway.testing import Stream, reply, whole_body

FIELDS = {
    "ETag": '"1"',
    "Content-Digest": "sha-256=:x:",
    "Accept-Ranges": "bytes",
    "Content-Type": "text/plain",
}


def upper(chunk: bytes) -> bytes:
    return chunk.upper()


def test_a_whole_body():
    one = reply(200, b"abc", FIELDS)
    one.transform(upper, lambda: b"!")
    assert (one.body, one.length) == (b"ABC!", 4)
    assert one.get(b"etag") == b'W/"1"' and one.get(b"content-type") == b"text/plain"
    assert one.get(b"content-digest") is one.get(b"accept-ranges") is None


async def test_a_body_that_arrives():
    stream = Stream(b"a", b"-", b"b")
    one = Reply(200, ((b"ETag", b'W/"1"'),), stream, length=3)
    one.transform(lambda chunk: chunk.strip(b"-") * 2, lambda: b"end")
    assert one.length is None and one.get(b"etag") == b'W/"1"'
    assert await whole_body(one) == b"aabbend"
    one.body.abort()
    assert stream.aborted == 1
    twice = reply(200, [b"a"])
    twice.transform(upper)
    twice.transform(lambda chunk: chunk * 2)
    assert await whole_body(twice) == b"AA"


@pytest.mark.parametrize("measured", [False, True])
async def test_a_stop_iteration_of_others_code_is_no_end(measured: bool):
    """A compiled coroutine would end well with it."""

    def stop(chunk: bytes = b"") -> bytes:
        raise StopIteration(b"")

    inner = Stream(b"a")
    inner.read = stop  # type: ignore[method-assign, assignment]
    one = MeasuredStream(inner, 1) if measured else ChangedStream(Stream(b"a"), stop, None)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await one.read()


def test_the_length_of_an_answer_to_head_is_not_known():
    one = Reply(200, (), b"", length=5)
    one.transform(upper)
    assert (one.body, one.length) == (b"", None)
    empty = reply(200, b"")
    empty.transform(upper, lambda: b"x")
    assert (empty.body, empty.length) == (b"x", 1)


@pytest.mark.parametrize(("status", "fields"), [(206, {}), (200, {"Content-Encoding": "gzip"})])
def test_what_cannot_be_looked_into_is_not_changed(status: int, fields: dict[str, str]):
    one = reply(status, b"abc", fields)
    with pytest.raises(ValueError, match="neither a part"):
        one.transform(upper)
    assert one.body == b"abc"


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=5), st.integers(0, 12))
def test_a_body_of_another_length_never_looks_complete(chunks: list[bytes], length: int):
    measured, given = MeasuredStream(Stream(*chunks), length), b""

    async def read() -> bool:
        nonlocal given
        try:
            while chunk := await measured.read():
                given += chunk
        except WrongLength:
            return False
        return await measured.read() == b""

    coroutine = read()
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    whole = b"".join(chunks)
    if stopped.value.value:
        assert given == whole and len(whole) == length
    else:
        assert len(whole) != length and (len(given) < length or not length)


def test_it_is_the_stream_that_it_measures():
    stream = Stream()
    measured = MeasuredStream(stream, 1)
    measured.abort()
    assert stream.aborted == 1 and measured.trailers == ()
