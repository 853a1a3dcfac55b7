"""The codec towards endpoints, as a transcript: bytes fed, events seen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Reply
from gateway.upstream.connections.http1.codec import (
    End,
    Interim,
    Reset,
    ResponseCodec,
    Trailers,
    Upgraded,
)
from gateway.upstream.connections.http1.fields import MAX_HEAD
from tests.flow.corpus_responses import CASES

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def plain(event: Any) -> Any:
    return (event.status, event.headers, event.length) if isinstance(event, Reply) else event


def events(*pieces: bytes, head_only: bool = False, upgrade: bool = False) -> list[Any]:
    codec = ResponseCodec()
    codec.head_only, codec.upgrade = head_only, upgrade
    return [plain(event) for piece in pieces for event in codec.feed(piece)]


@pytest.mark.parametrize(
    ("description", "pieces", "expected"),
    [
        ("all at once", (OK + b"ok",), [(200, [], 2), b"ok", End(True)]),
        ("in pieces", (OK[:9], OK[9:], b"o", b"k"), [(200, [], 2), b"o", b"k", End(True)]),
        ("chunks", (CHUNKED + b"2\r\nok\r\n", b"0\r\n\r\n"), [(200, [], None), b"ok", End(True)]),
        (
            "trailers",
            (CHUNKED + b"0\r\nX-Sum: 1\r\n\r\n",),
            [(200, [], None), Trailers(((b"X-Sum", b"1"),)), End(True)],
        ),
        (
            "interim answers, one of them unknown",
            (
                b"HTTP/1.1 103 E\r\nLink: </a>\r\nKeep-Alive: 5\r\n\r\nHTTP/1.1 199 X\r\n\r\n"
                + OK
                + b"ok",
            ),
            [Interim(103, [(b"Link", b"</a>")]), Interim(199, []), (200, [], 2), b"ok", End(True)],
        ),
        ("something behind it", (OK + b"ok!",), [(200, [], 2), b"ok", End(False)]),
        (
            "the connection's end",
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",),
            [(200, [], None), b"ok"],
        ),
        ("no HTTP", (b"ICY 200 OK\r\n\r\n",), [Reset("sent something else than HTTP")]),
        ("a body, then no body", (CHUNKED + b"2\r\nok\r\n", b"x"), [(200, [], None), b"ok"]),
    ],
)
def test_what_bytes_mean(description: str, pieces: tuple[bytes, ...], expected: list[Any]) -> None:
    found = events(*pieces)
    assert found[: len(expected)] == expected
    assert all(isinstance(event, Reset) for event in found[len(expected) :])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HTTP/1.1 600 X\r\n\r\n", "the status 600"),
        (b"HTTP/1.1 099 X\r\n\r\n", "the status 099"),
        (
            b"HTTP/1.1 101 S\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
            "a 101 that was not asked for",
        ),
        (b"HTTP/1.1 103 E\r\nContent-Length: 1\r\n\r\n", "an interim 103 with a body's length"),
        (
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 with Transfer-Encoding",
        ),
        (OK.replace(b": 2", b": 99999999999999999999"), "Content-Length"),
    ],
)
def test_why_an_answer_is_invalid(data: bytes, why: str) -> None:
    (reset,) = events(data)
    assert isinstance(reset, Reset)
    assert why in reset.why or "invalid" in reset.why


def test_an_upgrade_ends_http() -> None:
    (found,) = events(
        b"HTTP/1.1 101 S\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\nrest", upgrade=True
    )
    assert found == Upgraded([(b"Upgrade", b"a"), (b"Connection", b"upgrade")], b"rest")


def test_a_head_has_no_body_and_the_next_answer_is_read() -> None:
    codec = ResponseCodec()
    codec.head_only = True
    assert [plain(event) for event in codec.feed(OK)] == [(200, [], 2), End(True)]
    assert not codec.begun
    codec.head_only = False
    assert [plain(event) for event in codec.feed(OK + b"ok")] == [(200, [], 2), b"ok", End(True)]
    assert repr(codec) == "<ResponseCodec head, 2 answers>"


def test_only_a_body_without_framing_ends_with_its_connection() -> None:
    codec = ResponseCodec()
    codec.head_only = False
    assert codec.eof() == []
    codec.feed(b"HTTP/1.1 200 OK\r\n\r\nok")
    assert codec.eof() == [End(False)]
    codec = ResponseCodec()
    codec.feed(OK)
    assert codec.eof() == []


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\n", CHUNKED + b"2;", CHUNKED + b"0\r\n"])
def test_what_never_ends_is_bounded(start: bytes) -> None:
    codec = ResponseCodec()
    codec.head_only = False
    found = codec.feed(start)
    for _ in range(MAX_HEAD // 1000 + 2):
        found += codec.feed(b"x" * 1000)
        if any(isinstance(event, Reset) for event in found):
            return
    pytest.fail("never")


@given(
    st.sampled_from([case for case in CASES if case.answer and len(case.answer) < 2000]), st.data()
)
def test_pieces_do_not_matter(case: Any, data: Any) -> None:
    """The events of an answer are those of its pieces, bodies joined, up to what is wrong with
    it."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(case.answer)), max_size=4)))
    pieces = [
        case.answer[a:b]
        for a, b in zip([0, *cuts], [*cuts, len(case.answer)], strict=True)
        if a < b
    ]
    head_only = case.method == "HEAD"

    def joined(found: list[Any]) -> list[Any]:
        parts: list[Any] = []
        for event in found:
            if isinstance(event, Reset | End):
                return [*parts, type(event)]
            if isinstance(event, bytes) and parts and isinstance(parts[-1], bytes):
                parts[-1] += event
            else:
                parts.append(event)
        return parts

    whole, cut = (
        joined(events(case.answer, head_only=head_only)),
        joined(events(*pieces, head_only=head_only)),
    )
    if Reset in whole:
        assert Reset in cut or cut == whole[: len(cut)]
    else:
        assert cut == whole


@pytest.mark.parametrize(
    ("status", "blocks"),
    [
        (
            b"426 Upgrade Required",
            [b"Upgrade: TLS/1.3\r\n", b"Upgrade: h2c\r\n", b"Connection: Upgrade\r\n"],
        ),
        (b"200 OK", []),
    ],
)
def test_what_a_client_has_to_upgrade_to_goes_on_with_426(
    status: bytes, blocks: list[bytes]
) -> None:
    codec = ResponseCodec()
    upgrade = b"Upgrade: TLS/1.3\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
    reply, _ = codec.feed(b"HTTP/1.1 " + status + b"\r\n" + upgrade + b"Content-Length: 0\r\n\r\n")
    assert isinstance(reply, Reply)
    assert (reply.headers, reply.blocks) == ([], blocks)


@pytest.mark.parametrize("head", [b"Content-Length: 300000\r\n", b""])
def test_a_body_without_chunks_is_passed_on_without_a_copy(head: bytes) -> None:
    codec = ResponseCodec()
    codec.feed(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    piece = b"x" * 100_000
    for _ in range(2):
        (event,) = codec.feed(piece)
        assert event is piece
    last = codec.feed(piece) if head else codec.feed(piece) + codec.eof()
    assert last[0] is piece
    assert last[1:] == [End(bool(head))]
    if head:
        assert not codec.begun
        assert [plain(event) for event in codec.feed(OK + b"ok")] == [
            (200, [], 2),
            b"ok",
            End(True),
        ]


def test_what_comes_behind_a_body_without_chunks_is_none_of_it() -> None:
    codec = ResponseCodec()
    codec.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert codec.feed(b"helloHTTP/1.1 200 OK") == [b"hello", End(False)]
