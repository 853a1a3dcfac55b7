"""The PROXY protocol by its specification: what is taken, byte by byte, and what is not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.serving.net.proxy_protocol import BINARY_MAX, SIGNATURE, Malformed, extent, source


def binary(
    command: int = 1,
    family: int = 0x11,
    addresses: bytes = b"",
    tlvs: bytes = b"",
    version: int = 2,
    size: int | None = None,
) -> bytes:
    rest = addresses + tlvs
    length = (len(rest) if size is None else size).to_bytes(2, "big")
    return SIGNATURE + bytes((version << 4 | command, family)) + length + rest


V4 = IPv4Address("192.0.2.7").packed + IPv4Address("10.0.0.1").packed + b"\x30\x39\x01\xbb"
V6 = IPv6Address("2001:db8::7").packed + IPv6Address("::1").packed + b"\x30\x39\x01\xbb"
MAPPED = IPv6Address("::ffff:192.0.2.7").packed + IPv6Address("::1").packed + b"\0\0\0\0"

GOOD = [
    (b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n", "192.0.2.7"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP6 2001:db8::7 ::1 0 443\r\n", "2001:db8::7"),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 0 443\r\n", "192.0.2.7"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (binary(addresses=V4), "192.0.2.7"),
    (binary(addresses=V4, family=0x12), "192.0.2.7"),
    (binary(addresses=V4, tlvs=b"\x02\x00\x03a.b"), "192.0.2.7"),
    (binary(addresses=V6, family=0x21), "2001:db8::7"),
    (binary(addresses=MAPPED, family=0x21), "192.0.2.7"),
    (binary(command=0, family=0), None),
    (binary(command=0, addresses=V4), None),
    (binary(family=0, tlvs=b"\x04\x00\x00"), None),
    (binary(family=0x31, addresses=bytes(216)), None),
]

BAD = [
    b"GET / HTTP/1.1\r\n",
    b"PROXX TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
    b"PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n",
    b"PROXY TCP4 192.0.2.300 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 ::1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.\xb2 1 2\r\n",
    b"proxy tcp4 192.0.2.7 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2" + b" " * 107,
    b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n" + b" " * 107,
    binary(version=1, addresses=V4),
    binary(version=3, addresses=V4),
    binary(command=2, addresses=V4),
    binary(addresses=V4[:-1]),
    binary(addresses=V4, family=0x21),
    binary(addresses=V6, family=0x41),
    binary(addresses=V4, family=0x13),
    binary(size=BINARY_MAX - 15),
    b"\r\n\r\n\x00\r\nQUIT\r",
    b"",
]


@pytest.mark.parametrize(("preamble", "expected"), GOOD)
def test_what_is_taken(preamble: bytes, expected: str | None):
    for rest in (b"", b"GET / HTTP/1.1\r\n\r\n", preamble):
        assert extent(preamble + rest) == len(preamble)
    for cut in range(1, len(preamble)):
        assert extent(preamble[:cut]) in (None, len(preamble))
    assert source(preamble) == expected


@pytest.mark.parametrize("data", BAD)
def test_what_is_refused(data: bytes):
    with pytest.raises(Malformed):
        size = extent(data)
        assert size is None or size <= len(data)
        if size is None:
            raise Malformed("never ends")
        source(data[:size])


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=60).map(lambda rest: SIGNATURE + rest),
        st.text(max_size=90).map(lambda rest: b"PROXY " + rest.encode()),
    )
)
def test_any_bytes_are_taken_or_refused(data: bytes):
    try:
        size = extent(data)
        if size is not None and size <= len(data):
            found = source(data[:size])
            assert (
                found is None or IPv6Address(found)
                if ":" in str(found)
                else found is None or IPv4Address(found)
            )
    except Malformed:
        pass
