"""Codings: every byte survives, at every level, and small bodies are coded once."""

from __future__ import annotations

import asyncio
import gzip
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.exchange import Reply
from gateway.middlewares.compression.codings import (
    REMEMBERED,
    REMEMBERED_SIZE,
    EncodedStream,
    Once,
    codings,
)
from tests.exchange import Stream, whole_body
from tests.unit.middlewares.compression.test_compression import DECODE, TEXT, answered, asks


@pytest.mark.parametrize("coding", list(DECODE))
@settings(max_examples=25, deadline=None)
@given(chunks=st.lists(st.binary(min_size=1, max_size=3000), max_size=6), flush=st.booleans())
def test_every_byte_survives(coding: bytes, chunks: list[bytes], flush: bool):
    found = codings(1, 4, 3)[coding.decode()]

    async def run() -> bytes:
        stream = EncodedStream(Stream(*chunks), found.encoder(), flush=flush)
        return await whole_body(Reply(200, (), stream))

    whole = b"".join(chunks)
    assert DECODE[coding](asyncio.run(run())) == whole
    assert DECODE[coding](found.once(whole)) == whole


@pytest.mark.parametrize("level", [1, 3])
async def test_levels(level: int):
    for coding in DECODE:
        reply = answered(
            asks(coding.decode()), gzip_level=level, br_quality=level, zstd_level=level
        )
        assert isinstance(reply.body, bytes)
        assert DECODE[coding](reply.body) == TEXT


def test_levels_matter():
    body = bytes(random.Random(1).choices(b"abcdefgh", k=4000))
    for key, coding, low, high in (
        ("gzip_level", "gzip", 0, 3),
        ("br_quality", "br", 0, 5),
        ("zstd_level", "zstd", 1, 9),
    ):
        sizes = [
            answered(asks(coding), body=body * 2, **{key: level}).length for level in (low, high)
        ]
        assert sizes[0] != sizes[1], key


def test_the_last_small_bodies_are_coded_once():
    coded: list[bytes] = []

    def code(body: bytes) -> bytes:
        coded.append(body)
        return body[::-1]

    once = Once(code)
    assert [once(b"ab"), once(b"ab"), once(b"cd")] == [b"ba", b"ba", b"dc"]
    assert [once(b"ab"), once(b"cd"), once(b"")] == [b"ba", b"dc", b""]
    assert coded == [b"ab", b"cd", b""]
    assert Once(gzip.compress)(b"") != b""
    large = b"x" * (REMEMBERED_SIZE + 1)
    assert once(large) == once(large)
    assert coded[3:] == [large, large], "large ones are not kept"
    for number in range(REMEMBERED):
        once(b"%d" % number)
    assert len(once._known) == REMEMBERED
    once(b"ab")
    assert coded[-1] == b"ab", "the oldest is forgotten"
