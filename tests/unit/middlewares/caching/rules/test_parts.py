"""Ranges of bytes against the bytes themselves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.middlewares.caching.rules.directives import http_date
from gateway.middlewares.caching.rules.parts import (
    Range,
    Span,
    content_range,
    is_heeded,
    joined,
    range_of,
    span_of,
)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"bytes=0-4", Range(0, 4)),
        (b"Bytes= 5-5 ", Range(5, 5)),
        (b"bytes=5-", Range(5, None)),
        (b"bytes=-5", Range(None, 5)),
        (b"bytes=-", None),
        (b"bytes=5-4", None),
        (b"bytes=0-1,3-4", None),
        (b"bytes=", None),
        (b"bytes=a-b", None),
        (b"bytes=0-4x", None),
        (b"bytes=-0", Range(None, 0)),
        (b"items=0-4", None),
        (b"bytes=" + b"1" * 30 + b"-", None),
        (b"bytes=\xd9\xa3-", None),
    ],
)
def test_what_a_range_asks_for(field: bytes, expected: Range | None):
    """RFC 9110 section 14.1.2."""
    assert range_of(field) == expected


@given(
    st.binary(max_size=20),
    st.one_of(
        st.tuples(st.integers(0, 25), st.integers(0, 25)).map(sorted).map(tuple),
        st.tuples(st.integers(0, 25), st.none()),
        st.tuples(st.none(), st.integers(0, 25)),
    ),
)
@settings(max_examples=200)
def test_which_bytes_those_are(body: bytes, asked):
    first, last = asked
    if first is None:
        wanted = body[-last:] if last else b""
    else:
        wanted = body[first:] if last is None else body[first : last + 1]
    span = span_of(Range(first, last), len(body))
    assert (b"" if span is None else body[span.start : span.stop]) == wanted
    assert (span is None) == (wanted == b"")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"bytes 0-4/10", (Span(0, 5), 10)),
        (b"bytes 9-9/10", (Span(9, 10), 10)),
        (b"bytes 0-4/*", None),
        (b"bytes */10", None),
        (b"bytes 5-4/10", None),
        (b"bytes 5-10/10", None),
        (b"bytes=0-4/10", None),
        (b"items 0-4/10", None),
        (b"", None),
        (None, None),
    ],
)
def test_what_a_content_range_says(field: bytes | None, expected: tuple[Span, int] | None):
    """RFC 9110 section 14.4."""
    assert content_range(field) == expected


THEN, LATER = http_date(1000), http_date(2000)


@pytest.mark.parametrize(
    ("why", "if_range", "etag", "modified", "date", "expected"),
    [
        ("no condition", None, None, None, 0, True),
        ("the tag", b'"1"', b'"1"', None, 0, True),
        ("another tag", b'"2"', b'"1"', None, 0, False),
        ("a weak tag", b'W/"1"', b'W/"1"', None, 0, False),
        ("a weak tag stored", b'"1"', b'W/"1"', None, 0, False),
        ("no tag stored", b'"1"', None, THEN, 2000, False),
        ("the date", THEN, b'"1"', THEN, 1060, True),
        ("the date, in another form", b"Thu Jan  1 00:16:40 1970", None, THEN, 1060, True),
        ("too near to be strong", THEN, None, THEN, 1059, False),
        ("a later date", LATER, None, THEN, 9999, False),
        ("no date stored", THEN, None, None, 9999, False),
        ("rubbish", b"yes", b'"1"', THEN, 9999, False),
    ],
)
def test_when_a_part_is_enough(why, if_range, etag, modified, date, expected):
    """RFC 9110 section 13.1.5."""
    assert is_heeded(if_range, etag, modified, date) is expected


@given(st.binary(min_size=1, max_size=20), st.data())
@settings(max_examples=200)
def test_parts_are_put_together(body: bytes, data):
    """RFC 9111 section 3.4; never over a gap."""
    cuts = st.integers(0, len(body))
    old = Span(*sorted(data.draw(st.tuples(cuts, cuts))))
    new = Span(*sorted(data.draw(st.tuples(cuts, cuts))))
    found = joined(body[old.start : old.stop], old.start, body[new.start : new.stop], new.start)
    if max(old.start, new.start) > min(old.stop, new.stop):
        assert found is None
    else:
        start = min(old.start, new.start)
        assert found == (start, body[start : max(old.stop, new.stop)])
