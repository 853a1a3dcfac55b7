"""gateway/protocols/http2/frames.py: the heads of frames, however they arrive."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.http2.frames import (
    CONTINUATION,
    DATA,
    HEADERS,
    KEPT,
    PADDED,
    PRIORITY,
    PROTOCOL_ERROR,
    RST_STREAM,
    STREAM_CLOSED,
    FrameHeads,
)

PING = 6


def frame(kind: int, stream: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


END = 1
WHOLE = 4
GET = frame(HEADERS, 1, b"x", WHOLE | END)
POST = frame(HEADERS, 1, b"x", WHOLE)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (POST + frame(DATA, 1, b"ab") + frame(DATA, 1, b"", END), 0),
        (POST + frame(HEADERS, 1, b"x", WHOLE | END), 0),  # trailers
        (GET + frame(DATA, 1, b"a"), STREAM_CLOSED),
        (GET + frame(HEADERS, 1, b"a", WHOLE), STREAM_CLOSED),
        (POST + frame(DATA, 1, b"", END) + frame(DATA, 1, b"", END), STREAM_CLOSED),
        (POST + frame(RST_STREAM, 1, bytes(4)) + frame(HEADERS, 1, b"x"), STREAM_CLOSED),
        (POST + frame(RST_STREAM, 1, bytes(4)) + frame(DATA, 1, b"x"), STREAM_CLOSED),
        (GET + frame(RST_STREAM, 1, bytes(4)) + frame(RST_STREAM, 1, bytes(4)), 0),
        (frame(HEADERS, 5, b"x", WHOLE) + frame(HEADERS, 3, b"x", WHOLE), PROTOCOL_ERROR),
        (frame(PRIORITY, 0, bytes(5)), PROTOCOL_ERROR),
        (frame(PRIORITY, 7, b"\x80\0\0\x07\0"), PROTOCOL_ERROR),
        (frame(PRIORITY, 7, b"\0\0\0\x05\0"), 0),
    ],
)
def test_the_states_of_streams(data: bytes, code: int) -> None:
    heads = FrameHeads(0)
    found, sound = heads.feed(data)
    assert found == code
    assert code or sound == len(data)


def test_what_comes_before_the_error_is_sound() -> None:
    assert FrameHeads(0).feed(GET + frame(DATA, 1, b"a")) == (STREAM_CLOSED, len(GET))
    heads = FrameHeads(0)
    assert heads.feed(GET + frame(DATA, 1, b"a")[:4]) == (0, len(GET) + 4)
    assert heads.feed(frame(DATA, 1, b"a")[4:]) == (STREAM_CLOSED, 0)


def test_a_number_that_was_skipped_long_ago_may_be_anything() -> None:
    """Only so many streams are remembered; for others libnghttp2 has the last word."""
    heads = FrameHeads(0)
    for number in range(101, 101 + 6 * KEPT, 2):
        assert heads.feed(frame(HEADERS, number, b"x", WHOLE | END)) == (0, 10)
    assert heads.feed(frame(HEADERS, 99, b"x", WHOLE)) == (0, 10)
    assert heads.feed(frame(HEADERS, number, b"x", WHOLE))[0] == STREAM_CLOSED


def test_streams_that_are_never_ended_are_forgotten_too() -> None:
    heads = FrameHeads(0)
    for number in range(1, 4 * KEPT, 2):
        heads.feed(frame(HEADERS, number, b"x", WHOLE))
    assert len(heads._open) == KEPT
    assert heads.feed(frame(HEADERS, 1, b"x", WHOLE | END)) == (0, 10)  # Its trailers, it may be.
    assert heads.feed(frame(HEADERS, number - 1, b"x", WHOLE))[0] == PROTOCOL_ERROR


def test_a_head_is_under_way_until_its_last_frame() -> None:
    heads = FrameHeads(0)
    heads.feed(frame(HEADERS, 1, b"x"))
    assert heads.in_head
    heads.feed(frame(CONTINUATION, 1, b"x"))
    assert heads.in_head
    heads.feed(frame(CONTINUATION, 1, b"x", WHOLE))
    assert not heads.in_head


def test_frames_that_bring_no_work_are_counted() -> None:
    heads = FrameHeads(0)
    heads.feed(POST + frame(DATA, 1, b"ab") + frame(DATA, 1) + frame(PING, 0, bytes(8)))
    heads.feed(frame(200, 3) + frame(DATA, 1, b"", END) + frame(RST_STREAM, 1, bytes(4)))
    # HEADERS, the empty DATA, PING, one that nobody knows, and RST_STREAM.
    assert heads.workless == 5
    heads.feed(frame(DATA, 3, b"\x00", PADDED) + frame(DATA, 3, b"\x02\0\0", PADDED))
    heads.feed(frame(DATA, 3, b"\x01a\0", PADDED) + frame(DATA, 3, b"\x00a"))
    assert heads.workless == 7


@given(st.lists(st.integers(1, 40), max_size=40))
def test_it_does_not_matter_how_bytes_arrive(sizes: list[int]) -> None:
    data = bytes(24) + b"".join(
        frame(HEADERS, number, bytes(number * 7), WHOLE) + frame(DATA, number, bytes(5), END)
        for number in (1, 3, 5, 7)
    )
    bad = frame(DATA, 3, b"x")
    heads, at = FrameHeads(24), 0
    for size in sizes:
        piece = data[at : at + size]
        assert heads.feed(piece) == (0, len(piece))
        at += len(piece)
    assert heads.feed(data[at:] + bad) == (STREAM_CLOSED, len(data) - at)
    assert heads.workless == 4
