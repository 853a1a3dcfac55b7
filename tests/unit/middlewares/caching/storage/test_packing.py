"""Entries as bytes: they come back as they were, and anything else is refused."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.middlewares.caching.entries import Entry, indexed
from gateway.middlewares.caching.storage.packing import pack, unpack

octets = st.binary(max_size=30)
entries = st.builds(
    Entry,
    uri=st.just("http://a/x"),
    scope=st.just("r"),
    vary=st.just(("a",)),
    key=st.just(("1",)),
    status=st.integers(200, 599),
    reason=octets,
    headers=st.lists(st.tuples(octets, octets), max_size=5).map(tuple),
    fields=st.just({}),
    lines=st.just(b""),
    body=st.binary(max_size=200),
    born=st.integers(0, 10**9).map(lambda ms: ms / 1000),
    lifetime=st.integers(0, 10**9).map(lambda ms: ms / 1000),
    date=st.integers(0, 2**40),
    no_cache=st.booleans(),
    strict=st.booleans(),
    stale_if_error=st.none() | st.integers(0, 2**31),
    stale_while_revalidate=st.none() | st.integers(0, 2**31),
    etag=st.none() | octets,
    last_modified=st.none() | octets,
    tags=st.lists(st.integers(0, 65535), max_size=3).map(tuple),
    start=st.integers(0, 2**60 - 1),
    total=st.integers(0, 2**60 - 1),
)
KEY = {"uri": "http://a/x", "scope": "r", "vary": ("a",), "key": ("1",)}


@given(entries, st.integers(0, 2**60))
def test_an_entry_comes_back_as_it_was(entry: Entry, stamp: int):
    lines = b"".join(b"%b: %b\r\n" % pair for pair in entry.headers)
    entry = entry._replace(fields=indexed(entry.headers), lines=lines)
    assert unpack(pack(entry, stamp), **KEY) == (entry, stamp)


def test_a_common_answer_takes_few_bytes():
    headers = (
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"max-age=3600"),
        (b"ETag", b'"0123456789abcdef"'),
        (b"Date", b"Mon, 30 Nov 2026 18:43:11 GMT"),
    )
    entry = Entry(
        **KEY, status=200, reason=b"OK", headers=headers, fields={}, lines=b"", body=b"",
        born=123456.75, lifetime=3600, date=1780000000,
    )  # fmt: skip
    assert len(pack(entry, 1)) < 110


@given(st.binary(max_size=100))
def test_other_bytes_are_refused(packed: bytes):
    with pytest.raises(ValueError, match=r".*"):
        unpack(packed, **KEY)


@pytest.mark.parametrize("text", [b"[]", b"{}", b"[2, 3]", b"[1, 2, [], 1]", b"1", b"[1, 2, 3, 4]"])
def test_json_of_another_kind_is_refused(text: bytes):
    packer = zlib.compressobj(wbits=-12)
    head = packer.compress(text) + packer.flush()
    with pytest.raises(ValueError, match=r".*"):
        unpack(len(head).to_bytes(4, "little") + head, **KEY)
