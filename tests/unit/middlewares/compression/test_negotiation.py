"""Which coding a client gets, by its Accept-Encoding (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.middlewares.compression.negotiation import preferred
from tests.unit.middlewares.compression.test_compression import ALL


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, br", "br"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.5, br;q=0.9, gzip;q=0.9", "br"),
        ("gzip;q=1.0, br;q=0.8", "gzip"),
        ("gzip ; q=0.001", "gzip"),
        ("*", "zstd"),
        ("*;q=0.1", "zstd"),
        ("*, zstd;q=0", "br"),
        ("zstd;q=0, *;q=0.5, gzip;q=0.7", "gzip"),
        ("*;q=0", None),
        ("*;q=0, gzip", "gzip"),
        ("", None),
        (",,", None),
        ("deflate", None),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0", None),
        ("gzip;q=0", None),
        ("gzip;q=0.0000", None),
        ("gzip;q=2", None),
        ("gzip;q=", None),
        ("gzip;level=9", None),
        ("gzip;q=0, br", "br"),
    ],
)
def test_negotiation(accept: str, expected: str | None):
    assert preferred(accept, ("zstd", "br", "gzip")) == expected


def test_the_servers_preference_decides_among_equals():
    assert preferred(ALL, ("gzip", "br", "zstd")) == "gzip"
    assert preferred(ALL, ()) is None


@settings(max_examples=100)
@given(st.text(st.sampled_from("gzipbrstd*identy,;q=0.15 x-"), max_size=40))
def test_any_field_value_can_be_read(accept: str):
    assert preferred(accept, ("zstd", "br", "gzip")) in ("zstd", "br", "gzip", None)
