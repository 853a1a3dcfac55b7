"""Content codings: who gets one, what it does to the answer, and that every byte survives."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from typing import Any

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.hooks import ConfigProblem, Context, ResponseHook
from gateway.middlewares.compression import AT_ONCE, CONFIG, CodedFields, build
from gateway.middlewares.compression.codings import Pieces
from tests.exchange import Stream, exchange, whole_body

TEXT = (
    b'{"cameras": ['
    + b", ".join(b'{"id": %d, "name": "camera %d"}' % (n, n * n) for n in range(60))
    + b"]}"
)
JSON = (b"Content-Type", b"application/json")
ALL = "gzip, br, zstd"

DECODE = {b"gzip": gzip.decompress, b"br": brotli.decompress, b"zstd": zstd.decompress}


def asks(accept: str | None = ALL, method: str = "GET", **headers: str) -> Exchange:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return exchange(method, "/c", sent if accept is None else {"Accept-Encoding": accept, **sent})


def hook(**table: Any) -> ResponseHook:
    made = build(CONFIG().load(table), Context("compression"))
    assert made.response is not None and made.request is made.error is made.finish is None
    return made.response


def answered(
    request: Exchange,
    *headers: Pair,
    status: int = 200,
    body: Any = TEXT,
    length: int | None = None,
    **table: Any,
) -> Reply:
    reply = Reply(status, headers or (JSON,), body, length=length)
    assert hook(**table)(request, reply) is None
    return reply


@pytest.mark.parametrize("coding", list(DECODE))
def test_a_short_body_at_once(coding: bytes):
    reply = answered(asks(coding.decode()), JSON, (b"ETag", b'"v1"'), (b"Accept-Ranges", b"bytes"))
    assert isinstance(reply.body, bytes)
    assert DECODE[coding](reply.body) == TEXT
    assert reply.length == len(reply.body) < len(TEXT)
    assert reply.headers == [
        JSON,
        (b"Vary", b"Accept-Encoding"),
        (b"Content-Encoding", coding),
        (b"ETag", b'W/"v1"'),
    ]
    assert reply.get(b"content-encoding") == coding


@pytest.mark.parametrize("coding", list(DECODE))
async def test_a_long_body_piece_by_piece(coding: bytes):
    body = TEXT * 200
    assert len(body) > AT_ONCE
    reply = answered(asks(coding.decode()), body=body)
    assert reply.length is None
    assert not isinstance(reply.body, bytes)
    assert DECODE[coding](await whole_body(reply)) == body


async def test_a_long_body_lets_the_loop_turn():
    reply = answered(asks("br"), body=TEXT * 200)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await whole_body(reply)
    counting.cancel()
    assert turns >= len(TEXT) * 200 // (32 * 1024)


@pytest.mark.parametrize("coding", list(DECODE))
async def test_what_arrives_is_sent_on_at_once(coding: bytes):
    """Every event can be read when it has arrived, before the next one has."""
    source = Stream(b"data: one\n\n", b"data: two\n\n")
    reply = answered(
        asks(coding.decode()), (b"Content-Type", b"text/event-stream"), body=source, events=True
    )
    assert reply.length is None
    assert not isinstance(reply.body, bytes)
    first = await reply.body.read()
    assert partly(coding, first) == b"data: one\n\n"
    second = await reply.body.read()
    assert partly(coding, first + second) == b"data: one\n\ndata: two\n\n"
    last = await reply.body.read()
    assert DECODE[coding](first + second + last) == b"data: one\n\ndata: two\n\n"
    assert await reply.body.read() == b""


def partly(coding: bytes, data: bytes) -> bytes:
    """What a client can make of the first bytes of a coded body."""
    if coding == b"gzip":
        return zlib.decompressobj(31).decompress(data)
    if coding == b"br":
        decompressor: Any = brotli.Decompressor()
        out: bytes = decompressor.process(data)
        return out
    return zstd.ZstdDecompressor().decompress(data)


async def test_a_body_that_breaks_off():
    source = Stream(TEXT, Failed(Failure.INCOMPLETE_RESPONSE))
    reply = answered(asks("gzip"), body=source)
    assert not isinstance(reply.body, bytes)
    assert await reply.body.read()
    with pytest.raises(Failed):
        await reply.body.read()
    reply.body.abort()
    assert source.aborted == 1


async def test_a_long_body_given_up():
    pieces = Pieces(TEXT)
    pieces.abort()
    assert await pieces.read() == b""


def plain(reply: Reply, vary: bytes | None = None) -> bool:
    """Whether the reply is as it came, but for Vary."""
    return reply.get(b"content-encoding") is None and reply.get(b"vary") == vary


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((JSON, (b"Content-Encoding", b"gzip")), 200),
        ((JSON, (b"Cache-Control", b"public, No-Transform")), 200),
        ((JSON, (b"Content-Range", b"bytes 0-9/90")), 416),
        ((JSON, (b"Content-Digest", b"sha-256=:x:")), 200),
        ((JSON, (b"Repr-Digest", b"sha-256=:x:")), 200),
        ((JSON, (b"Signature-Input", b"sig=()")), 200),
        ((JSON,), 206),
        ((JSON,), 204),
        ((JSON,), 205),
        ((JSON,), 101),
        (((b"Content-Type", b"image/png"),), 200),
        (((b"Content-Type", b"text/event-stream; charset=utf-8"),), 200),
        (((b"Server", b"x"),), 200),
    ],
)
def test_what_is_left_alone(headers: tuple[Pair, ...], status: int):
    reply = answered(asks(), *headers, status=status)
    assert reply.body is TEXT and reply.headers == list(headers)


def test_short_answers_are_left_alone():
    assert plain(answered(asks(), body=b"x" * 1023))
    assert not plain(answered(asks(), body=b"x" * 1024))
    assert plain(answered(asks(), body=b"x" * 9, minimum=10))
    assert not plain(answered(asks(), body=Stream(b"x"), minimum=10))
    assert plain(answered(asks(), body=Stream(b"x"), length=9, minimum=10))
    assert plain(answered(asks(), body=b"", minimum=0))


@pytest.mark.parametrize("accept", [None, "identity", "deflate", "gzip;q=0"])
def test_vary_also_where_the_client_wants_none(accept: str | None):
    assert plain(answered(asks(accept)), b"Accept-Encoding")


def test_vary_is_added_to_what_there_is():
    reply = answered(asks(None), JSON, (b"Vary", b"Origin"))
    assert reply.get(b"vary") == b"Origin, Accept-Encoding"
    reply = answered(asks(None), JSON, (b"Vary", b"accept-encoding"))
    assert reply.get(b"vary") == b"accept-encoding"


def test_a_client_that_wants_no_transformation():
    assert plain(answered(asks(Cache_Control="No-Transform")), b"Accept-Encoding")
    assert not plain(answered(asks(Cache_Control="no-cache")))


def test_all_lines_of_a_field_count():
    """RFC 9110 section 5.3: they are one list."""
    for lines, coded in (
        ([("Accept-Encoding", "deflate"), ("Accept-Encoding", "gzip")], True),
        ([("Accept-Encoding", "*"), ("Accept-Encoding", "gzip;q=0")], False),
        (
            [
                ("Accept-Encoding", "gzip"),
                ("Cache-Control", "no-cache"),
                ("Cache-Control", "no-transform"),
            ],
            False,
        ),
    ):
        request = exchange("GET", "/c", lines)
        reply = answered(request, algorithms=["gzip"])
        assert plain(reply, b"Accept-Encoding") is not coded


def test_what_does_not_get_shorter_stays():
    noise = random.Random(1).randbytes(2000)
    for coding in DECODE:
        reply = answered(asks(coding.decode()), body=noise)
        assert plain(reply, b"Accept-Encoding")
        assert reply.body is noise and reply.length == 2000


def test_head_gets_the_head_of_get():
    reply = answered(asks("gzip", "HEAD"), JSON, (b"ETag", b'"v1"'), body=b"", length=5000)
    assert (reply.body, reply.length) == (b"", None)
    assert reply.headers == [
        JSON,
        (b"Vary", b"Accept-Encoding"),
        (b"Content-Encoding", b"gzip"),
        (b"ETag", b'W/"v1"'),
    ]
    assert plain(answered(asks("gzip", "HEAD"), body=b"", length=500))


def test_a_weak_etag_stays():
    assert answered(asks(), JSON, (b"ETag", b'W/"v1"')).get(b"etag") == b'W/"v1"'


@pytest.mark.parametrize(
    ("asked", "etag", "expected"),
    [
        ('W/"v1"', b'"v1"', b'W/"v1"'),
        ('"v0", W/"v1"', b'"v1"', b'W/"v1"'),
        ('"v1"', b'"v1"', b'"v1"'),
        ('W/"v1"', b'W/"v1"', b'W/"v1"'),
        ("*", b'"v1"', b'"v1"'),
    ],
)
def test_not_modified_names_the_representation_the_client_has(
    asked: str, etag: bytes, expected: bytes
):
    reply = answered(asks(If_None_Match=asked), (b"ETag", etag), status=304, body=b"")
    assert reply.get(b"etag") == expected
    assert (reply.get(b"vary") is not None) is (etag != expected)
    assert plain(answered(asks(If_None_Match=asked), (b"Server", b"x"), status=304, body=b""))


@pytest.mark.parametrize(
    ("types", "media_type", "fits"),
    [
        (None, b"application/json; charset=utf-8", True),
        (None, b"Text/HTML", True),
        (None, b"application/problem+json", True),
        (None, b"image/svg+xml", True),
        (None, b"application/octet-stream", False),
        (None, b"video/mp4", False),
        (None, b"", False),
        (["application/*"], b"application/pdf", True),
        (["application/*"], b"text/plain", False),
        (["Text/Plain"], b"text/plain", True),
        (["text/plain"], b"text/html", False),
        (["+cbor"], b"application/x+cbor", True),
        (["text/event-stream"], b"text/event-stream", True),
        ([], b"text/plain", False),
    ],
)
def test_types(types: list[str] | None, media_type: bytes, fits: bool):
    compress = hook() if types is None else hook(types=types)
    for _ in range(2):
        reply = Reply(200, [(b"Content-Type", media_type)], TEXT)
        compress(asks(), reply)
        assert (reply.get(b"content-encoding") is not None) is fits


def test_strangers_cannot_fill_its_memory():
    compress = hook()
    for number in range(600):
        reply = Reply(200, [(b"Content-Type", b"text/x-%d" % number)], TEXT)
        compress(asks(f"gzip;q=0.5, br;q=0.{number}"), reply)
        assert reply.get(b"content-encoding") in (b"gzip", b"br")
    long = "gzip" + ", deflate" * 200
    for _ in range(2):
        reply = Reply(200, [JSON], TEXT)
        compress(asks(long), reply)
        assert reply.get(b"content-encoding") == b"gzip"


FIELDS = (
    (b"ETag", b'"v1"'),
    (b"ETag", b'W/"v1"'),
    (b"Vary", b"Origin"),
    (b"vary", b"accept-encoding"),
    (b"Accept-Ranges", b"bytes"),
    (b"X", b"1"),
    (b"X", b"2"),
)


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(FIELDS), max_size=3, unique_by=lambda pair: pair[0].lower()),
            st.sampled_from(["gzip", "br", None]),
            st.integers(0, 2),
        ),
        max_size=24,
    )
)
def test_fields_that_repeat_come_to_the_same(replies: list[tuple[list[Pair], str | None, int]]):
    """Compared with a middleware that has seen nothing before. extra: lines that a hook before it
    has added to what came."""
    compress = hook()
    for fields, accept, extra in replies:
        came = [JSON, *fields]
        both = [Reply(200, came, TEXT), Reply(200, came, TEXT)]
        for reply in both:
            reply.joined = len(came), b"".join([b"%b: %b\r\n" % pair for pair in came])
            for number in range(extra):
                reply.add(b"Added", b"%d" % number)
        for reply, change in zip(both, (compress, hook()), strict=True):
            change(asks(accept), reply)
            reply.vary(b"Origin")  # Not what is remembered.
            reply.set(b"X", b"3")
            if reply.joined is not None:
                count, lines = reply.joined
                assert lines == b"".join([b"%b: %b\r\n" % pair for pair in reply.headers[:count]])
        one, other = both
        assert (one.headers, one.index, one.body) == (other.headers, other.index, other.body)


def test_fields_that_are_remembered_are_bounded():
    fields = CodedFields()
    for number in range(CodedFields.MOST + 10):
        for _ in range(3):
            came = [JSON, (b"X", b"%d" % number)]
            reply = Reply(200, came, TEXT)
            reply.joined = len(came), b"".join([b"%b: %b\r\n" % pair for pair in came])
            fields.declare(b"gzip", reply)
        assert reply.joined == (4, reply.joined[1]), "written out by now"
        assert b"Content-Encoding: gzip\r\n" in reply.joined[1]
    assert len(fields._known) <= CodedFields.MOST
    came = [JSON, (b"X", b"x" * CodedFields.LONGEST)]
    known = dict(fields._known)
    reply = Reply(200, came, TEXT)
    reply.joined = len(came), b"".join([b"%b: %b\r\n" % pair for pair in came])
    fields.declare(b"gzip", reply)
    assert fields._known == known and reply.get(b"content-encoding") == b"gzip"


def test_the_algorithms_that_are_listed():
    assert answered(asks(), algorithms=["gzip", "br"]).get(b"content-encoding") == b"gzip"
    assert plain(answered(asks("zstd"), algorithms=["gzip"]), b"Accept-Encoding")


@pytest.mark.parametrize(
    ("table", "at"),
    [
        ({"algorithms": []}, ("algorithms",)),
        ({"types": ["text/*", "json"]}, ("types", 1)),
        ({"types": ["text/html; charset=utf-8"]}, ("types", 0)),
    ],
)
def test_tables_that_cannot_mean_what_they_say(table: dict[str, Any], at: tuple[Any, ...]):
    with pytest.raises(ConfigProblem) as caught:
        hook(**table)
    assert caught.value.at == at
    assert caught.value.hint


@pytest.mark.parametrize(
    "table",
    [
        {"algorithms": ["deflate"]},
        {"br_quality": 6},
        {"gzip_level": 4},
        {"zstd_level": 0},
        {"minimum": "-1"},
        {"level": 1},
    ],
)
def test_refused_tables(table: dict[str, Any]):
    with pytest.raises(ValidationError):
        CONFIG().load(table)


@pytest.mark.parametrize(("etag", "coded"), [(b'"1"', False), (b'W/"1"', True), (None, True)])
def test_strong_tags_can_be_left_uncoded(etag: bytes | None, coded: bool):
    headers = (JSON,) if etag is None else (JSON, (b"ETag", etag))
    reply = answered(asks(), *headers, strong_etags="uncoded")
    assert (reply.get(b"content-encoding") is not None) is coded
    assert reply.get(b"etag") == etag
