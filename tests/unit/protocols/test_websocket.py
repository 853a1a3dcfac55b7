from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.websocket import Frames, accept, close_frame, fault
from tests.websocket import CLOSE, KEY, frame, masked

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_the_example_of_the_rfc():
    assert accept(KEY.encode()) == ACCEPT


@pytest.mark.parametrize(
    ("pairs", "word"),
    [
        (
            [
                (b"Upgrade", b"websocket"),
                (b"Connection", b"Upgrade"),
                (b"Sec-WebSocket-Accept", ACCEPT),
            ],
            None,
        ),
        (
            [
                (b"UPGRADE", b"WebSocket"),
                (b"connection", b"keep-alive, uPgrade"),
                (b"sec-websocket-accept", ACCEPT + b" "),
            ],
            None,
        ),
        (
            [(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Accept", ACCEPT)],
            "Upgrade",
        ),
        (
            [
                (b"Upgrade", b"websocket"),
                (b"Connection", b"close"),
                (b"Sec-WebSocket-Accept", ACCEPT),
            ],
            "Connection",
        ),
        (
            [
                (b"Upgrade", b"websocket"),
                (b"Connection", b"Upgrade"),
                (b"Sec-WebSocket-Accept", ACCEPT.lower()),
            ],
            "Accept",
        ),
        ([(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")], "Accept"),
    ],
)
def test_what_is_wrong_with_a_101(pairs, word):
    wrong = fault(pairs, ACCEPT)
    assert wrong is None if word is None else wrong is not None and word in wrong


def test_close_frames():
    assert close_frame(1001, masked=False) == b"\x88\x02\x03\xe9"
    one, two = close_frame(1001, masked=True), close_frame(1001, masked=True)
    assert one[:2] == two[:2] == b"\x88\x82"
    assert masked(one[6:], one[2:6]) == masked(two[6:], two[2:6]) == b"\x03\xe9"
    assert len(one) == 8


frames = st.builds(
    lambda size, opcode, fin, reserved, mask: frame(
        b"\x88" * size, opcode, fin=fin, reserved=reserved, mask=mask
    ),
    st.sampled_from((0, 1, 2, 125, 126, 127, 300, 65535, 65536)),
    st.integers(0, 15).filter(lambda opcode: opcode != CLOSE),
    st.booleans(),
    st.integers(0, 7),
    st.sampled_from((b"", b"\x88\x02\x03\xe9")),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(frames, max_size=6), st.data())
def test_boundaries_are_found_however_the_bytes_are_cut(sent, data):
    whole = b"".join(sent) + close_frame(1000, masked=False)
    boundaries = {0, *accumulate(len(one) for one in sent), len(whole)}
    # Around boundaries is where it matters.
    near = sorted({min(max(at + by, 0), len(whole)) for at in boundaries for by in range(-3, 15)})
    cuts = sorted(data.draw(st.sets(st.sampled_from(near))) | {len(whole)})
    followed, at = Frames(), 0
    for cut in cuts:
        followed.feed(whole[at:cut])
        at = cut
        assert followed.at_boundary is (cut in boundaries)
        assert followed.closed is (cut >= len(whole) - 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_a_frame_is_followed_to_its_end_and_no_further(sent, data):
    whole = b"".join(sent)
    boundaries = sorted(accumulate(len(one) for one in sent))
    at = data.draw(
        st.sampled_from(
            sorted({min(place, len(whole) - 1) for place in (0, 1, 2, 3, 7, 9, 13, 14, 100, 65540)})
        )
    )
    followed = Frames()
    followed.feed(whole[:at])
    end = next(boundary for boundary in boundaries if boundary > at)
    while at < end:
        size = data.draw(st.integers(1, len(whole) - at))
        took = followed.feed_frame(whole[at : at + size])
        assert took == min(size, end - at)
        at += took
        assert followed.at_boundary is (at == end)


def test_a_length_without_end_is_only_a_number():
    followed = Frames()
    followed.feed(b"\x82\x7f" + b"\xff" * 8 + b"x" * 1000)
    assert not followed.at_boundary
